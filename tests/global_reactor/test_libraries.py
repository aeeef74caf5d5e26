"""Programs of other libraries, unmodified, on the simulated network."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet import reactor as global_reactor  # noqa: TID251  as programs import it
from twisted.internet import task
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver
from twisted.web.client import ResponseNeverReceived
from twisted.web.server import Site

from netsvc.testing import Host, Network
from tests.global_reactor.connect import connect

T = TypeVar("T")

reactor: Any = global_reactor


def run(network: Network, host: Host, program: Callable[[], Awaitable[T]]) -> T:
    """Run an asynchronous function as code of a host. Returns its result."""
    running: Deferred[T] = host.run(lambda: Deferred.fromCoroutine(program()))  # type: ignore[arg-type]
    return network.run(running)


def connect_factory(network: Network, client: Host, factory: Any, port: int) -> Any:
    """Connect a factory of the client to the server. Returns the protocol."""
    return network.run(client.run(lambda: HostnameEndpoint(reactor, "server", port).connect(factory)))


@pytest.fixture
def orders(server: Host) -> list[Any]:
    """A web application of klein on the server. Returns the orders that it has received."""
    klein = pytest.importorskip("klein")
    app = klein.Klein()
    received: list[Any] = []

    @app.route("/orders", methods=["POST"])
    def order(request: Any) -> bytes:
        received.append(json.load(request.content))
        request.setResponseCode(201)
        request.setHeader("Content-Type", "application/json")
        return json.dumps({"number": len(received)}).encode()

    @app.route("/wait/<int:seconds>")
    async def wait(request: Any, seconds: int) -> str:
        await task.deferLater(reactor, seconds)
        return f"{reactor.seconds():.0f} s"

    with server:
        reactor.listenTCP(80, Site(app.resource()))
    return received


def test_treq_posts_json_to_klein(network: Network, client: Host, orders: list[Any]) -> None:
    treq = pytest.importorskip("treq")

    async def order() -> Any:
        response = await treq.post("http://server/orders", json={"item": "tea"})
        return response.code, await response.json()

    assert run(network, client, order) == (201, {"number": 1})
    assert orders == [{"item": "tea"}]


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("time", ["in a first network", "in a second network"])
def test_treq_uses_its_connection_again_and_times_out(network: Network, client: Host, time: str) -> None:
    treq = pytest.importorskip("treq")

    async def ask(seconds: int) -> Any:
        response = await treq.get(f"http://server/wait/{seconds}", timeout=10)
        return await response.text()

    assert run(network, client, lambda: ask(5)) == "5 s"
    network.settle()
    with pytest.raises(ResponseNeverReceived):
        run(network, client, lambda: ask(30))
    assert network.now == 15
    assert str(network.trace).count("80 SYN") == 1


class Redis(LineReceiver):
    """A server of Redis with the commands that the test uses."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        self.values = values
        self.words: list[bytes] = []
        self.missing = 0

    def lineReceived(self, line: bytes) -> None:
        if line.startswith(b"*"):
            self.words, self.missing = [], int(line[1:])
        elif line.startswith(b"$"):
            self.length = int(line[1:])
            self.setRawMode()

    def rawDataReceived(self, data: bytes) -> None:
        self.word = getattr(self, "word", b"") + data
        if len(self.word) >= self.length + 2:
            word, rest = self.word[: self.length], self.word[self.length + 2 :]
            self.word = b""
            self.words.append(word)
            if len(self.words) == self.missing:
                self.transport.write(self.answer(*self.words))  # type: ignore[union-attr]
            self.setLineMode(rest)

    def answer(self, command: bytes, *arguments: bytes) -> bytes:
        match command.upper():
            case b"SET":
                self.values[arguments[0]] = arguments[1]
            case b"GET":
                value = self.values[arguments[0]]
                return b"$%d\r\n%s\r\n" % (len(value), value)
            case b"INCRBY":
                number = int(self.values[arguments[0]]) + int(arguments[1])
                self.values[arguments[0]] = b"%d" % number
                return b":%d\r\n" % number
        return b"+OK\r\n"


def test_txredisapi_reads_what_it_wrote_and_connects_again(network: Network, server: Host, client: Host) -> None:
    txredisapi = pytest.importorskip("txredisapi")

    values: dict[bytes, bytes] = {}

    def listen() -> None:
        reactor.listenTCP(6_379, Factory.forProtocol(lambda: Redis(values)))

    def restart() -> None:
        server.restart()
        server.run(listen)

    async def use() -> Any:
        redis = await txredisapi.Connection("server", dbid=1)
        await redis.set("visits", "41")
        visits = [await redis.incr("visits"), await redis.get("visits")]
        server.crash()
        network.call_later(5, restart)
        while True:
            try:
                visits.append(await redis.incr("visits"))
                break
            except txredisapi.ConnectionError:
                await task.deferLater(reactor, 1)
        await redis.disconnect()
        return visits

    server.run(listen)
    assert run(network, client, use) == [42, 42, 43]
    assert 5 < network.now < 60


