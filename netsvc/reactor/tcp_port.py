"""TCP ports that accept a bounded number of connections per reactor iteration."""

from __future__ import annotations

from twisted.internet import tcp

from netsvc.reactor.connection import FastServer

#: Maximum number of connections that a port accepts in one reactor iteration.
ACCEPTS_PER_ITERATION = 64


class BoundedPort(tcp.Port):
    """A TCP port that accepts a bounded number of connections per reactor iteration.

    Twisted's own port raises its limit by 20 after each iteration that reached it. During a flood of connections, an
    iteration therefore takes 40 ms, and no other connection is served meanwhile.
    """

    transport: type[tcp.Server] = FastServer

    def doRead(self) -> None:
        self.numberAccepts = min(self.numberAccepts, ACCEPTS_PER_ITERATION)
        super().doRead()
