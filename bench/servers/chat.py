"""Chat servers: ``python -m bench.servers.chat NAME``. The naive ones write each line to all other members."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from bench.servers.run import run_on_loop, run_on_reactor, serve_streams


class NaiveChat(LineOnlyReceiver):
    """The chat of many tutorials: without limits."""

    delimiter = b"\n"
    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.factory.members.add(self)
        self.name = b"guest-%d" % len(self.factory.members)
        self.transport.setTcpNoDelay(True)  # without this, a line may wait 40 ms; the other servers set it, too

    def connectionLost(self, reason: object = None) -> None:
        self.factory.members.discard(self)

    def lineReceived(self, line: bytes) -> None:
        message = b"<%b> %b\n" % (self.name, line)
        for member in self.factory.members:
            if member is not self:
                member.transport.write(message)


class AsyncioNaiveChat(asyncio.Protocol):
    """The same chat on asyncio."""

    members: set[AsyncioNaiveChat] = set()  # noqa: RUF012  all connections share it

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
            message = b"<%b> %b\n" % (self.name, line)
            for member in self.members:
                if member is not self:
                    member.transport.write(message)


def listen_naive(reactor: Any) -> Any:
    factory: Any = Factory.forProtocol(NaiveChat)
    factory.members = set()
    return reactor.listenTCP(0, factory, 1024, "127.0.0.1")


def listen_netsvc(reactor: Any) -> Any:
    """Listen with netsvc's chat and all its limits of a connection. No member, and not the chat, reaches its rate."""
    from netsvc import Admission, ChatFactory, ChatHub, Terms

    terms = Terms.on(reactor, admission=Admission.unlimited())
    factory = ChatFactory(terms, ChatHub(terms, total=1e12), rate=1e9, burst=10**9)
    return reactor.listenTCP(0, factory, 1024, "127.0.0.1")


def listen_web(reactor: Any) -> Any:
    """Listen with the same chat for browsers."""
    from netsvc import Admission, ChatHub, Terms
    from netsvc.chat.web_member import WebChatFactory

    terms = Terms.on(reactor, admission=Admission.unlimited())
    factory = WebChatFactory(terms, ChatHub(terms, total=1e12), rate=1e9, burst=10**9)
    return reactor.listenTCP(0, factory, 1024, "127.0.0.1")


def main(name: str) -> None:
    if name.startswith("netsvc_web_"):
        reactor = name.removeprefix("netsvc_web_")
        run_on_reactor("twisted_epoll" if reactor == "epoll" else f"netsvc_{reactor}", listen_web)
        return
    if name.startswith("netsvc_chat_"):
        reactor = name.removeprefix("netsvc_chat_")
        run_on_reactor("twisted_epoll" if reactor == "epoll" else f"netsvc_{reactor}", listen_netsvc)
    elif name.endswith("_protocol"):
        run_on_loop(name, partial(serve_streams, AsyncioNaiveChat))
    else:
        run_on_reactor(name, listen_naive)


if __name__ == "__main__":
    main(*sys.argv[1:])