class Events:
    """The events of a websocket, for mixing into a protocol of autobahn."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[Any] = Deferred()
        self.closed: Deferred[str] = Deferred()
        self.messages: DeferredQueue[bytes] = DeferredQueue()

    def onOpen(self) -> None:
        self.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.put(payload)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        self.closed.callback(reason)


def autobahn_factories(url: str) -> tuple[Any, Any]:
    """Return the factory of a server, which echoes messages, and that of a client."""
    websocket: Any = pytest.importorskip("autobahn.twisted.websocket")
    server_class: Any = websocket.WebSocketServerProtocol
    client_class: Any = websocket.WebSocketClientProtocol

    class Server(Events, server_class):  # type: ignore[misc]
        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            self.sendMessage(b"echo of " + payload, isBinary)

    class Client(Events, client_class):  # type: ignore[misc]
        pass

    factories = websocket.WebSocketServerFactory(url), websocket.WebSocketClientFactory(url)
    factories[0].protocol, factories[1].protocol = Server, Client
    return factories


def test_autobahn_exchanges_messages_and_its_pings_notice_a_partition(
    network: Network, server: Host, client: Host
) -> None:
    server_factory, client_factory = autobahn_factories("ws://server:9000")
    client_factory.setProtocolOptions(autoPingInterval=10, autoPingTimeout=3)
    with server:
        reactor.listenTCP(9_000, server_factory)
    socket = connect_factory(network, client, client_factory, 9_000)
    network.run(socket.opened)
    client.run(socket.sendMessage, b"hello")
    assert network.run(socket.messages.get()) == b"echo of hello"
    network.advance(35)
    assert not socket.closed.called
    network.link("server", "client").partition()
    assert "ping" in network.run(socket.closed)
    assert network.now == pytest.approx(43, abs=2)


def test_autobahn_ends_a_connection_without_a_handshake(network: Network, server: Host, client: Host) -> None:
    server_factory, _ = autobahn_factories("ws://server:9000")
    server_factory.setProtocolOptions(openHandshakeTimeout=7)
    lost: Deferred[float] = Deferred()

    class Silent(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            lost.callback(network.now)

    with server:
        reactor.listenTCP(9_000, server_factory)
    connect(network, client, Silent(), 9_000)
    assert network.run(lost) == pytest.approx(7, abs=1)


class Sender(Protocol):
    """One side of a transfer through the relay.

    :param request: the first line.
    :param sends: what it sends as soon as the relay has found the other side.
    """

    def __init__(self, request: bytes, sends: bytes = b"") -> None:
        self.request = request
        self.sends = sends
        self.received = b""
        self.lost: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.request + b"\n")  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if not self.received and self.sends:
            self.transport.write(self.sends)  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(self.received)


def test_the_wormhole_relay_passes_a_file_on_and_counts_it(
    network: Network, server: Host, client: Host, tmp_path: Path
) -> None:
    relay = pytest.importorskip("wormhole_transit_relay.server_tap")
    other = network.host("other")
    network.links().set(latency=0.05, loss=0.05, bandwidth=1_000_000)
    options = relay.Options()
    options.parseOptions(["--port=tcp:4001", f"--usage-db={tmp_path / 'usage'}"])
    service = server.run(relay.makeService, options, reactor=reactor)
    server.run(service.startService)
    token = b"0" * 64
    content = bytes(range(256)) * 400
    receiver = connect(network, other, Sender(b"please relay %s for side %s" % (token, b"b" * 16)), 4_001)
    connect(network, client, Sender(b"please relay %s for side %s" % (token, b"a" * 16), content), 4_001)
    assert network.run(receiver.lost) == b"ok\n" + content
    assert network.now > 0.8  # as the bandwidth demands
    network.advance(10)
    network.run(server.run(service.stopService))
    with closing(sqlite3.connect(tmp_path / "usage")) as database:
        [(total, mood, began)] = database.execute("SELECT total_bytes, result, started FROM usage")
    assert (total, mood) == (len(content), "happy")
    assert began < 10  # virtual seconds


def test_the_wormhole_relay_ends_a_connection_with_a_bad_request(network: Network, server: Host, client: Host) -> None:
    relay = pytest.importorskip("wormhole_transit_relay.server_tap")
    options = relay.Options()
    options.parseOptions(["--port=tcp:4001"])
    service = server.run(relay.makeService, options, reactor=reactor)
    server.run(service.startService)
    assert network.run(connect(network, client, Sender(b"please relay it"), 4_001).lost) == b"bad handshake\n"
    network.run(server.run(service.stopService))
