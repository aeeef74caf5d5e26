"""The client of Redis: its protocol on transports in memory, the client on the simulated network, and a real Redis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hiredis
import pytest
import trustme
from pytest_twisted import ensureDeferred
from twisted.internet import reactor  # noqa: TID251  the tests with a real Redis
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from netsvc.redis.redis_address import RedisAddress, RedisCredentials
from netsvc.redis.redis_client import (
    ANSWER_TIMEOUT,
    ATTEMPT_TIMEOUT,
    CLOSE_TIMEOUT,
    GRACE,
    PING_AFTER,
    REFUSED_FIRST,
    REFUSED_MAX,
    RETRY_FIRST,
    RETRY_MAX,
    RedisClient,
)
from netsvc.redis.redis_endpoint import redis_endpoint
from netsvc.redis.redis_protocol import RedisConnectionLost, RedisProtocol, RedisReplyError, Reply, pack_command
from netsvc.redis.redis_script import RedisScript
from netsvc.testing import Host, Network, splits
from tests.connections import TCPTransport, attach, lose, taken
from tests.redis_server import RedisServer
from tests.scenarios.protocols import Observable

SECRET = "hunter2"
SECONDS = 20.0


def shown(reply: Reply) -> Any:
    """Return a reply with its errors as texts, so that replies can be compared."""
    if isinstance(reply, list):
        return [shown(each) for each in reply]
    if isinstance(reply, RedisConnectionLost):
        return f"lost, {'sent' if reply.was_sent else 'not sent'}: {reply}"
    if isinstance(reply, RedisReplyError):
        return f"{reply.code}: {reply}"
    return reply


# The protocol

#: Some replies, and their values.
REPLIES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b":-42\r\n", -42),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"$0\r\n\r\n", b""),
    (b"$6\r\na\r\nb\0\xff\r\n", b"a\r\nb\0\xff"),
    (b"-NOSCRIPT No matching script.\r\n", "NOSCRIPT: NOSCRIPT No matching script."),
    (b"*0\r\n", []),
    (b"*3\r\n$1\r\na\r\n*2\r\n-WRONGTYPE no\r\n:1\r\n-ERR b\r\n", [b"a", ["WRONGTYPE: WRONGTYPE no", 1], "ERR: ERR b"]),
    (b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nd\r\n", [b"message", b"c", b"d"]),
    (b":7\r\n", 7),
]
STREAM = b"".join(data for data, _ in REPLIES)
VALUES = [value for _, value in REPLIES]


class Connection:
    """A connection in memory.

    :ivar answers: what the callbacks were called with.
    :ivar lost: the reasons with which the end was reported.
    :ivar pushed: the messages.
    """

    def __init__(self, *, subscribes: bool = False, **options: Any) -> None:
        self.answers: list[Any] = []
        self.lost: list[str] = []
        self.pushed: list[tuple[bytes, bytes]] = []
        self.clock = Clock()
        pushed = (lambda channel, data: self.pushed.append((channel, data))) if subscribes else None
        self.protocol = RedisProtocol(self.clock.seconds, self.lost.append, pushed, **options)
        self.transport: TCPTransport = attach(self.protocol)

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.protocol.send(pack_command((b"PING",)), self.answered)

    def answered(self, reply: Reply) -> None:
        self.answers.append(shown(reply))

    def receive(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.protocol.dataReceived(piece)


def test_each_answer_belongs_to_its_command_wherever_the_stream_is_split() -> None:
    for cut in range(len(STREAM) + 1):
        connection = Connection()
        connection.send(len(VALUES))
        connection.receive(STREAM[:cut], STREAM[cut:])
        assert connection.answers == VALUES
        assert connection.protocol.outstanding == 0


def test_each_answer_belongs_to_its_command_if_the_stream_arrives_byte_by_byte() -> None:
    connection = Connection()
    connection.send(len(VALUES))
    connection.receive(*(STREAM[index : index + 1] for index in range(len(STREAM))))
    assert connection.answers == VALUES


def test_wherever_the_connection_is_lost_each_command_has_one_answer() -> None:
    ends = [len(b"".join(data for data, _ in REPLIES[: count + 1])) for count in range(len(REPLIES))]
    for cut in range(len(STREAM) + 1):
        connection = Connection()
        connection.send(len(VALUES))
        connection.receive(STREAM[:cut])
        lose(connection.protocol, ConnectionLost)
        complete = sum(end <= cut for end in ends)
        unknown = ["lost, sent: the connection was lost"] * (len(VALUES) - complete)
        assert connection.answers == VALUES[:complete] + unknown
        assert connection.lost == ["the connection was lost"]


def test_a_command_after_the_loss_is_not_sent() -> None:
    connection = Connection()
    lose(connection.protocol)
    connection.send()
    assert connection.answers == ["lost, not sent: Redis closed the connection"]
    assert taken(connection.transport) == b""


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_callback_that_fails_is_logged_and_the_next_ones_are_called() -> None:
    connection = Connection()
    connection.protocol.send(b"", lambda _: 1 / 0)
    connection.send()
    connection.receive(b"+a\r\n+b\r\n")
    assert connection.answers == [b"b"]


@pytest.mark.logs_failure("ZeroDivisionError")
def test_after_a_loss_a_callback_that_fails_is_logged_and_the_next_ones_are_called() -> None:
    connection = Connection()
    connection.protocol.send(b"", lambda _: 1 / 0)
    connection.send()
    lose(connection.protocol)
    assert connection.answers == ["lost, sent: Redis closed the connection"]
    assert connection.lost == ["Redis closed the connection"]


def test_a_callback_may_send_the_next_command() -> None:
    connection = Connection()
    connection.protocol.send(b"", lambda _: connection.send())
    connection.receive(b"+a\r\n")
    assert connection.protocol.outstanding == 1
    connection.receive(b"+b\r\n")
    assert connection.answers == [b"b"]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$-2\r\n",
        b":x\r\n",
        b"*-7\r\n",
        b"%1\r\n*0\r\n:1\r\n",  # RESP3, whose keys Python cannot hash
        b"+a\r\n+b\r\n+c\r\n",  # an answer without a command
        b"$200\r\n" + b"x" * 101,  # longer than allowed
    ],
)
def test_a_broken_answer_aborts_the_connection_and_is_reported_in_one_line(data: bytes) -> None:
    connection = Connection(reply_max=100)
    connection.send(2)
    connection.receive(data, b"+more\r\n")
    assert connection.transport.aborted
    lose(connection.protocol)
    [reason] = connection.lost
    assert reason.startswith("the answer of Redis is broken: ")
    assert reason.isprintable()
    assert b"more" not in connection.answers


def test_many_short_replies_may_be_longer_than_one_reply_may_be() -> None:
    connection = Connection(reply_max=100)
    connection.send(100)
    connection.receive(b"+a\r\n" * 50 + b"$90\r\n", b"x" * 90, b"\r\n" + b"+a\r\n" * 49)
    assert len(connection.answers) == 100


def test_messages_arrive_between_answers_and_in_order() -> None:
    stream = (
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
        b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n"
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"
        b"*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$1\r\n2\r\n"
        b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
        b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n3\r\n"
        b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n"
    )
    for cut in range(len(stream)):
        connection = Connection(subscribes=True)
        for channel in [b"a", b"b"]:
            connection.protocol.send(pack_command((b"SUBSCRIBE", channel)), connection.answered)
        connection.send()
        for channel in [b"a"]:
            connection.protocol.send(pack_command((b"UNSUBSCRIBE", channel)), connection.answered)
        connection.receive(stream[:cut], stream[cut:])
        assert connection.pushed == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
        assert connection.answers == [
            [b"subscribe", b"a", 1],
            [b"subscribe", b"b", 2],
            [b"pong", b""],
            [b"unsubscribe", b"a", 1],
        ]


def test_a_refused_subscription_has_its_own_answer() -> None:
    connection = Connection(subscribes=True)
    for channel in [b"a", b"b"]:
        connection.protocol.send(pack_command((b"SUBSCRIBE", channel)), connection.answered)
    connection.receive(b"-NOPERM no\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:1\r\n")
    assert connection.answers == ["NOPERM: NOPERM no", [b"subscribe", b"b", 1]]


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_receiver_of_messages_that_fails_is_logged_and_receives_the_next_one() -> None:
    received = []

    def pushed(channel: bytes, data: bytes) -> None:
        received.append(data)
        if data == b"1":
            raise ZeroDivisionError

    protocol = RedisProtocol(Clock().seconds, print, pushed)
    attach(protocol)
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n%d\r\n"
    protocol.dataReceived(message % 1 + message % 2)
    assert received == [b"1", b"2"]


def test_messages_are_ignored_while_the_connection_closes() -> None:
    connection = Connection(subscribes=True)
    connection.protocol.close()
    connection.receive(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n")
    assert connection.pushed == []


@pytest.mark.parametrize(
    ("text", "code"),
    [("NOSCRIPT No matching script", "NOSCRIPT"), ("ERR", "ERR"), ("", "ERR"), ("oh no", "ERR"), ("E\x1b[2J x", "ERR")],
)
def test_an_error_has_a_code_and_is_one_line(text: str, code: str) -> None:
    error = RedisReplyError(text)
    assert error.code == code
    assert not str(error) or str(error).isprintable()


# The client on the simulated network


class ScriptedRedis:
    """A Redis that answers as the test says.

    :ivar answers: answers by the names of commands; None for no answer. Others echo their last argument.
    :ivar commands: the commands that it received.
    :ivar connections: its open connections.
    :ivar accepted: the times at which it accepted connections.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.host: Host = network.hosts["server"]
        self.answers: dict[str, bytes | None] = {"PING": b"+PONG\r\n", "AUTH": b"+OK\r\n", "SELECT": b"+OK\r\n"}
        self.commands: list[list[str]] = []
        self.connections: list[ScriptedConnection] = []
        self.accepted: list[float] = []
        self.listen()

    def listen(self) -> None:
        factory: Factory[Any] = Factory.forProtocol(lambda: ScriptedConnection(self))
        factory.noisy = False
        self.port = self.host.reactor.listenTCP(6379, factory)

    def close(self) -> None:
        """Refuse connections from now on, and close the open ones."""
        self.port.stopListening()
        for connection in self.connections:
            connection.transport.abortConnection()
        self.network.settle()

    def names(self) -> list[str]:
        """Return the names of the commands since the last call."""
        names = [command[0] for command in self.commands]
        self.commands.clear()
        return names


