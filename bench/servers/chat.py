"""Chat servers: ``python -m bench.servers.chat NAME``. The naive ones write each line to all others."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from bench.servers.run import on_loop, on_reactor, serve_streams


class Naive(LineOnlyReceiver):
    """The chat of the tutorials."""

    delimiter = b"\n"
    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.factory.members.add(self)
        self.name = b"guest-%d" % len(self.factory.members)
        self.transport.setTcpNoDelay(True)  # or it idles for 40 ms after each line, as all other servers here do not

    def connectionLost(self, reason: object = None) -> None:
        self.factory.members.discard(self)

    def lineReceived(self, line: bytes) -> None:
        told = b"<%b> %b\n" % (self.name, line)
        for member in self.factory.members:
            if member is not self:
                member.transport.write(told)


class LoopNaive(asyncio.Protocol):
    """The same of asyncio's."""

    members: set[LoopNaive] = set()  # noqa: RUF012  of all connections

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""
        self.members.add(self)
        self.name = b"guest-%d" % len(self.members)

    def connection_lost(self, exc: Exception | None) -> None:
        self.members.discard(self)

    def data_received(self, data: bytes) -> None:
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            told = b"<%b> %b\n" % (self.name, line)
            for member in self.members:
                if member is not self:
                    member.transport.write(told)


def naive(reactor: Any) -> Any:
    factory: Any = Factory.forProtocol(Naive)
    factory.members = set()
    return reactor.listenTCP(0, factory, 1024, "127.0.0.1")


def netsvc_chat(reactor: Any) -> Any:
    """netsvc's, with all limits of a connection on. The rate of a member is so high that it is never reached."""
    from netsvc import Admission, ChatFactory, Terms

    factory = ChatFactory(Terms.on(reactor, admission=Admission.unlimited()), rate=1e9, burst=10**9)
    return reactor.listenTCP(0, factory, 1024, "127.0.0.1")


def main(name: str) -> None:
    if name.startswith("netsvc_chat_"):
        reactor = name.removeprefix("netsvc_chat_")
        on_reactor("twisted_epoll" if reactor == "epoll" else f"netsvc_{reactor}", netsvc_chat)
    elif name.endswith("_protocol"):
        on_loop(name, partial(serve_streams, LoopNaive))
    else:
        on_reactor(name, naive)


if __name__ == "__main__":
    main(*sys.argv[1:])
