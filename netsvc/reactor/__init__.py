"""Twisted reactors on which a connection costs little more than on the event loop itself.

``AsyncioReactor`` needs the standard library only. ``UvloopReactor`` needs uvloop, which the extra ``netsvc[fast]``
installs. Both run every Twisted application: ``twist --reactor=asyncio-native`` or ``twist --reactor=uvloop``. Both
need Linux.

Importing this package installs no reactor. To install one, call ``netsvc.reactor.uvloop.install()`` or
``netsvc.reactor.asyncio.install()`` before any module imports ``twisted.internet.reactor``.
"""

from typing import TYPE_CHECKING, Any

from netsvc.reactor.installing import MODULES, reactor_class

if TYPE_CHECKING:
    from netsvc.reactor.asyncio_reactor import AsyncioReactor as AsyncioReactor
    from netsvc.reactor.uvloop_reactor import UvloopReactor as UvloopReactor

__all__ = ["AsyncioReactor", "UvloopReactor"]


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return reactor_class(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
