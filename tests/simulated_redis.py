"""A Redis server for a simulated host, or for any reactor: connections, subscriptions and faults (RESP2 only)."""

from __future__ import annotations

from typing import Any

import hiredis
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.redis_data import RedisData
from tests.redis_keyspace import ErrorReply, NullArray, Reply, Snapshot, Status, wrong_arguments

_IN_SUBSCRIPTIONS = (b"SUBSCRIBE", b"UNSUBSCRIBE", b"PING", b"QUIT")


def encode(reply: Reply) -> bytes:
    """Return a reply as it is sent (RESP2)."""
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, NullArray):
        return b"*-1\r\n"
    if isinstance(reply, Status):
        return b"+%s\r\n" % reply.text
    if isinstance(reply, ErrorReply):
        return b"-%s\r\n" % reply.text.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"*%d\r\n" % len(reply) + b"".join(map(encode, reply))


class RedisConnection(Protocol):
    """A connection of a client.

    :ivar channels: the channels to which it has subscribed, in their order.
    """

    transport: Any

    def __init__(self, server: SimulatedRedis) -> None:
        self.channels: dict[bytes, None] = {}
        self._server = server
        self._reader = hiredis.Reader()

    def connectionMade(self) -> None:
        self._server.connections[self] = None
        if self._server.is_paused:
            self.freeze()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._server.connections.pop(self, None)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (request := self._reader.gets()) is not False:
                if request:
                    self._run(request)
        except hiredis.ProtocolError:
            self.transport.write(b"-ERR Protocol error\r\n")
            self.transport.loseConnection()

    def freeze(self) -> None:
        """Read and write nothing, as the connection of a stopped process."""
        self.transport.pauseProducing()
        self.transport.stopWriting()

    def thaw(self) -> None:
        """Read and write again."""
        self.transport.startWriting()
        self.transport.resumeProducing()

    def _run(self, arguments: list[bytes]) -> None:
        name = arguments[0].upper()
        if self.channels and name not in _IN_SUBSCRIPTIONS:
            text = b"ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed"
            self._send(ErrorReply(text % arguments[0].lower() + b" in this context"))
        elif name == b"SUBSCRIBE":
            self._subscribe(arguments[1:])
        elif name == b"UNSUBSCRIBE":
            self._unsubscribe(arguments[1:] or list(self.channels))
        elif name == b"QUIT":
            self._send(Status(b"OK"))
            self.transport.loseConnection()
        elif self.channels:
            self._send([b"pong", b"".join(arguments[1:2])])
        else:
            self._send(self._server.data.execute(arguments))
        self._server.deliver()

    def _subscribe(self, channels: list[bytes]) -> None:
        if not channels:
            self._send(ErrorReply(wrong_arguments("subscribe").text))
        for channel in channels:
            self.channels[channel] = None
            self._send([b"subscribe", channel, len(self.channels)])

    def _unsubscribe(self, channels: list[bytes]) -> None:
        if not channels:
            self._send([b"unsubscribe", None, 0])
        for channel in channels:
            self.channels.pop(channel, None)
            self._send([b"unsubscribe", channel, len(self.channels)])

    def message(self, channel: bytes, message: bytes) -> None:
        """Send a message of a channel."""
        self._send([b"message", channel, message])

    def _send(self, reply: Reply) -> None:
        self.transport.write(encode(reply))


class SimulatedRedis(Factory[RedisConnection]):
    """A Redis server. Its process runs from ``start`` to ``kill`` or ``stop``.

    A server whose host has crashed is replaced by a new one with the same data.

    :param reactor: the reactor of a simulated host, or any other.
    :param data: the state of the server, which contains its clock.
    :param port: the port; 0 for a free one.
    :param interface: the address to listen on.
    :ivar connections: the connections of its clients, in the order in which they were made.
    :ivar is_running: whether there is a process, which may be paused.
    :ivar is_paused: whether the process is stopped.
    """

    noisy = False

    def __init__(self, reactor: Any, data: RedisData, port: int = 6379, interface: str = "") -> None:
        self.data = data
        self.connections: dict[RedisConnection, None] = {}
        self.is_paused = False
        self._reactor = reactor
        self._address = (port, interface)
        self._port: Any = None
        self.is_running = False
        self._closed: Deferred[Any] | None = None  # fires when the previous port is closed
        self._messages: list[tuple[RedisConnection, bytes, bytes]] = []

    def buildProtocol(self, addr: IAddress | None) -> RedisConnection:
        return RedisConnection(self)

    # The process

    @property
    def port(self) -> int:
        """The number of the port on which it listens."""
        number: int = self._port.getHost().port
        return number

    def start(self) -> None:
        """Start the process. It listens at once, or as soon as the port of the previous process is closed."""
        self.is_running = True
        self.data.restarted()
        self.data.publish = self._publish
        if self._closed is not None:
            self._closed.addCallback(lambda _: self._listen())
        else:
            self._listen()

    def _listen(self) -> None:
        if not self.is_running or self._port is not None:
            return  # the process was killed meanwhile
        port, interface = self._address
        self._port = self._reactor.listenTCP(port, self, interface=interface)
        if self.is_paused:
            self._port.stopReading()

    def stop(self) -> Deferred[Any]:
        """End the process as SHUTDOWN does. The Deferred fires when the port is closed."""
        return self._end("loseConnection")

    def kill(self, losing: Snapshot | None = None) -> Deferred[Any]:
        """Kill the process: connections are reset. The keys stay, as with an append-only file.

        :param losing: the keys from then on, for a replica that is promoted without the last writes.
        """
        if losing is not None:
            self.data.restore(losing)
        return self._end("abortConnection")

    def _end(self, close: str) -> Deferred[Any]:
        self.is_running = self.is_paused = False
        for connection in list(self.connections):
            getattr(connection.transport, close)()
        self.connections.clear()
        self._messages.clear()
        port, self._port = self._port, None
        self._closed = maybeDeferred(port.stopListening) if port is not None else self._closed
        if self._closed is None:
            return maybeDeferred(lambda: None)
        closed: Deferred[Any] = Deferred()
        self._closed.addCallback(closed.callback)
        self._closed.addCallback(lambda _: setattr(self, "_closed", None))
        return closed

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: the kernel still accepts connections and bytes, and nothing is answered."""
        self.is_paused = True
        if self._port is not None:
            self._port.stopReading()
        for connection in self.connections:
            connection.freeze()

    def resume(self) -> None:
        """Let the process run again."""
        self.is_paused = False
        if self._port is not None:
            self._port.startReading()
        for connection in list(self.connections):
            connection.thaw()

    def close_subscribers(self) -> None:
        """Close the connections that have subscribed to a channel."""
        for connection in [each for each in self.connections if each.channels]:
            connection.transport.abortConnection()

    # Messages

    def execute(self, *arguments: bytes) -> Reply:
        """Run a command without a connection, and deliver what it publishes."""
        reply = self.data.execute(list(arguments))
        self.deliver()
        return reply

    def _publish(self, channel: bytes, message: bytes) -> int:
        subscribers = [each for each in self.connections if channel in each.channels]
        self._messages += [(each, channel, message) for each in subscribers]
        return len(subscribers)

    def deliver(self) -> None:
        """Send the messages that were published. The reply of the command that published is sent before."""
        messages, self._messages = self._messages, []
        for subscriber, channel, message in messages:
            subscriber.message(channel, message)
