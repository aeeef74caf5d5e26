"""Programs that use Twisted's global reactor, unmodified, on the simulated network."""

from __future__ import annotations

from io import BytesIO
from typing import Any, ClassVar

import pytest
from twisted.application.internet import ClientService
from twisted.cred.checkers import AllowAnonymousAccess, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor as global_reactor  # noqa: TID251  as programs import it
from twisted.internet import ssl, task, threads
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import ClientCreator, Factory, Protocol
from twisted.mail.smtp import SMTP, SMTPClientError, SMTPFactory, SMTPSenderFactory
from twisted.names import client as names_client
from twisted.names import dns
from twisted.names import server as names_server
from twisted.protocols import amp
from twisted.protocols import memcache as _memcache
from twisted.protocols.ftp import FTPClient, FTPFactory, FTPRealm
from twisted.protocols.policies import TimeoutMixin
from twisted.protocols.socks import SOCKSv4Factory
from twisted.spread import pb
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.words.protocols.irc import IRCClient
from zope.interface import implementer

from netsvc.testing import Host, Network, NotSimulatedError
from netsvc.testing.global_reactor import refusals
from tests.global_reactor.connect import connect

reactor: Any = global_reactor
memcache_protocol: Any = _memcache

# The transport of Twisted's own client has none.
pytestmark = pytest.mark.filterwarnings("ignore:Using readBody with a transport that does not have an abortConnection")


