"""Twisted's global reactor, while it is that of the host whose code runs.

Much code uses ``twisted.internet.reactor``, and some of it keeps the object that it has imported. So :func:`install`
changes the class of that object: in the code of a host, it passes everything on to the reactor of the host. Elsewhere,
and in other threads, it stays what it was. Only a method that was kept before, such as ``listen = reactor.listenTCP``,
is still that of the real reactor; so :func:`install` comes before such imports.

Twisted's global Cooperator, which sends the bodies of HTTP requests, for example, becomes one for each host. It makes
one step at a time, instead of as many as fit into 10 ms of real time. A pool of HTTP connections on the global reactor,
such as treq's, has other connections on each host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet import task

from netsvc.testing.not_simulated import NotSimulatedError
from netsvc.testing.running_host import running_reactor

#: Methods of the real reactor that a test on the simulated network may not call: they need the real system.
REFUSED = frozenset(
    (
        *("listenTCP", "listenSSL", "listenUDP", "listenMulticast", "listenUNIX", "listenUNIXDatagram"),
        *("connectTCP", "connectSSL", "connectUNIX", "connectUNIXDatagram"),
        *("adoptStreamPort", "adoptStreamConnection", "adoptDatagramPort"),
        *("callInThread", "getThreadPool", "spawnProcess", "resolve"),
    )
)

#: Methods that code may keep, such as ``listen = reactor.listenTCP``, and call later on a host.
_KEPT = REFUSED | {"callLater", "callFromThread", "callWhenRunning", "seconds"}

#: Attributes that are always those of the real reactor, except what it provides: zope.interface asks for that.
_PROVIDED = frozenset(("__provides__", "__providedBy__"))

#: The texts of the refusals during the current test.
refusals: list[str] = []

_simulations = 0  # that run now, one within another


def install() -> None:
    """Let Twisted's global reactor be that of the host whose code runs.

    If no reactor is installed yet, the default one is. Further calls do nothing.
    """
    from twisted.internet import reactor  # noqa: TID251  the global reactor is what this is about

    real: Any = reactor
    if not _redirects(real):
        real.__class__ = _redirecting(type(real))
        task._theCooperator = _HostCooperator(task._theCooperator)  # type: ignore[assignment]
        from twisted.web.client import HTTPConnectionPool  # which imports much

        pool: Any = HTTPConnectionPool
        pool._connections = _DictOfTheHost("_connections")
        pool._timeouts = _DictOfTheHost("_timeouts")


def is_installed() -> bool:
    """Return whether :func:`install` was called."""
    return isinstance(task._theCooperator, _HostCooperator)


@contextmanager
def simulation() -> Iterator[None]:
    """A block that must open no real socket and start no thread. It refuses both, also outside of the code of a host.

    :raises NotSimulatedError: at the end, if something was refused, although the program may have handled that.
    """
    global _simulations  # noqa: PLW0603  the global reactor is global
    refusals.clear()
    _simulations += 1
    try:
        yield
    finally:
        _simulations -= 1
    if refusals:
        raise NotSimulatedError(refusals[0])


def _redirects(reactor: Any) -> bool:
    """Return whether this is the global reactor, with its class changed."""
    return hasattr(type(reactor), "netsvc_real_class")


def _redirecting(real_class: Any) -> Any:
    class RedirectingReactor(real_class):  # type: ignore[misc]
        """Passes everything on to the reactor of the host whose code runs."""

        netsvc_real_class = real_class

        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("__") or name in _PROVIDED:
                host = running_reactor()
                if host is not None:
                    return getattr(host, name)
                if _simulations and name == "nameResolver":
                    _refuse(name)
            attribute = super().__getattribute__(name)
            return _KeptMethod(name, attribute) if name in _KEPT else attribute

    RedirectingReactor.__name__ = real_class.__name__
    RedirectingReactor.__qualname__ = real_class.__qualname__
    RedirectingReactor.__module__ = real_class.__module__
    return RedirectingReactor


class _KeptMethod:
    """A method of the global reactor that was looked up outside of the code of a host, and may be called on one.

    It is not a ``functools.partial``: some code keeps it as an attribute of a class, where a partial will be a method.
    """

    def __init__(self, name: str, real_method: Callable[..., Any]) -> None:
        self._name = name
        self._real_method = real_method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        host = running_reactor()
        if host is not None:
            return getattr(host, self._name)(*args, **kwargs)
        if _simulations and self._name in REFUSED:
            _refuse(self._name)
        return self._real_method(*args, **kwargs)


def _refuse(name: str) -> None:
    text = (
        f"reactor.{name} was used outside of the code of a host, in a test on the simulated network; "
        "use it in a block 'with host:', or call host.run(function)"
    )
    refusals.append(text)
    raise NotSimulatedError(text)


class _HostCooperator:
    """Stands for Twisted's global Cooperator: that of the host whose code runs, or Twisted's own."""

    def __init__(self, real: task.Cooperator) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        host = running_reactor()
        return getattr(self._real if host is None else host.cooperator, name)


class _DictOfTheHost:
    """An attribute of a pool that a program keeps beyond a network: a dict, another one on each host.

    A pool with a reactor of its own has one dict.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, pool: Any, owner: type) -> dict[Any, Any]:
        values: dict[Any, Any] = self._attributes(pool).setdefault(self._name, {})
        return values

    def __set__(self, pool: Any, values: dict[Any, Any]) -> None:
        self._attributes(pool)[self._name] = values

    def _attributes(self, pool: Any) -> dict[str, Any]:
        host = running_reactor()
        if host is None or not _redirects(pool._reactor):
            attributes: dict[str, Any] = vars(pool)
        else:
            attributes = host.pools.setdefault(pool, {})
        return attributes