class ScriptedConnection(Protocol):
    transport: Any

    def __init__(self, redis: ScriptedRedis) -> None:
        self.redis = redis
        self.reader = hiredis.Reader(encoding="utf-8")

    def connectionMade(self) -> None:
        self.redis.connections.append(self)
        self.redis.accepted.append(self.redis.network.now)

    def dataReceived(self, data: bytes) -> None:
        self.reader.feed(data)
        while command := self.reader.gets():
            self.redis.commands.append(command)
            answer = self.redis.answers.get(command[0], b"+%s\r\n" % command[-1].encode())
            if answer is not None:
                self.transport.write(answer)

    def connectionLost(self, reason: Any = None) -> None:
        self.redis.connections.remove(self)


class User(Observable):
    """A user of a client.

    :ivar events: what happened: ``up``, ``down: REASON``, and answers.
    """

    client: RedisClient

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []
        self.pushed: list[tuple[bytes, bytes]] = []

    def up(self) -> None:
        self.record("up")

    def down(self, reason: str) -> None:
        self.record(f"down: {reason}")

    def answered(self, reply: Reply) -> None:
        self.record(shown(reply))

    def received(self, channel: bytes, data: bytes) -> None:
        self.pushed.append((channel, data))
        self._check_conditions()

    def record(self, event: Any) -> None:
        self.events.append(event)
        self._check_conditions()

    def take(self) -> list[Any]:
        """Return the events since the last call."""
        events, self.events = self.events, []
        return events


