"""Echo servers: ``python -m bench.servers.echo NAME [MODE]``.

The modes are:

- ``immediate``: write the received data at once;
- ``later``: write it in a later call (``callLater(0, ...)``, ``call_soon``);
- ``partner``: write it to another connection. The first and the second connection are partners, and so on;
- ``pieces``: write it in 16 pieces;
- ``tls=FILE``: write it at once, over TLS. The file has the key and the certificate.
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

from bench.servers.run import REACTORS, print_port, run_on_loop, run_on_reactor, serve_streams

PIECES = 16


class Echo(Protocol):
    """The simplest echo on Twisted."""

    transport: Any
    factory: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class LaterEcho(Echo):
    def dataReceived(self, data: bytes) -> None:
        self.factory.reactor.callLater(0, self.transport.write, data)


class PartnerEcho(Echo):
    partner: Any

    def connectionMade(self) -> None:
        self.factory.partners.append(self)
        if len(self.factory.partners) == 2:
            one, other = self.factory.partners
            one.partner, other.partner = other.transport, one.transport
            self.factory.partners.clear()

    def dataReceived(self, data: bytes) -> None:
        self.partner.write(data)


class PiecesEcho(Echo):
    def dataReceived(self, data: bytes) -> None:
        size = len(data) // PIECES
        for start in range(0, len(data), size):
            self.transport.write(data[start : start + size])


class AsyncioEcho(asyncio.Protocol):
    """The simplest echo on asyncio."""

    partners: list[Any] = []  # noqa: RUF012  all connections share it

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class AsyncioLaterEcho(AsyncioEcho):
    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.transport.write, data)


class AsyncioPartnerEcho(AsyncioEcho):
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


class AsyncioPiecesEcho(AsyncioEcho):
    def data_received(self, data: bytes) -> None:
        size = len(data) // PIECES
        for start in range(0, len(data), size):
            self.transport.write(data[start : start + size])


MODES: dict[str, tuple[type[Protocol], type[asyncio.Protocol]]] = {
    "immediate": (Echo, AsyncioEcho),
    "later": (LaterEcho, AsyncioLaterEcho),
    "partner": (PartnerEcho, AsyncioPartnerEcho),
    "pieces": (PiecesEcho, AsyncioPiecesEcho),
}


def listen_naive(protocol: type[Protocol], key: str, reactor: Any) -> Any:
    factory: Any = Factory.forProtocol(protocol)
    factory.reactor, factory.partners = reactor, []
    return listen_plain_or_tls(factory, key, reactor)


def listen_plain_or_tls(factory: Any, key: str, reactor: Any) -> Any:
    if key:
        context = PrivateCertificate.loadPEM(Path(key).read_bytes()).options()  # the options of the endpoint ssl:
        return reactor.listenSSL(0, factory, context, 1024, "127.0.0.1")
    return reactor.listenTCP(0, factory, 1024, "127.0.0.1")


def listen_netsvc(key: str, reactor: Any) -> Any:
    from netsvc import Admission, EchoFactory, Terms

    return listen_plain_or_tls(EchoFactory(Terms.on(reactor, admission=Admission.unlimited())), key, reactor)


async def serve_asyncio_streams() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
    print_port(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def serve_threads() -> None:
    class ThreadedEcho(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(65_536):
                self.request.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 1024

    with Server(("127.0.0.1", 0), ThreadedEcho) as server:
        print_port(server.server_address[1])
        server.serve_forever()


def serve_gevent() -> None:
    from gevent.server import StreamServer

    def echo(connection: Any, _address: Any) -> None:
        while data := connection.recv(65_536):
            connection.sendall(data)

    server = StreamServer(("127.0.0.1", 0), echo, backlog=1024)
    server.start()
    print_port(server.server_port)
    server.serve_forever()


def main(name: str, mode: str = "immediate") -> None:
    mode, _, key = mode.partition("=")
    twisted, asyncio_ = MODES["immediate" if key else mode]
    if name in REACTORS:
        run_on_reactor(name, partial(listen_naive, twisted, key))
    elif name.startswith("netsvc_echo_"):  # netsvc's service, with all its limits
        reactor = name.removeprefix("netsvc_echo_")
        run_on_reactor("twisted_epoll" if reactor == "epoll" else f"netsvc_{reactor}", partial(listen_netsvc, key))
    elif name.endswith("_protocol"):
        context = None
        if key:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(key)
        run_on_loop(name, partial(serve_streams, asyncio_, context))
    elif name.endswith("_streams"):
        run_on_loop(name, serve_asyncio_streams)
    else:
        {"threads": serve_threads, "gevent": serve_gevent}[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