class Upload(Resource):
    """Answers a POST with the number of bytes, and a GET with a text."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return b"%d" % len(request.content.read())

    def render_GET(self, request: Any) -> bytes:
        return b"hello"


@pytest.fixture
def web(server: Host, certificate: ssl.PrivateCertificate) -> Site:
    """A web site on the server, with and without TLS."""
    site = Site(Upload())
    with server:
        reactor.listenTCP(80, site)
        reactor.listenSSL(443, site, certificate.options())
    return site


def post(size: int) -> Deferred[bytes]:
    body = FileBodyProducer(BytesIO(b"x" * size))
    asked: Deferred[Any] = Agent(reactor).request(b"POST", b"http://server/", bodyProducer=body)
    return asked.addCallback(readBody)


@pytest.mark.usefixtures("web")
def test_a_post_with_a_file_body_producer_arrives(network: Network, client: Host) -> None:
    assert network.run(client.run(post, 300_000)) == b"300000"


@pytest.mark.usefixtures("web")
def test_https_with_a_pool_of_connections_is_answered(network: Network, client: Host, trust: Any) -> None:
    def ask(pool: HTTPConnectionPool) -> Deferred[bytes]:
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(trust), pool=pool)
        asked: Deferred[Any] = agent.request(b"GET", b"https://server/")
        return asked.addCallback(readBody)

    pool = client.run(HTTPConnectionPool, reactor)
    assert [network.run(client.run(ask, pool)) for _ in range(2)] == [b"hello", b"hello"]
    network.run(client.run(pool.closeCachedConnections))


@pytest.mark.usefixtures("web")
def test_a_pool_of_the_process_has_connections_of_its_own_on_each_host(network: Network, client: Host) -> None:
    pool = HTTPConnectionPool(reactor)  # as a module makes it, when it is imported

    def ask() -> Deferred[bytes]:
        asked: Deferred[Any] = Agent(reactor, pool=pool).request(b"GET", b"http://server/")
        return asked.addCallback(readBody)

    for host in (client, network.host("other"), client):
        assert network.run(host.run(ask)) == b"hello"
        network.settle()
    assert str(network.trace).count("80 SYN") == 2
    client.crash()
    client.restart()
    assert network.run(client.run(ask)) == b"hello"
    assert str(network.trace).count("80 SYN") == 3


def test_tls_over_an_endpoint_has_timers_of_the_host(
    network: Network, server: Host, client: Host, certificate: ssl.PrivateCertificate, trust: Any
) -> None:
    received: Deferred[bytes] = Deferred()

    class Echo(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)  # type: ignore[union-attr]

    class Asker(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"hello")  # type: ignore[union-attr]

        def dataReceived(self, data: bytes) -> None:
            received.callback(data)
            self.transport.loseConnection()  # type: ignore[union-attr]

    def start() -> Deferred[Any]:
        plain = HostnameEndpoint(reactor, "server", 443)
        connected: Deferred[Any] = connectProtocol(
            wrapClientTLS(ssl.optionsForClientTLS("server", trust), plain), Asker()
        )
        return connected

    with server:
        reactor.listenSSL(443, Factory.forProtocol(Echo), certificate.options())
    network.run(client.run(start))
    assert network.run(received) == b"hello"


def test_a_looping_call_and_a_cooperator_follow_the_virtual_time(network: Network, client: Host) -> None:
    times: list[float] = []
    steps: list[float] = []

    def step(_: int) -> None:
        steps.append(reactor.seconds())

    def start() -> task.LoopingCall:
        loop = task.LoopingCall(lambda: times.append(reactor.seconds()))
        loop.start(60)
        task.cooperate(map(step, range(1_000)))
        return loop

    loop = client.run(start)
    network.advance(120)
    loop.stop()
    assert times == [0, 60, 120]
    assert len(steps) == 1_000
    assert steps[-1] < 0.001


def test_endless_tasks_of_two_hosts_take_turns(network: Network, server: Host, client: Host) -> None:
    steps: list[str] = []

    def endless(name: str) -> Any:
        while True:
            steps.append(name)
            yield

    tasks = [host.run(task.cooperate, endless(host.name)) for host in (server, client)]
    network.advance(1e-6)
    for each in tasks:
        each.stop()
    assert steps[:6] == ["server", "client"] * 3
    server.crash()
    other = client.run(task.cooperate, endless("after the crash"))
    network.advance(1e-6)
    other.stop()
    assert "after the crash" in steps


def test_a_timeout_mixin_ends_an_idle_connection(network: Network, server: Host, client: Host) -> None:
    ended: list[float] = []

    class Idle(Protocol, TimeoutMixin):
        def connectionMade(self) -> None:
            self.setTimeout(30)

        def connectionLost(self, reason: Any = None) -> None:
            ended.append(network.now)

    with server:
        reactor.listenTCP(7, Factory.forProtocol(Idle))
    connect(network, client, Protocol(), 7)
    network.advance(31)
    assert ended == [30]


def test_the_global_reactor_counts_the_time_of_the_host_in_delays(network: Network, client: Host) -> None:
    waited = client.run(task.deferLater, reactor, 3_600, lambda: round(reactor.seconds()))
    assert network.run(waited, timeout=4_000) == 3_600


def test_a_client_of_smtp_times_out(network: Network, server: Host, client: Host) -> None:
    silent: Factory[Any] = Factory.forProtocol(Protocol)
    with server:
        reactor.listenTCP(25, silent)
    sent: Deferred[Any] = Deferred()
    factory = SMTPSenderFactory("a@example.net", "b@example.net", BytesIO(b"text"), sent, retries=0, timeout=30)
    with client:
        reactor.connectTCP("server", 25, factory)
    with pytest.raises(SMTPClientError, match="Timeout"):
        network.run(sent)
    assert network.now == pytest.approx(30, abs=1)


def test_smtp_of_the_server_ends_an_idle_client(network: Network, server: Host, client: Host) -> None:
    lost: Deferred[float] = Deferred()

    class Idle(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            lost.callback(network.now)

    factory: Any = SMTPFactory()
    factory.protocol = SMTP
    with server:
        reactor.listenTCP(25, factory)
    connect(network, client, Idle(), 25)
    assert network.run(lost) == pytest.approx(factory.timeout, abs=1)


def test_memcache_times_out(network: Network, server: Host, client: Host) -> None:
    with server:
        reactor.listenTCP(11_211, Factory.forProtocol(Protocol))
    memcache = connect(network, client, memcache_protocol.MemCacheProtocol(timeOut=60), 11_211)
    with pytest.raises(memcache_protocol.TimeoutError):
        network.run(client.run(memcache.get, b"key"))
    assert network.now == pytest.approx(60, abs=1)


def test_the_heartbeat_of_irc_beats(network: Network, server: Host, client: Host) -> None:
    lines: list[bytes] = []

    class Recorder(Protocol):
        def dataReceived(self, data: bytes) -> None:
            lines.extend(data.splitlines())

    with server:
        reactor.listenTCP(6_667, Factory.forProtocol(Recorder))
    irc = IRCClient()
    irc.hostname = "server"  # the server tells it in its greeting
    connect(network, client, irc, 6_667)
    client.run(irc.startHeartbeat)
    network.advance(irc.heartbeatInterval * 3)
    assert sum(line.startswith(b"PING") for line in lines) >= 2


def test_ftp_lists_a_directory_over_a_second_connection(
    network: Network, server: Host, client: Host, tmp_path: Any
) -> None:
    (tmp_path / "file").write_text("content")
    factory = FTPFactory(Portal(FTPRealm(str(tmp_path)), [AllowAnonymousAccess()]))
    listing: list[bytes] = []

    class Listing(Protocol):
        def dataReceived(self, data: bytes) -> None:
            listing.append(data)

    with server:
        reactor.listenTCP(21, factory)

    def list_directory() -> Deferred[Any]:
        creator = ClientCreator(reactor, FTPClient, "anonymous", "me@example.net", passive=1)
        connected: Deferred[Any] = creator.connectTCP("server", 21)
        return connected.addCallback(lambda ftp: ftp.nlst(".", Listing()).addCallback(lambda _: ftp.quit()))

    network.run(client.run(list_directory))
    assert b"".join(listing) == b"file\r\n"


def test_a_socks_proxy_opens_its_connections_on_its_own_host(network: Network, server: Host, client: Host) -> None:
    proxy = network.host("proxy", "10.9.9.9")
    received: Deferred[bytes] = Deferred()
    peers: list[str] = []

    class Greeter(Protocol):
        def connectionMade(self) -> None:
            peers.append(self.transport.getPeer().host)  # type: ignore[union-attr]
            self.transport.write(b"hello")  # type: ignore[union-attr]

    class Asker(Protocol):
        received = b""

        def connectionMade(self) -> None:
            address = bytes(int(part) for part in server.address.split("."))
            self.transport.write(b"\x04\x01\x00\x07" + address + b"me\x00")  # type: ignore[union-attr]

        def dataReceived(self, data: bytes) -> None:
            self.received += data
            if self.received.endswith(b"hello"):
                received.callback(self.received)

    with server:
        reactor.listenTCP(7, Factory.forProtocol(Greeter))
    with proxy:
        reactor.listenTCP(1_080, SOCKSv4Factory(None))
    connect(network, client, Asker(), 1_080, "proxy")
    assert network.run(received)[:2] == b"\x00\x5a"
    assert peers == ["10.9.9.9"]


@pytest.mark.usefixtures("network")
def test_a_real_socket_is_refused_with_a_remedy_although_the_method_was_kept() -> None:
    kept = reactor.listenTCP
    with pytest.raises(NotSimulatedError, match=r"reactor\.listenTCP .*'with host:'"):
        kept(0, Factory())
    assert len(refusals) == 1
    refusals.clear()  # otherwise, this test would fail at its end


def test_a_function_in_a_thread_takes_virtual_time(network: Network, client: Host) -> None:
    client.reactor.thread_pool.seconds = 5
    assert network.run(client.run(threads.deferToThread, lambda: reactor.seconds() + 0)) == 5
    with pytest.raises(ZeroDivisionError):
        network.run(client.run(threads.deferToThread, lambda: 1 // 0))
    called: list[str] = []
    with client:
        reactor.callInThread(called.append, "in a thread")
    network.advance(5)
    assert called == ["in a thread"]


def test_a_process_is_refused_with_a_remedy(client: Host) -> None:
    with client, pytest.raises(NotSimulatedError, match="has no processes"):
        reactor.spawnProcess(None, "/bin/true")


def test_outside_of_the_code_of_a_host_the_global_reactor_is_the_real_one(client: Host) -> None:
    with client:
        assert reactor.seconds() == 0
    assert reactor.seconds() > 1_000_000_000


def test_an_endpoint_uses_the_host_on_which_it_listens(network: Network, server: Host, client: Host) -> None:
    listen = server.run(lambda: TCP4ServerEndpoint(reactor, 7).listen(Factory.forProtocol(Protocol)))
    listening: Any = network.run(listen)
    assert listening.getHost().port == 7
    connect(network, client, Protocol(), 7)


def test_a_client_service_connects_again_after_the_server_has_restarted(
    network: Network, server: Host, client: Host
) -> None:
    connected: list[float] = []

    class Reporter(Protocol):
        """Sends something every second, and so learns that the server does not know the connection any more."""

        def connectionMade(self) -> None:
            connected.append(network.now)
            self.loop = task.LoopingCall(self.transport.write, b"tick")  # type: ignore[union-attr]
            self.loop.start(1)

        def connectionLost(self, reason: Any = None) -> None:
            self.loop.stop()

    def listen() -> None:
        reactor.listenTCP(7, Factory.forProtocol(Protocol))

    def restart() -> None:
        server.restart()
        server.run(listen)

    def start() -> ClientService:
        endpoint = HostnameEndpoint(reactor, "server", 7)
        service = ClientService(endpoint, Factory.forProtocol(Reporter), retryPolicy=lambda _: 10)
        service.startService()
        return service

    server.run(listen)
    service = client.run(start)
    network.call_later(5, server.crash)
    network.call_later(20, restart)
    network.advance(60)
    network.run(client.run(service.stopService))
    assert [time > 30 for time in connected] == [False, True]


def test_names_asks_again_after_a_loss_and_uses_tcp_for_a_long_answer(
    network: Network, server: Host, client: Host
) -> None:
    texts = [bytes([letter]) * 250 for letter in b"abcd"]

    class Zone:
        def query(self, query: Any, timeout: Any = None) -> Deferred[Any]:
            record = dns.RRHeader(query.name.name, dns.TXT, payload=dns.Record_TXT(*texts))
            return succeed(([record], [], []))

    def serve() -> None:
        answers = NameServer(clients=[Zone()])
        reactor.listenUDP(53, dns.DNSDatagramProtocol(answers))
        reactor.listenTCP(53, answers)

    def look_up() -> Deferred[Any]:
        found: Deferred[Any] = names_client.Resolver(servers=[(server.address, 53)]).lookupText("www.example.net")
        return found

    server.run(serve)
    network.link("client", "server").partition()
    network.call_later(3, network.link("client", "server").heal)
    [answer], _, _ = network.run(client.run(look_up))
    assert answer.payload.data == texts
    assert network.now == pytest.approx(4, abs=0.1)  # its timeouts are 1 s and 3 s
    assert "53 SYN" in str(network.trace)


class NameServer(names_server.DNSServerFactory):
    """Sends at most 512 bytes in a datagram, as most name servers do."""

    def sendReply(self, protocol: Any, message: Any, address: Any) -> None:
        if address is not None:
            message.maxSize = 512
        super().sendReply(protocol, message, address)


class Accounts(pb.Avatar):
    """The methods that a user of perspective broker can call."""

    def perspective_add(self, *numbers: int) -> int:
        return sum(numbers)

    def perspective_divide(self, one: int, other: int) -> float:
        return one / other


@implementer(IRealm)
class Realm:
    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return pb.IPerspective, Accounts(), lambda: None


@pytest.mark.logs_failure("ZeroDivisionError")
def test_perspective_broker_logs_in_and_passes_results_and_errors(
    network: Network, server: Host, client: Host, logged_failures: list[Any]
) -> None:
    checker = InMemoryUsernamePasswordDatabaseDontUse(user=b"password")
    factory = pb.PBClientFactory()
    with server:
        reactor.listenTCP(8_787, pb.PBServerFactory(Portal(Realm(), [checker])))
    with client:
        reactor.connectTCP("server", 8_787, factory)
    accounts: Any = network.run(client.run(factory.login, UsernamePassword(b"user", b"password"), None))
    assert network.run(client.run(accounts.callRemote, "add", 1, 2, 3)) == 6
    with pytest.raises(pb.RemoteError, match="division by zero"):
        network.run(client.run(accounts.callRemote, "divide", 1, 0))
    logged_failures.pop().check(ZeroDivisionError)
    client.run(factory.disconnect)
    network.settle()
    with pytest.raises(pb.DeadReferenceError):
        network.run(client.run(accounts.callRemote, "add", 1))


class Sum(amp.Command):
    arguments: ClassVar = [(b"numbers", amp.ListOf(amp.Integer()))]
    response: ClassVar = [(b"total", amp.Integer())]
    errors: ClassVar = {OverflowError: b"OVERFLOW"}


class Adder(amp.AMP):
    """Adds numbers slowly."""

    @Sum.responder
    def sum(self, numbers: list[int]) -> Deferred[dict[str, int]]:
        if sum(numbers) > 100:
            raise OverflowError("too large")
        return task.deferLater(reactor, 3, lambda: {"total": sum(numbers)})


def test_amp_passes_results_and_errors_and_ends_what_is_pending(network: Network, server: Host, client: Host) -> None:
    with server:
        reactor.listenTCP(1_234, Factory.forProtocol(Adder))
    asker = connect(network, client, amp.AMP(), 1_234)
    assert network.run(client.run(asker.callRemote, Sum, numbers=[1, 2])) == {"total": 3}
    assert network.now == 3
    with pytest.raises(OverflowError, match="too large"):
        network.run(client.run(asker.callRemote, Sum, numbers=[99, 2]))
    pending = client.run(asker.callRemote, Sum, numbers=[1])
    network.call_later(1, client.run, asker.transport.abortConnection)
    with pytest.raises(ConnectionAborted):
        network.run(pending)
    assert network.now == 4
    network.advance(3)  # the answer of the server has no connection any more