@pytest.fixture
def network(network: Network) -> Network:
    network.host("server", "10.0.0.1")
    network.host("client", "10.0.0.2")
    return network


@pytest.fixture
def redis(network: Network) -> ScriptedRedis:
    return ScriptedRedis(network)


Start = Callable[..., User]


@pytest.fixture
def start(network: Network) -> Iterator[Start]:
    """A function that starts a client on the simulated network. It is stopped in the end."""
    users: list[User] = []

    def start(
        credentials: RedisCredentials | None = None, database: int = 0, *, settles: bool = True, **options: Any
    ) -> User:
        user = User()
        host = network.hosts["client"].reactor
        endpoint = TCP4ClientEndpoint(host, "10.0.0.1", 6379)
        options = {"up": user.up, "down": user.down, "jitter": lambda: 0.5, **options}
        user.client = RedisClient(host, endpoint, credentials, database, **options)
        user.client.start()
        users.append(user)
        if settles:
            network.settle()
        return user

    yield start
    for user in users:
        network.run(user.client.stop(), timeout=CLOSE_TIMEOUT + 1)


def test_a_client_without_credentials_is_up_once_redis_answers(redis: ScriptedRedis, start: Start) -> None:
    user = start()
    assert user.events == ["up"]
    assert user.client.is_up
    assert redis.commands == [["PING"]]


