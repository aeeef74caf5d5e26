"""Protocols of Twisted that need one of its extras: SSH, HTTP/2 and websockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor as global_reactor  # noqa: TID251  as programs import it
from twisted.internet import ssl, task
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from netsvc.testing import Host, Network
from tests.scenarios.protocols import RecordingProtocol

reactor: Any = global_reactor


def ssh_factory(key: Any) -> Any:
    """Return a server whose commands take 3 s and print their own name and the name of the user."""
    from twisted.conch.avatar import ConchUser
    from twisted.conch.interfaces import IConchUser, ISession
    from twisted.conch.ssh.factory import SSHFactory
    from twisted.conch.ssh.session import SSHSession

    @implementer(ISession)
    class User(ConchUser):
        getPty = openShell = windowChanged = None  # only commands are run

        def __init__(self, name: bytes) -> None:
            super().__init__()
            self.name = name
            self.channelLookup[b"session"] = SSHSession

        def execCommand(self, process: Any, command: bytes) -> None:
            def end() -> None:
                process.write(command + b" by " + self.name)
                process.loseConnection()

            reactor.callLater(3, end)

        def eofReceived(self) -> None:
            """Do nothing: the command reads nothing."""

        def closed(self) -> None:
            """Do nothing: the command has ended."""

    @implementer(IRealm)
    class Realm:
        def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
            return IConchUser, User(avatarId), lambda: None

    factory: Any = SSHFactory()
    factory.privateKeys = factory.publicKeys = {key.sshType(): key}
    factory.portal = Portal(Realm(), [InMemoryUsernamePasswordDatabaseDontUse(user=b"password")])
    return factory


def test_conch_runs_a_command(network: Network, server: Host, client: Host, tmp_path: Path) -> None:
    pytest.importorskip("twisted.conch.ssh.transport")
    from twisted.conch.client.knownhosts import ConsoleUI, KnownHostsFile
    from twisted.conch.endpoints import SSHCommandClientEndpoint
    from twisted.conch.ssh.keys import Key
    from twisted.python.filepath import FilePath

    key = Key(Ed25519PrivateKey.generate())
    known = KnownHostsFile(FilePath(str(tmp_path / "known_hosts")))
    for name in (b"server", server.address.encode()):
        known.addHostKey(name, key.public())

    def execute() -> Any:
        ui = ConsoleUI(lambda: pytest.fail("the key of the server is known, and the password is given"))
        endpoint: Any = SSHCommandClientEndpoint
        command = endpoint.newConnection(
            reactor, b"greet", b"user", b"server", 22, password=b"password", knownHosts=known, ui=ui
        )
        return connectProtocol(command, RecordingProtocol())

    with server:
        reactor.listenTCP(22, ssh_factory(key))
    output = network.run(client.run(execute))
    network.run(output.lost)
    assert output.received == b"greet by user"
    assert network.now == pytest.approx(3, abs=0.1)


class Slow(Resource):
    """Answers after as many seconds as the last part of the path says."""

    isLeaf = True

    def render_GET(self, request: Any) -> int:
        def answer() -> None:
            request.write(b"%s at %d s" % (request.clientproto, reactor.seconds()))
            request.finish()

        reactor.callLater(int(request.postpath[-1]), answer)
        return NOT_DONE_YET


def http2_client(ended: Deferred[float], network: Network) -> Any:
    """Return a client of HTTP/2."""
    from h2.connection import H2Connection
    from h2.events import DataReceived, StreamEnded

    class Client(Protocol):
        def connectionMade(self) -> None:
            self.http = H2Connection()
            self.bodies: dict[int, bytes] = {}
            self.answers: dict[int, Deferred[bytes]] = {}
            self.http.initiate_connection()
            self.send()

        def get(self, path: str) -> Deferred[bytes]:
            stream = self.http.get_next_available_stream_id()
            names = {":method": "GET", ":scheme": "https", ":authority": "server", ":path": path}
            self.http.send_headers(stream, list(names.items()), end_stream=True)
            self.send()
            self.bodies[stream] = b""
            answer = self.answers[stream] = Deferred()
            return answer

        def send(self) -> None:
            self.transport.write(self.http.data_to_send())  # type: ignore[union-attr]

        def dataReceived(self, data: bytes) -> None:
            for event in self.http.receive_data(data):
                if isinstance(event, DataReceived):
                    self.bodies[event.stream_id] += event.data
                elif isinstance(event, StreamEnded):
                    self.answers[event.stream_id].callback(self.bodies[event.stream_id])
            self.send()

        def connectionLost(self, reason: Any = None) -> None:
            ended.callback(network.now)

    return Client()


def test_http2_answers_requests_side_by_side_and_ends_an_idle_connection(
    network: Network, server: Host, client: Host, certificate: ssl.PrivateCertificate, trust: Any
) -> None:
    pytest.importorskip("h2")
    pytest.importorskip("priority")
    ended: Deferred[float] = Deferred()
    http = http2_client(ended, network)

    def start() -> Any:
        options = ssl.optionsForClientTLS("server", trust, acceptableProtocols=[b"h2"])
        return connectProtocol(wrapClientTLS(options, HostnameEndpoint(reactor, "server", 443)), http)

    with server:
        reactor.listenSSL(443, Site(Slow(), timeout=60), certificate.options())
    network.run(client.run(start))
    answers = [client.run(http.get, f"/{seconds}") for seconds in (5, 2)]
    assert network.run(answers[1]) == b"HTTP/2 at 2 s"
    assert network.run(answers[0]) == b"HTTP/2 at 5 s"
    # The connection ends after 60 idle seconds, and 15 s later it is aborted, since the client does not close it.
    assert network.run(ended) == pytest.approx(5 + 60 + 15, abs=1)


class Talker:
    """A websocket that records what it receives, and pings every 10 s."""

    def __init__(self, reply: str = "") -> None:
        self.reply = reply
        self.received: DeferredQueue[str] = DeferredQueue()
        self.pongs: list[float] = []
        self.lost: Deferred[None] = Deferred()

    def negotiationStarted(self, transport: Any) -> None:
        self.transport = transport
        self.loop = task.LoopingCall(transport.ping)

    def negotiationFinished(self) -> None:
        self.loop.start(10, now=False)

    def textMessageReceived(self, message: str) -> None:
        self.received.put(message)
        if self.reply:
            self.transport.sendTextMessage(self.reply + message)

    def bytesMessageReceived(self, data: bytes | bytearray) -> None:
        raise NotImplementedError("the peer sends no bytes")

    def pongReceived(self, payload: bytes) -> None:
        self.pongs.append(reactor.seconds())

    def connectionLost(self, reason: Failure) -> None:
        self.loop.stop()
        self.lost.callback(None)


class Talkers:
    """Makes talkers."""

    def __init__(self, reply: str = "") -> None:
        self.reply = reply

    def buildProtocol(self, request_or_url: Any) -> Talker:
        return Talker(self.reply)


def test_a_websocket_of_twisted_exchanges_messages_and_pings(network: Network, server: Host, client: Host) -> None:
    pytest.importorskip("wsproto")
    from twisted.web.websocket import WebSocketClientEndpoint, WebSocketResource

    site = Resource()
    site.putChild(b"talk", WebSocketResource(Talkers("echo of ")))
    with server:
        reactor.listenTCP(80, Site(site))

    def start() -> Deferred[Talker]:
        return Deferred.fromCoroutine(WebSocketClientEndpoint.new(reactor, "ws://server/talk").connect(Talkers()))

    talker = network.run(client.run(start))
    client.run(talker.transport.sendTextMessage, "hello")
    assert network.run(talker.received.get()) == "echo of hello"
    network.advance(35)
    assert talker.pongs == [10, 20, 30]
    client.run(talker.transport.loseConnection)
    network.run(talker.lost)
