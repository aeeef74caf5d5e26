"""Two programs of Twisted that can wait for ever, and the sweeps that find it.

A sweep runs a scenario once, and then again with one fault after each of its events:

    python -m netsvc.testing sweep examples/sweep_twisted.py::websocket --faults abort,close
    python -m netsvc.testing sweep examples/sweep_twisted.py::ssh_command --faults abort,close

Both find that ``connect()`` never fires if the connection is lost at the wrong moment, and print the command that
repeats it. They need ``twisted[conch,websocket]``.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.avatar import ConchUser
from twisted.conch.client.knownhosts import ConsoleUI, KnownHostsFile
from twisted.conch.endpoints import SSHCommandClientEndpoint
from twisted.conch.interfaces import IConchUser, ISession
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol, serverFromString
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.websocket import WebSocketClientEndpoint, WebSocketResource
from zope.interface import implementer

from netsvc.testing import Network


class Echo:
    """A websocket that sends back what it receives. As a client it waits for the first message."""

    def __init__(self) -> None:
        self.received: Deferred[str] = Deferred()

    def negotiationStarted(self, transport: Any) -> None:
        self.transport = transport

    def negotiationFinished(self) -> None:
        """Do nothing."""

    def textMessageReceived(self, message: str) -> None:
        if not self.received.called:
            self.received.callback(message)
        if not message.startswith("echo of"):
            self.transport.sendTextMessage(f"echo of {message}")

    def connectionLost(self, reason: Failure) -> None:
        if not self.received.called:
            self.received.callback("")


class Echoes:
    """Makes websockets."""

    def buildProtocol(self, _request_or_url: Any) -> Echo:
        return Echo()


async def websocket(network: Network) -> str:
    """Send a message by a websocket, and wait for its echo."""
    server, client = network.host("server"), network.host("client")
    network.links().set(latency=0.01)
    site = Resource()
    site.putChild(b"echo", WebSocketResource(Echoes()))  # type: ignore[arg-type]
    with server:
        serverFromString(server.reactor, "tcp:80").listen(Site(site))
    new_endpoint: Any = WebSocketClientEndpoint.new
    with client:
        connecting = Deferred.fromCoroutine(new_endpoint(client.reactor, "ws://server/echo").connect(Echoes()))
    echo = await connecting
    echo.transport.sendTextMessage("hello")
    answer: str = await echo.received
    return answer


@implementer(ISession)
class User(ConchUser):
    """Runs any command, which prints its own name."""

    getPty = openShell = windowChanged = None  # only commands are run

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.channelLookup[b"session"] = SSHSession
        self._reactor = reactor

    def execCommand(self, process: Any, command: bytes) -> None:
        def end() -> None:
            process.write(command)
            process.loseConnection()

        self._reactor.callLater(1, end)

    def eofReceived(self) -> None:
        """Do nothing: the command reads nothing."""

    def closed(self) -> None:
        """Do nothing: the command has ended."""


@implementer(IRealm)
class Realm:
    """Lets everybody in."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return IConchUser, User(self._reactor), lambda: None


class Output(Protocol):
    """Collects the output of a command until it ends."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(self.data)


async def ssh_command(network: Network) -> bytes:
    """Run a command by SSH, and wait for its output."""
    server, client = network.host("server"), network.host("client")
    network.links().set(latency=0.01)
    key = Key(Ed25519PrivateKey.generate())
    factory: Any = SSHFactory()
    factory.privateKeys = factory.publicKeys = {key.sshType(): key}
    factory.portal = Portal(Realm(server.reactor), [InMemoryUsernamePasswordDatabaseDontUse(user=b"password")])
    with server:
        server.reactor.listenTCP(22, factory)
    with tempfile.TemporaryDirectory() as folder:
        known = KnownHostsFile(FilePath(str(Path(folder) / "known_hosts")))
        for name in (b"server", server.address.encode()):
            known.addHostKey(name, key.public())
        new_connection: Any = SSHCommandClientEndpoint.newConnection
        command = new_connection(
            client.reactor,
            b"greet",
            b"user",
            b"server",
            22,
            password=b"password",
            knownHosts=known,
            ui=ConsoleUI(io.BytesIO),
        )
        with client:
            connecting = connectProtocol(command, Output())
        output = await connecting
    answer: bytes = await output.ended
    return answer
