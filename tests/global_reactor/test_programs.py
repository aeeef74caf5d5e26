"""Programs that use Twisted's global reactor, unmodified, on the simulated network."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
import trustme
from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet import reactor as global_reactor  # noqa: TID251  as programs import it
from twisted.internet import ssl, task, threads
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import ClientCreator, Factory, Protocol
from twisted.mail.smtp import SMTP, SMTPClientError, SMTPFactory, SMTPSenderFactory
from twisted.protocols import memcache as _memcache
from twisted.protocols.ftp import FTPClient, FTPFactory, FTPRealm
from twisted.protocols.policies import TimeoutMixin
from twisted.protocols.socks import SOCKSv4Factory
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.words.protocols.irc import IRCClient

from netsvc.testing import Host, Network, NotSimulatedError
from netsvc.testing.global_reactor import refusals

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
def server(network: Network) -> Host:
    return network.host("server")


@pytest.fixture
def client(network: Network) -> Host:
    return network.host("client")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> ssl.PrivateCertificate:
    pem = authority.issue_cert("server").private_key_and_cert_chain_pem.bytes()
    loaded: ssl.PrivateCertificate = ssl.PrivateCertificate.loadPEM(pem)
    return loaded


@pytest.fixture
def web(server: Host, certificate: ssl.PrivateCertificate) -> Site:
    """A web site on the server, with and without TLS."""
    site = Site(Upload())
    with server:
        reactor.listenTCP(80, site)
        reactor.listenSSL(443, site, certificate.options())
    return site


def connect(network: Network, client: Host, protocol: Any, port: int, server: str = "server") -> Any:
    """Connect a protocol of the client to a server. Returns the protocol."""
    return network.run(client.run(lambda: connectProtocol(HostnameEndpoint(reactor, server, port), protocol)))


def post(size: int) -> Deferred[bytes]:
    body = FileBodyProducer(BytesIO(b"x" * size))
    asked: Deferred[Any] = Agent(reactor).request(b"POST", b"http://server/", bodyProducer=body)
    return asked.addCallback(readBody)


@pytest.mark.usefixtures("web")
def test_a_post_with_a_file_body_producer_arrives(network: Network, client: Host) -> None:
    assert network.run(client.run(post, 300_000)) == b"300000"


@pytest.mark.usefixtures("web")
def test_https_with_a_pool_of_connections_is_answered(network: Network, client: Host, authority: trustme.CA) -> None:
    trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.cert_pem.bytes())])

    def ask(pool: HTTPConnectionPool) -> Deferred[bytes]:
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(trust), pool=pool)
        asked: Deferred[Any] = agent.request(b"GET", b"https://server/")
        return asked.addCallback(readBody)

    pool = client.run(HTTPConnectionPool, reactor)
    assert [network.run(client.run(ask, pool)) for _ in range(2)] == [b"hello", b"hello"]
    network.run(client.run(pool.closeCachedConnections))


def test_tls_over_an_endpoint_has_timers_of_the_host(
    network: Network, server: Host, client: Host, certificate: ssl.PrivateCertificate, authority: trustme.CA
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

    def connect() -> Deferred[Any]:
        trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.cert_pem.bytes())])
        plain = HostnameEndpoint(reactor, "server", 443)
        connected: Deferred[Any] = connectProtocol(
            wrapClientTLS(ssl.optionsForClientTLS("server", trust), plain), Asker()
        )
        return connected

    with server:
        reactor.listenSSL(443, Factory.forProtocol(Echo), certificate.options())
    network.run(client.run(connect))
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
