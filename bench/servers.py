"""The echo servers that are compared: ``python -m bench.servers NAME`` serves on a free port and prints it."""

from __future__ import annotations

import asyncio
import socketserver
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol


def said(port: int) -> None:
    """Print the port, for whoever started this."""
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


class Echo(Protocol):
    """The plainest echo of Twisted's."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


def twisted(make: Callable[[], Any], factory: Callable[[Any], Any] = lambda _: Factory.forProtocol(Echo)) -> None:
    """Serve with a reactor."""
    from twisted.internet.main import installReactor

    reactor = make()
    installReactor(reactor)
    port = reactor.listenTCP(0, factory(reactor), 1024, "127.0.0.1")
    reactor.callWhenRunning(said, port.getHost().port)
    reactor.run()


def twisted_epoll() -> None:
    from twisted.internet.epollreactor import EPollReactor

    twisted(EPollReactor)


def twisted_asyncio() -> None:
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    twisted(AsyncioSelectorReactor)


def netsvc_asyncio() -> None:
    from netsvc.reactor import AsyncioReactor

    twisted(AsyncioReactor)


def netsvc_uvloop() -> None:
    from netsvc.reactor import UvloopReactor

    twisted(UvloopReactor)


def netsvc_echo() -> None:
    """netsvc's own echo, with all its bounds, on the uvloop reactor."""
    from netsvc import EchoFactory
    from netsvc.reactor import UvloopReactor

    twisted(UvloopReactor, EchoFactory)


def netsvc_echo_epoll() -> None:
    """The same on EPollReactor."""
    from twisted.internet.epollreactor import EPollReactor

    from netsvc import EchoFactory

    twisted(EPollReactor, EchoFactory)


class LoopEcho(asyncio.Protocol):
    """The plainest echo of asyncio's."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def _protocol() -> None:
    server = await asyncio.get_running_loop().create_server(LoopEcho, "127.0.0.1", 0, backlog=1024)
    said(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _streams() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
    said(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def asyncio_protocol() -> None:
    asyncio.run(_protocol())


def asyncio_streams() -> None:
    asyncio.run(_streams())


def uvloop_protocol() -> None:
    import uvloop

    uvloop.run(_protocol())


def uvloop_streams() -> None:
    import uvloop

    uvloop.run(_streams())


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


SERVERS: dict[str, Callable[[], None]] = {
    served.__name__: served
    for served in (
        twisted_epoll,
        twisted_asyncio,
        netsvc_asyncio,
        netsvc_uvloop,
        netsvc_echo_epoll,
        netsvc_echo,
        asyncio_protocol,
        asyncio_streams,
        uvloop_protocol,
        uvloop_streams,
        gevent,
        threads,
    )
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]]()
