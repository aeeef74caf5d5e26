"""TCP ports that accept a bounded number of connections per reactor iteration, and read from each at once."""

from __future__ import annotations

import socket
from errno import ECONNABORTED, EPERM
from typing import Any

from twisted.internet import tcp
from twisted.python import log

from netsvc.reactor.connection import FastServer

#: Maximum number of connections that a port accepts in one reactor iteration.
ACCEPTS_PER_ITERATION = 64

#: Errors of accept that concern one connection: a firewall has refused it, or the peer has given up.
ERRORS_OF_ONE_CONNECTION = frozenset((EPERM, ECONNABORTED))


class BoundedPort(tcp.Port):
    """A TCP port that accepts a bounded number of connections per reactor iteration.

    Twisted's own port raises its limit by 20 after each iteration that reached it. During a flood of connections, an
    iteration therefore takes 40 ms, and no other connection is served meanwhile.

    Most clients send something as soon as they are connected. So each accepted connection is read from at once, without
    waiting for the reactor's next iteration.

    :ivar numberAccepts: the number of connections that it tries to accept next time, at most
        ``ACCEPTS_PER_ITERATION``.
    """

    transport: type[tcp.Server] = FastServer
    reactor: Any

    def doRead(self) -> None:
        connections: list[Any] = []
        limit = min(self.numberAccepts, ACCEPTS_PER_ITERATION)
        count = 0
        try:
            while count < limit:
                try:
                    accepted, address = self.socket.accept()
                except BlockingIOError:
                    break
                except OSError as e:
                    if e.errno not in ERRORS_OF_ONE_CONNECTION:
                        self.numberAccepts = limit - count
                        super().doRead()  # gets the same error, such as EMFILE, and handles it
                        break
                else:
                    connections.append(self._connection_of(accepted, address))
                count += 1
        except BaseException:  # a fault of the factory's or the protocol's
            log.err()
        self.numberAccepts = min(2 * limit, ACCEPTS_PER_ITERATION) if count == limit else max(1, count)
        for connection in connections:
            if connection is not None:
                self.reactor.read_at_once(connection)

    def _connection_of(self, accepted: socket.socket, address: tuple[Any, ...]) -> Any:
        """Connect a new protocol to an accepted socket. Returns its transport, or None if the factory refuses it."""
        if len(address) == 4 and address[3]:  # a link-local address: with the name of its interface
            host, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            address = (host, *address[1:])
        factory: Any = self.factory
        protocol = factory.buildProtocol(self._buildAddr(address))
        if protocol is None:
            accepted.close()
            return None
        self.sessionno += 1
        transport = self.transport(accepted, protocol, address, self, self.sessionno - 1, self.reactor)
        protocol.makeConnection(transport)
        return transport
