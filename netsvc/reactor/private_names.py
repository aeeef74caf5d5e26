"""The private names of Twisted and pyOpenSSL that the reactors use, and a check that they exist.

EPollReactor has no public interface for a subclass. Each name is stated here with its use; a test finds any other. No
private name of asyncio or uvloop is used.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from netsvc.errors import NetsvcError

#: Names, their class, and what they are used for.
PRIVATE_NAMES = (
    # Descriptors and events: what Twisted's EPollReactor keeps, used to dispatch events with less work.
    ("twisted.internet.epollreactor.EPollReactor", "_poller _reads _writes _selectables"),
    ("twisted.internet.epollreactor.EPollReactor", "_doReadOrWrite _disconnectSelectable"),
    # Timers, which are measured by another clock.
    ("twisted.internet.base.ReactorBase", "_pendingTimedCalls _newTimedCalls _insertNewDelayedCalls _cancellations"),
    ("twisted.internet.base.ReactorBase", "_cancelCallLater _moveCallLaterSooner _justStopped"),
    # The main loop, signals, and descriptors that do not count as left open.
    ("twisted.internet.base.ReactorBase", "_started _signalsFactory _addInternalReader _removeInternalReader"),
    # The event loop, where programs that use asyncio look for it.
    ("twisted.internet.asyncioreactor.AsyncioSelectorReactor", "_asyncioEventloop"),
    # The send buffer of a connection, and how it is read and closed.
    ("twisted.internet.abstract.FileDescriptor", "_tempDataBuffer _tempDataLen _writeDisconnecting _writeDisconnected"),
    ("twisted.internet.tcp.Connection", "_aborting _closeSocket _dataReceived"),
    # Ports and connections of classes of our own.
    ("twisted.internet.tcp.Port", "_fromListeningDescriptor _buildAddr"),
    ("twisted.internet.tcp.Server", "_fromConnectedSocket"),
    ("twisted.internet.tcp.Connector", "_makeTransport"),
    ("twisted.internet.udp.Port", "_fromListeningDescriptor _connectedAddr"),
)


#: Those that TLS needs. If one is missing, the reactors use Twisted's own TLS.
TLS_NAMES = (
    ("twisted.internet.endpoints._WrappingFactory", "_wrappedFactory"),
    ("twisted.protocols.tls.TLSMemoryBIOProtocol", "_tlsConnection _appSendBuffer _handshakeDone _lostTLSConnection"),
    ("twisted.protocols.tls.TLSMemoryBIOProtocol", "_aborted _flushReceiveBIO _flushSendBIO"),
    ("twisted.protocols.tls.BufferingTLSTransport", "_aggregator"),
    # What OpenSSL's functions are called with.
    ("OpenSSL.SSL.Connection", "_ssl _into_ssl _from_ssl"),
)


class ReactorUnavailableError(NetsvcError, ImportError):
    """The reactors cannot be used here. The text is one line, for the user."""


@cache
def check() -> None:
    """Check that the system and Twisted have what the reactors need.

    :raises ReactorUnavailableError: if not.
    """
    if not hasattr(select, "epoll"):
        raise ReactorUnavailableError("netsvc's reactors need Linux (epoll); use --reactor=default")
    missing = list(missing_names())
    if missing:
        raise ReactorUnavailableError(
            f"netsvc's reactors cannot use Twisted {version('twisted')}, which has no {', '.join(missing)}; "
            "run pip install 'twisted>=26.10,<27'"
        )


def missing_names(stated: Iterable[tuple[str, str]] = PRIVATE_NAMES) -> Iterator[str]:
    """Return the private names that the installed Twisted does not have."""
    for path, names in stated:
        module, _, name = path.rpartition(".")
        owner = getattr(import_module(module), name, None)
        for private in names.split():
            if not (hasattr(owner, private) or _is_used_by_methods(owner, private)):
                yield f"{path}.{private}"


def _is_used_by_methods(owner: Any, name: str) -> bool:
    """Return whether the methods of a class use an attribute of this name, so that instances have it."""
    methods = [method for base in getattr(owner, "__mro__", ()) for method in vars(base).values()]
    return any(name in method.__code__.co_names for method in methods if hasattr(method, "__code__"))
