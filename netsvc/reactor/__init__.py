"""Twisted reactors on which a connection costs little more than the event loop itself.

``AsyncioReactor`` needs nothing besides the standard library; ``UvloopReactor`` needs uvloop, which ``pip install
netsvc[fast]`` brings. They serve every Twisted application: ``twist --reactor=asyncio-native`` or ``--reactor=uvloop``.
Importing this package installs neither; ``UvloopReactor.install()`` does, before anything imports
``twisted.internet.reactor``.
"""

from netsvc.reactor.loop import AsyncioReactor, UvloopReactor

__all__ = ["AsyncioReactor", "UvloopReactor"]
