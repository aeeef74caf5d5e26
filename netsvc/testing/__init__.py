"""Test your own protocols, and netsvc's, without a socket and without a sleep."""

from netsvc.testing.reactor import DatagramPort, MemoryReactor

__all__ = ["DatagramPort", "MemoryReactor"]
