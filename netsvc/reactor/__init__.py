"""Twisted reactors on which a connection costs little more than on the event loop itself.

``AsyncioReactor`` needs the standard library only. ``UvloopReactor`` needs uvloop, which the extra ``netsvc[fast]``
installs. Both run every Twisted application: ``twist --reactor=asyncio-native`` or ``twist --reactor=uvloop``.

Importing this package installs no reactor. To install one, call ``netsvc.reactor.uvloop.install()`` or
``netsvc.reactor.asyncio.install()`` before any module imports ``twisted.internet.reactor``.
"""

from netsvc.reactor.asyncio import AsyncioReactor
from netsvc.reactor.uvloop import UvloopReactor

__all__ = ["AsyncioReactor", "UvloopReactor"]