def test_a_client_logs_in_and_selects_its_database_in_one_round_trip(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    network.links().set(latency=0.1)
    user = start(RedisCredentials("alice", SECRET), 3)
    assert user.events == ["up"]
    assert network.now == pytest.approx(0.4)  # one round trip to connect, and one to log in
    assert redis.commands == [["AUTH", "alice", SECRET], ["SELECT", "3"], ["PING"]]


def test_the_default_user_logs_in_with_the_password_alone(redis: ScriptedRedis, start: Start) -> None:
    start(RedisCredentials("", SECRET))
    assert redis.commands == [["AUTH", SECRET], ["PING"]]


@pytest.mark.parametrize("policy", [splits.every_byte, splits.at_random])
def test_commands_are_answered_in_their_order_however_the_network_splits_them(
    network: Network, redis: ScriptedRedis, start: Start, policy: splits.SplitPolicy
) -> None:
    network.links().set(splits=policy, latency=0.01, jitter=0.01)
    user = start()
    network.advance(0.1)
    for number in range(100):
        user.client.send((b"ECHO", number), user.answered)
    assert user.client.outstanding == 100
    network.advance(0.2)
    assert user.take() == ["up", *(b"%d" % number for number in range(100))]


def test_each_answer_is_given_once_when_the_connection_breaks_at_any_time(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    network.links().set(splits=splits.at_random, latency=0.01)
    user = start()
    for cut in range(40):
        network.advance(0.5)
        assert user.take()[-1] == "up"
        for number in range(20):
            user.client.send((b"ECHO", number), user.answered)
            network.advance(0.001)
        network.advance(cut * 0.0005)
        redis.connections[0].transport.abortConnection()
        network.advance(0.03)
        *answers, down = user.take()
        assert down == "down: the connection was lost"
        assert len(answers) == 20
        answered = answers.index("lost, sent: the connection was lost") if answers[-1] != b"19" else 20
        assert answers[:answered] == [b"%d" % number for number in range(answered)]
        assert set(answers[answered:]) <= {"lost, sent: the connection was lost"}


def test_answers_are_given_before_the_loss_is_reported_and_the_client_is_not_up_then(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    user = start()
    redis.answers["GET"] = None

    def answered(reply: Reply) -> None:
        user.record((shown(reply), user.client.is_up))
        user.client.send((b"GET", b"x"), user.answered)

    user.client.send((b"GET", b"x"), answered)
    network.settle()
    user.take()
    redis.connections[0].transport.loseConnection()
    network.settle()
    reason = "Redis closed the connection"
    assert user.take() == [(f"lost, sent: {reason}", False), f"lost, not sent: {reason}", f"down: {reason}"]


def test_a_command_without_a_connection_is_not_sent(network: Network, start: Start) -> None:
    user = start()
    user.take()
    user.client.send((b"GET", b"x"), user.answered)
    user.client.send((b"GET", b"x"))
    assert user.events == ["lost, not sent: there is no connection to Redis"]
    assert not user.client.is_up


def test_a_first_attempt_that_fails_is_reported_once_and_repeated(network: Network, start: Start) -> None:
    user = start()
    network.advance(10)
    assert user.take() == ["down: connection refused"]
    redis = ScriptedRedis(network)
    network.advance(RETRY_MAX)
    assert user.take() == ["up"]
    redis.close()


def test_the_reason_is_reported_again_when_it_changes(network: Network, redis: ScriptedRedis, start: Start) -> None:
    user = start()
    redis.close()
    network.advance(5)
    assert user.take() == ["up", "down: the connection was lost", "down: connection refused"]
    redis.listen()
    network.advance(RETRY_MAX)
    redis.close()
    network.advance(5)
    assert user.take() == ["up", "down: the connection was lost", "down: connection refused"]


def test_the_delays_between_attempts_grow_to_a_quarter_of_a_second(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    redis.answers["PING"] = b"-LOADING Redis is loading the dataset in memory\r\n"
    user = start(jitter=lambda: 0.0)
    network.advance(1.5)
    delays = [round(later - earlier, 3) for earlier, later in zip(redis.accepted, redis.accepted[1:], strict=False)]
    assert delays[:5] == [RETRY_FIRST, 2 * RETRY_FIRST, 4 * RETRY_FIRST, RETRY_MAX, RETRY_MAX]
    assert user.take() == ["down: Redis is loading its data"]
    redis.answers["PING"] = b"+PONG\r\n"
    network.advance(RETRY_MAX)
    assert user.take() == ["up"]


@pytest.mark.parametrize(("up_for", "delay"), [(0.9, RETRY_MAX), (1.1, RETRY_FIRST)])
def test_the_delays_begin_anew_after_a_connection_of_a_second(
    network: Network, redis: ScriptedRedis, start: Start, up_for: float, delay: float
) -> None:
    redis.answers["PING"] = None
    start(jitter=lambda: 0.0)
    for _ in range(5):
        redis.connections[0].transport.abortConnection()
        network.advance(RETRY_MAX)
    redis.answers["PING"] = b"+PONG\r\n"
    redis.connections[0].transport.write(b"+PONG\r\n")
    network.advance(up_for)
    redis.connections[0].transport.abortConnection()
    network.settle()
    lost = network.now
    network.advance(1)
    assert redis.accepted[-1] - lost == pytest.approx(delay)


def test_jitter_shortens_the_delays(network: Network, redis: ScriptedRedis, start: Start) -> None:
    redis.answers["PING"] = b"-LOADING Redis is loading the dataset in memory\r\n"
    start(jitter=lambda: 1.0)
    network.advance(RETRY_FIRST * 0.8 + 0.001)
    assert len(redis.accepted) == 2


@pytest.mark.parametrize("up_for", [0.5, 30])
def test_a_command_is_answered_half_a_second_after_a_crashed_redis_listens_again(
    network: Network, redis: ScriptedRedis, start: Start, up_for: float
) -> None:
    network.links().set(latency=0.01)
    user = start()
    network.advance(up_for)
    for _ in range(5):
        redis.close()
        network.advance(7.3)
        redis.listen()
        listening = network.now
        while not user.client.is_up:
            network.advance(0.01)
        answer = user.client.request(b"ECHO", b"x")
        assert network.run(answer) == b"x"
        assert network.now - listening < 0.5


def test_a_wrong_password_is_reported_and_logged_once_without_the_password(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    redis.answers["AUTH"] = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    redis.answers["SELECT"] = redis.answers["PING"] = b"-NOAUTH Authentication required.\r\n"
    with capturedLogs() as events:
        user = start(RedisCredentials("alice", SECRET), 1, jitter=lambda: 0.0)
        network.advance(10)
    reason = "Redis refuses the login (WRONGPASS): the user or the password is wrong"
    assert user.take() == [f"down: {reason}"]
    assert [event["reason"] for event in events if "reason" in event] == [reason]
    assert SECRET not in str(events)
    delays = [round(later - earlier, 3) for earlier, later in zip(redis.accepted, redis.accepted[1:], strict=False)]
    assert delays[:4] == [REFUSED_FIRST, 2 * REFUSED_FIRST, REFUSED_MAX, REFUSED_MAX]
    redis.answers.update({"AUTH": b"+OK\r\n", "SELECT": b"+OK\r\n", "PING": b"+PONG\r\n"})
    network.advance(REFUSED_MAX)
    assert user.take() == ["up"]


def test_a_server_that_repeats_the_password_does_not_bring_it_into_a_reason_or_the_log(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    redis.answers["AUTH"] = b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n"
    with capturedLogs() as events:
        user = start(RedisCredentials("", SECRET))
    [reason] = user.take()
    assert "(ERR)" in reason
    assert SECRET not in reason + str(events)


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [
        ("PING", "NOAUTH Authentication required.", "Redis refuses PING (NOAUTH Authentication required.)"),
        ("PING", "NOPERM no permissions", "Redis refuses PING (NOPERM no permissions)"),
        ("PING", "MASTERDOWN Link is down", "this replica of Redis is not connected to its master"),
        ("PING", "BUSY Redis is busy running a script.", "Redis is busy with a script"),
        ("SELECT", "ERR DB index is out of range", "Redis refuses the database 99 (ERR DB index is out of range)"),
    ],
)
def test_a_refused_login_is_reported_with_its_reason(
    redis: ScriptedRedis, start: Start, command: str, answer: str, reason: str
) -> None:
    redis.answers[command] = f"-{answer}\r\n".encode()
    user = start(database=99)
    assert user.take() == [f"down: {reason}"]


def test_a_redis_that_cannot_write_to_its_disk_can_still_be_read(redis: ScriptedRedis, start: Start) -> None:
    redis.answers["PING"] = b"-MISCONF Redis is configured to save RDB snapshots\r\n"
    assert start().take() == ["up"]


def test_a_server_that_is_no_redis_is_reported_and_logged_once(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    redis.answers["PING"] = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with capturedLogs() as events:
        user = start()
        network.advance(10)
    [reason] = user.take()
    assert reason.startswith("down: the answer of Redis is broken: Protocol error")
    assert len([event for event in events if "reason" in event]) == 1
    redis.answers["PING"] = b"+HELLO\r\n"
    network.advance(REFUSED_MAX)
    assert user.take() == ["down: the server does not answer PING as Redis does"]


def test_a_login_without_an_answer_ends_after_two_seconds(network: Network, redis: ScriptedRedis, start: Start) -> None:
    redis.answers["PING"] = None
    user = start()
    network.advance(ATTEMPT_TIMEOUT - 0.01)
    assert user.take() == []
    network.advance(0.02)
    assert user.take() == ["down: no answer to the login within 2 s"]
    redis.answers["PING"] = b"+PONG\r\n"
    network.advance(RETRY_MAX)
    assert user.take() == ["up"]


def test_an_attempt_without_an_answer_ends_after_two_seconds(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    network.links().partition()
    user = start()
    network.advance(ATTEMPT_TIMEOUT + 0.01)
    assert user.take() == ["down: no connection within 2 s"]
    network.links().heal()
    network.advance(ATTEMPT_TIMEOUT + RETRY_MAX)
    assert user.take() == ["up"]


def test_a_connection_without_commands_is_checked_each_second(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    user = start()
    redis.names()
    network.advance(10 * PING_AFTER + 0.5)
    assert redis.names() == ["PING"] * 10
    for _ in range(20):
        user.client.send((b"ECHO", b"x"))
        network.advance(0.5)
    assert redis.names() == ["ECHO"] * 20


def test_a_connection_of_subscriptions_is_checked_as_well(network: Network, redis: ScriptedRedis, start: Start) -> None:
    user = User()
    started = start(pushed=user.received)
    redis.answers["SUBSCRIBE"] = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
    redis.answers["PING"] = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    started.client.subscribe([b"a"], started.answered)
    network.advance(30)
    redis.connections[0].transport.write(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n")
    network.settle()
    assert started.take() == ["up", [b"subscribe", b"a", 1]]
    assert user.pushed == [(b"a", b"x")]


@pytest.mark.parametrize("begin", [0.0, 0.4, 0.99])
def test_a_redis_that_does_not_answer_is_disconnected(
    network: Network, redis: ScriptedRedis, start: Start, begin: float
) -> None:
    user = start()
    network.advance(begin)
    redis.answers["GET"] = redis.answers["PING"] = None
    user.take()
    user.client.send((b"GET", b"x"), user.answered)
    network.advance(0.7)
    user.client.send((b"GET", b"x"))
    network.advance(ANSWER_TIMEOUT - 0.71)
    assert user.take() == []
    network.advance(GRACE + 0.02)
    assert user.take()[:2] == ["lost, sent: Redis does not answer", "down: Redis does not answer"]


def test_a_dead_network_is_noticed_without_commands(network: Network, redis: ScriptedRedis, start: Start) -> None:
    user = start()
    network.advance(3.5)
    user.take()
    network.links().partition()
    network.advance(PING_AFTER + ANSWER_TIMEOUT + GRACE)
    assert user.take() == ["down: Redis does not answer"]


def test_an_answer_is_overdue_only_if_it_cannot_be_read_meanwhile(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    user = start(answer_timeout=0.5)
    user.take()
    redis.answers["GET"] = None
    user.client.send((b"GET", b"x"), user.answered)
    network.advance(0.5 + GRACE / 2)
    redis.connections[0].transport.write(b"+late\r\n")
    network.advance(10)
    assert user.take() == [b"late"]


def test_a_slow_redis_that_answers_in_time_is_not_disconnected(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    user = start()
    user.take()
    network.links().set(latency=0.49 * ANSWER_TIMEOUT)
    for number in range(100):
        user.client.send((b"ECHO", number), user.answered)
        network.advance(0.1)
    network.advance(ANSWER_TIMEOUT)
    assert user.take() == [b"%d" % number for number in range(100)]


def test_a_request_is_a_deferred(network: Network, redis: ScriptedRedis, start: Start) -> None:
    user = start()
    assert network.run(user.client.request(b"ECHO", 5)) == b"5"
    redis.answers["GET"] = b"*1\r\n-ERR inside\r\n"
    assert shown(network.run(user.client.request(b"GET", "x"))) == ["ERR: ERR inside"]
    redis.answers["GET"] = b"-WRONGTYPE no\r\n"
    with pytest.raises(RedisReplyError, match="WRONGTYPE no"):
        network.run(user.client.request(b"GET", "x"))
    redis.close()
    with pytest.raises(RedisConnectionLost):
        network.run(user.client.request(b"GET", "x"))


def test_an_unknown_script_is_not_sent_by_the_client_itself(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    script = RedisScript("return 1")
    user = start()
    user.take()
    redis.answers["EVALSHA"] = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
    user.client.evaluate(script, [b"key"], [1, "a"], user.answered)
    network.settle()
    assert user.take() == ["NOSCRIPT: NOSCRIPT No matching script. Please use EVAL."]
    redis.answers["SCRIPT"] = b"$40\r\n%s\r\n" % script.digest.encode()
    assert network.run(user.client.load(script)) is None
    assert redis.commands[1:] == [["EVALSHA", script.digest, "1", "key", "1", "a"], ["SCRIPT", "LOAD", "return 1"]]


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_failing_user_is_logged_and_the_client_works_on(
    network: Network, redis: ScriptedRedis, start: Start, logged_failures: list[Any]
) -> None:
    user = start(up=lambda: 1 / 0, down=lambda _: 1 / 0)
    redis.connections[0].transport.abortConnection()
    network.advance(RETRY_MAX)
    user.client.send((b"ECHO", b"x"), user.answered)
    network.settle()
    assert user.take() == [b"x"]
    assert [failure.type for failure in logged_failures] == [ZeroDivisionError] * 3
    logged_failures.clear()


# The end of a client


def test_a_stopped_client_closes_its_connection_and_reports_nothing(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    user = start()
    redis.answers["GET"] = None
    user.client.send((b"GET", b"x"), user.answered)
    user.take()
    network.run(user.client.stop())
    assert user.take() == ["lost, sent: the connection was closed"]
    network.settle()
    assert redis.connections == []
    assert redis.names() == ["PING", "GET"]
    network.advance(60)
    assert len(redis.accepted) == 1
    network.run(user.client.stop())


def test_a_client_stops_at_once_if_redis_reads_nothing(network: Network, redis: ScriptedRedis, start: Start) -> None:
    user = start()
    redis.connections[0].transport.pauseProducing()
    user.client.send((b"SET", b"x", b"x" * 10_000_000))
    began = network.now
    network.run(user.client.stop())
    assert network.now - began == pytest.approx(CLOSE_TIMEOUT)


def test_a_client_may_be_stopped_while_it_waits(network: Network, start: Start) -> None:
    user = start()
    network.run(user.client.stop(), timeout=0)
    redis = ScriptedRedis(network)
    network.advance(10)
    assert redis.accepted == []


def test_a_client_may_be_stopped_while_it_connects(network: Network, redis: ScriptedRedis, start: Start) -> None:
    network.links().set(latency=0.5)
    user = start(settles=False)
    network.advance(0.7)
    network.run(user.client.stop())
    network.advance(10)
    assert user.take() == []
    assert redis.connections == []


def test_a_client_may_be_stopped_while_it_logs_in(network: Network, redis: ScriptedRedis, start: Start) -> None:
    redis.answers["PING"] = None
    user = start()
    network.run(user.client.stop())
    network.advance(10)
    assert user.take() == []
    assert len(redis.accepted) == 1


def test_a_client_may_be_stopped_by_the_functions_that_it_calls(
    network: Network, redis: ScriptedRedis, start: Start
) -> None:
    users: list[User] = []
    stopped: list[Deferred[None]] = []

    def stop(*_: str) -> None:
        stopped.append(users[-1].client.stop())

    network.links().set(latency=0.01)
    users.append(start(up=stop, settles=False))
    network.advance(10)
    redis.close()
    users.append(start(down=stop, settles=False))
    network.advance(10)
    assert [each.called for each in stopped] == [True, True]
    assert len(redis.accepted) == 1


def test_a_stopped_client_can_be_started_again(network: Network, redis: ScriptedRedis, start: Start) -> None:
    user = start()
    user.client.start()
    network.run(user.client.stop())
    user.client.start()
    network.settle()
    assert user.take() == ["up", "up"]
    assert len(redis.accepted) == 2


# A real Redis


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A real Redis. The parameter is the lines of its configuration."""
    server = RedisServer(getattr(request, "param", ()))
    try:
        server.start()
        yield server
    finally:
        server.remove()


class RealUser(User):
    """A user of a client that is connected to a real Redis."""

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        credentials: RedisCredentials | None = None,
        database: int = 0,
        *,
        subscribes: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        pushed = self.received if subscribes else None
        options = {"up": self.up, "down": self.down, "pushed": pushed, **options}
        self.client = RedisClient(reactor, endpoint, credentials, database, **options)
        self.client.start()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        await self.until(condition).addTimeout(SECONDS, reactor)

    async def wait_for_event(self, event: str) -> None:
        await self.wait_for(lambda: event in self.events)
        self.events.clear()


def tcp(server: RedisServer, **options: Any) -> IStreamClientEndpoint:
    return redis_endpoint(reactor, RedisAddress("127.0.0.1", server.port, "", 0, False))


def unix(server: RedisServer) -> IStreamClientEndpoint:
    return redis_endpoint(reactor, RedisAddress("", 0, server.socket, 0, False))


def by_name(server: RedisServer) -> IStreamClientEndpoint:
    return redis_endpoint(reactor, RedisAddress("localhost", server.port, "", 0, False))


@pytest.mark.redis
@pytest.mark.parametrize("endpoint", [tcp, unix, by_name])
@ensureDeferred
async def test_commands_and_messages_of_a_real_redis(
    server: RedisServer, endpoint: Callable[[RedisServer], IStreamClientEndpoint]
) -> None:
    user = RealUser(endpoint(server), None, 2)
    subscriber = RealUser(endpoint(server), subscribes=True)
    await user.wait_for_event("up")
    await subscriber.wait_for_event("up")
    subscriber.client.subscribe([b"a", b"b"], subscriber.answered)
    await subscriber.wait_for(lambda: subscriber.events == [[b"subscribe", b"a", 1], [b"subscribe", b"b", 2]])
    for number in range(1_000):
        user.client.send((b"PUBLISH", "ab"[number % 2], number))
    await subscriber.wait_for(lambda: len(subscriber.pushed) == 1_000)
    assert subscriber.pushed == [(b"ab"[number % 2 : number % 2 + 1], b"%d" % number) for number in range(1_000)]
    with pytest.raises(RedisReplyError, match="WRONGTYPE"):
        await user.client.request(b"SET", b"x", 1).addCallback(lambda _: user.client.request(b"LPUSH", b"x", 1))
    script = RedisScript("return {KEYS[1], ARGV[1], redis.pcall('LPUSH', KEYS[1], 1)}")
    user.client.evaluate(script, [b"x"], [b"y"], user.answered)
    loaded = user.client.load(script)
    user.client.evaluate(script, [b"x"], [b"y"], user.answered)
    await loaded
    await user.wait_for(lambda: len(user.events) == 2)
    assert user.events[0].startswith("NOSCRIPT: ")
    assert user.events[1][:2] == [b"x", b"y"]
    assert user.events[1][2].startswith("WRONGTYPE: ")
    await user.client.stop()
    await subscriber.client.stop()


PROGRAM = """
import sys
from importlib import import_module

import_module(sys.argv[1]).install()
from twisted.internet import reactor

from netsvc.redis.redis_address import parse_redis_address
from netsvc.redis.redis_client import RedisClient
from netsvc.redis.redis_endpoint import redis_endpoint

answers = []


def up():
    for number in range(10_000):
        client.send((b"INCR", b"x"), answers.append)
    client.request(b"QUIT").addCallback(print)


def down(reason):
    print(reason, answers == list(range(1, 10_001)))
    client.stop().addCallback(lambda _: reactor.stop())


address = parse_redis_address(sys.argv[2])
client = RedisClient(reactor, redis_endpoint(reactor, address), None, address.database, up=up, down=down)
client.start()
reactor.run()
"""


@pytest.mark.redis
@pytest.mark.parametrize("name", ["twisted.internet.epollreactor", "netsvc.reactor.asyncio", "netsvc.reactor.uvloop"])
@pytest.mark.parametrize("url", ["redis://127.0.0.1:{server.port}/1", "unix:{server.socket}"])
def test_the_client_works_on_each_reactor(server: RedisServer, name: str, url: str) -> None:
    command = [sys.executable, "-c", PROGRAM, name, url.format(server=server)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.stdout, done.stderr) == ("b'OK'\nRedis closed the connection True\n", "")


@pytest.mark.redis
@pytest.mark.parametrize("server", [["requirepass hunter2"]], indirect=True)
@ensureDeferred
async def test_a_real_redis_accepts_the_right_password_only(server: RedisServer) -> None:
    user = RealUser(tcp(server), RedisCredentials("default", SECRET))
    await user.wait_for_event("up")
    await user.client.stop()
    wrong = RealUser(tcp(server), RedisCredentials("", "wrong"))
    await wrong.wait_for_event("down: Redis refuses the login (WRONGPASS): the user or the password is wrong")
    await wrong.client.stop()
    none = RealUser(tcp(server))
    await none.wait_for_event("down: Redis refuses PING (NOAUTH Authentication required.)")
    await none.client.stop()


@pytest.mark.redis
@pytest.mark.parametrize("server", [["appendonly yes", "appendfsync always"]], indirect=True)
@ensureDeferred
async def test_a_command_is_answered_half_a_second_after_a_killed_redis_accepts_connections_again(
    server: RedisServer,
) -> None:
    user = RealUser(unix(server))
    await user.wait_for_event("up")
    for number in range(3):
        await user.client.request(b"INCR", b"x")
        server.kill()
        await user.wait_for(lambda: bool(user.events))
        with pytest.raises(RedisConnectionLost):
            await user.client.request(b"GET", b"x")
        server.start()
        ready = reactor.seconds()
        await user.wait_for_event("up")
        assert await user.client.request(b"GET", b"x") == b"%d" % (number + 1)
        assert reactor.seconds() - ready < 0.5
    await user.client.stop()


@pytest.mark.redis
@ensureDeferred
async def test_a_real_redis_that_does_not_run_is_disconnected_until_it_runs_again(server: RedisServer) -> None:
    user = RealUser(tcp(server), answer_timeout=0.2)
    await user.wait_for_event("up")
    server.stop()
    user.client.send((b"INCR", b"x"), user.answered)
    await user.wait_for(lambda: len(user.events) == 2)
    assert user.events == ["lost, sent: Redis does not answer", "down: Redis does not answer"]
    server.cont()
    await user.wait_for_event("up")
    assert await user.client.request(b"GET", b"x") == b"1"  # the outcome was unknown; it was executed
    await user.client.stop()


@pytest.mark.redis
@ensureDeferred
async def test_tls_verifies_the_certificate_and_the_name_of_a_real_redis() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    server = RedisServer(certificate=certificate)
    try:
        server.start()
        root = trustRootFromCertificates([Certificate.loadPEM(authority.cert_pem.bytes())])
        user = RealUser(redis_endpoint(reactor, RedisAddress("localhost", server.port, "", 0, True), root))
        await user.wait_for_event("up")
        assert await user.client.request(b"ECHO", b"x") == b"x"
        await user.client.stop()
        for host, trusted in (("127.0.0.1", root), ("localhost", None)):
            user = RealUser(redis_endpoint(reactor, RedisAddress(host, server.port, "", 0, True), trusted))
            await user.wait_for(lambda user=user: bool(user.events))  # type: ignore[misc]
            assert user.events[0].startswith("down: TLS failed: ")
            await user.client.stop()
    finally:
        server.remove()
