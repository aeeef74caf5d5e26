"""Echo servers: ``python -m bench.servers.echo NAME [HOW]``; what a server does with what it reads is its HOW.

HOW is ``at_once``, ``later`` (``callLater(0, ...)``, ``call_soon``), ``partner`` (to the connection that came before or
after) or ``pieces`` (in 16 writes), and ``tls=FILE`` for an echo at once under TLS with the key and certificate in that
file.
"""

from __future__ import annotations

import asyncio
import socketserver
import ssl
import sys
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate

from bench.servers.run import REACTORS, on_loop, on_reactor, said, serve_streams

PIECES = 16


class Echo(Protocol):
    """The plainest echo of Twisted's."""

    transport: Any
    factory: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Later(Echo):
    def dataReceived(self, data: bytes) -> None:
        self.factory.reactor.callLater(0, self.transport.write, data)


class Partner(Echo):
    partner: Any

    def connectionMade(self) -> None:
        self.factory.partners.append(self)
        if len(self.factory.partners) == 2:
            one, other = self.factory.partners
            one.partner, other.partner = other.transport, one.transport
            self.factory.partners.clear()

    def dataReceived(self, data: bytes) -> None:
        self.partner.write(data)


class Pieces(Echo):
    def dataReceived(self, data: bytes) -> None:
        size = len(data) // PIECES
        for start in range(0, len(data), size):
            self.transport.write(data[start : start + size])


class LoopEcho(asyncio.Protocol):
    """The plainest echo of asyncio's."""

    partners: list[Any] = []  # noqa: RUF012  of all connections

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class LoopLater(LoopEcho):
    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.transport.write, data)


class LoopPartner(LoopEcho):
    partner: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.partners.append(self)
        if len(self.partners) == 2:
            one, other = self.partners
            one.partner, other.partner = other.transport, one.transport
            self.partners.clear()

    def data_received(self, data: bytes) -> None:
        self.partner.write(data)


class LoopPieces(LoopEcho):
    def data_received(self, data: bytes) -> None:
        size = len(data) // PIECES
        for start in range(0, len(data), size):
            self.transport.write(data[start : start + size])


HOWS: dict[str, tuple[type[Protocol], type[asyncio.Protocol]]] = {
    "at_once": (Echo, LoopEcho),
    "later": (Later, LoopLater),
    "partner": (Partner, LoopPartner),
    "pieces": (Pieces, LoopPieces),
}


def listen(protocol: type[Protocol], key: str, reactor: Any) -> Any:
    factory: Any = Factory.forProtocol(protocol)
    factory.reactor, factory.partners = reactor, []
    return listen_for(factory, key, reactor)


def listen_for(factory: Any, key: str, reactor: Any) -> Any:
    if key:
        context = PrivateCertificate.loadPEM(Path(key).read_bytes()).options()  # as the endpoint ssl: has it
        return reactor.listenSSL(0, factory, context, 1024, "127.0.0.1")
    return reactor.listenTCP(0, factory, 1024, "127.0.0.1")


def netsvc_echo(key: str, reactor: Any) -> Any:
    from netsvc import Admission, EchoFactory, Terms

    return listen_for(EchoFactory(Terms.on(reactor, admission=Admission.unlimited())), key, reactor)


async def _streams() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
    said(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def threads() -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(65_536):
                self.request.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 1024

    with Server(("127.0.0.1", 0), Handler) as server:
        said(server.server_address[1])
        server.serve_forever()


def gevent() -> None:
    from gevent.server import StreamServer

    def echo(connected: Any, _address: Any) -> None:
        while data := connected.recv(65_536):
            connected.sendall(data)

    server = StreamServer(("127.0.0.1", 0), echo, backlog=1024)
    server.start()
    said(server.server_port)
    server.serve_forever()


def main(name: str, how: str = "at_once") -> None:
    how, _, key = how.partition("=")
    twisted, loop = HOWS["at_once" if key else how]
    if name in REACTORS:
        on_reactor(name, partial(listen, twisted, key))
    elif name.startswith("netsvc_echo_"):  # netsvc's own, with all its bounds
        reactor = name.removeprefix("netsvc_echo_")
        on_reactor("twisted_epoll" if reactor == "epoll" else f"netsvc_{reactor}", partial(netsvc_echo, key))
    elif name.endswith("_protocol"):
        context = None
        if key:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(key)
        on_loop(name, partial(serve_streams, loop, context))
    elif name.endswith("_streams"):
        on_loop(name, _streams)
    else:
        {"threads": threads, "gevent": gevent}[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
