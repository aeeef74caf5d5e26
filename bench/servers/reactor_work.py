"""Work that a process does on one reactor, for ``python -m bench.reactors``.

``python -m bench.servers.reactor_work WORK REACTOR`` does the work and prints JSON: the processor time of this process,
in seconds, and the number of units of work. The load comes from other processes, whose time does not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.measure import free_port
from bench.servers.run import REACTORS

LOAD = [sys.executable, "-S", str(Path(__file__).with_name("blocking_load.py"))]

WORK: dict[str, Callable[[Any, Callable[[float], None]], None]] = {}


def work(start: Callable[[Any, Callable[[float], None]], None]) -> Callable[[Any, Callable[[float], None]], None]:
    """Register a function that starts work on a reactor, and calls its second argument with the units at the end."""
    WORK[start.__name__.replace("_", "-")] = start
    return start


def main(name: str, reactor_name: str) -> None:
    module, _, class_name = REACTORS[reactor_name].rpartition(".")
    from twisted.internet.main import installReactor

    reactor = getattr(import_module(module), class_name)()
    installReactor(reactor)
    began: list[float] = []
    units: list[float] = []

    def start() -> None:
        began.append(time.process_time())
        WORK[name](reactor, done)

    def done(number: float) -> None:
        units.append(number)
        reactor.stop()

    reactor.callWhenRunning(start)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # for the files of the work
        reactor.run()
    if not units:
        sys.exit(1)
    sys.stdout.write(json.dumps({"cpu": time.process_time() - began[0], "units": units[0]}))


def in_process(command: list[Any], then: Callable[[str], None]) -> None:
    """Run a command while the reactor runs. ``then`` is called with what it printed. If it fails, the reactor stops."""
    from twisted.internet import reactor  # noqa: TID251  it is installed
    from twisted.internet.threads import deferToThread

    run = partial(subprocess.run, [str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)

    def failed(failure: Any) -> None:
        sys.stderr.write(failure.getErrorMessage() + "\n")
        reactor.stop()

    deferToThread(run).addCallback(lambda done: then(done.stdout)).addErrback(failed)


def port_of(reactor: Any, factory: Any) -> int:
    number: int = reactor.listenTCP(0, factory, 1_024, interface="127.0.0.1").getHost().port
    return number


def tls_port_of(reactor: Any, factory: Any) -> int:
    import trustme
    from twisted.internet.ssl import PrivateCertificate

    pem = trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
    factory.noisy = False
    options = PrivateCertificate.loadPEM(pem).options()
    number: int = reactor.listenSSL(0, factory, options, 1_024, "127.0.0.1").getHost().port
    return number


@work
def lines(reactor: Any, done: Callable[[float], None]) -> None:
    """Receive 30 MB of lines of 64 bytes at once. A unit is 1 MB."""
    from twisted.internet.protocol import Factory
    from twisted.protocols.basic import LineReceiver

    class Receiver(LineReceiver):
        delimiter = b"\n"

        def lineReceived(self, line: bytes) -> None: ...

    factory: Any = Factory.forProtocol(Receiver)
    in_process([*LOAD, "send", port_of(reactor, factory), 30], lambda _: done(30))


@work
def one_timer(reactor: Any, done: Callable[[float], None]) -> None:
    """One LoopingCall at 1 kHz for 2 s. A unit is one call."""
    _timers(reactor, done, 1, 0.001)


@work
def thousand_timers(reactor: Any, done: Callable[[float], None]) -> None:
    """1,000 LoopingCalls at 20 Hz for 2 s. A unit is one call."""
    _timers(reactor, done, 1_000, 0.05)


def _timers(reactor: Any, done: Callable[[float], None], number: int, interval: float) -> None:
    from twisted.internet.task import LoopingCall

    calls = [0]

    def tick() -> None:
        calls[0] += 1

    for index in range(number):
        reactor.callLater(index * interval / number, LoopingCall(tick).start, interval)
    reactor.callLater(2, lambda: done(calls[0]))


def _redis_server() -> tuple[subprocess.Popen[bytes], int]:
    """Start redis-server. Returns it and its port when it answers.

    Meanwhile the system may have given the free port to a client. Then the server ends, and another port is tried.
    """
    while True:
        port = free_port()
        server = subprocess.Popen(["redis-server", "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
        while server.poll() is None:
            ping = ["redis-cli", "-p", str(port), "ping"]
            if not subprocess.run(ping, capture_output=True, check=False).returncode:
                return server, port
            time.sleep(0.01)


@work
def redis(_: Any, done: Callable[[float], None]) -> None:
    """Read a list of 100,000 elements with txredisapi, three times. A unit is one element."""
    import txredisapi
    from twisted.internet.defer import inlineCallbacks

    server, port = _redis_server()
    client = ["redis-cli", "-p", str(port)]
    commands = f"RPUSH list {' '.join(['element'] * 1_000)}\n" * 100
    subprocess.run(client, input=commands, text=True, stdout=subprocess.DEVNULL, check=True)

    @inlineCallbacks
    def read() -> Any:
        try:
            connection = yield txredisapi.Connection("127.0.0.1", port, reconnect=False)
            for _ in range(3):
                elements = yield connection.lrange("list", 0, -1)
                assert len(elements) == 100_000
        finally:
            server.kill()
        done(300_000)

    read()


def _site() -> Any:
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            return b"hello, world\n"

    site = Site(Page())
    site.noisy = False
    return site


@work
def http_keep_alive(reactor: Any, done: Callable[[float], None]) -> None:
    """Answer wrk on 20 connections for 2 s. A unit is one request."""
    _wrk(reactor, done, [])


@work
def http_close(reactor: Any, done: Callable[[float], None]) -> None:
    """Answer wrk on 20 connections that close after each request, for 2 s. A unit is one request."""
    _wrk(reactor, done, ["-H", "Connection: close"])


@work
def https_keep_alive(reactor: Any, done: Callable[[float], None]) -> None:
    """Answer wrk on 20 TLS connections for 2 s. A unit is one request."""
    _wrk(reactor, done, [], f"https://127.0.0.1:{tls_port_of(reactor, _site())}/")


@work
def tls_receive(reactor: Any, done: Callable[[float], None]) -> None:
    """Receive 200 MB over TLS. A unit is 1 MB."""
    from twisted.internet.protocol import Factory, Protocol

    in_process([*LOAD, "tls-send", tls_port_of(reactor, Factory.forProtocol(Protocol)), 200], lambda _: done(200))


@work
def tls_send(reactor: Any, done: Callable[[float], None]) -> None:
    """Send 200 MB over TLS, as fast as the peer reads. A unit is 1 MB."""
    from twisted.internet.protocol import Factory, Protocol

    class Sender(Protocol):
        left = 200 * 16
        transport: Any

        def connectionMade(self) -> None:
            self.transport.registerProducer(self, True)
            self.producing = True
            self.resumeProducing()

        def pauseProducing(self) -> None:
            self.producing = False

        def resumeProducing(self) -> None:
            self.producing = True
            while self.producing and self.left:
                self.left -= 1
                self.transport.write(b"x" * 62_500)
            if not self.left and self.producing:
                self.producing = False
                self.transport.unregisterProducer()
                self.transport.loseConnection()

        def stopProducing(self) -> None: ...

    in_process([*LOAD, "tls-receive", tls_port_of(reactor, Factory.forProtocol(Sender))], lambda _: done(200))


def _wrk(reactor: Any, done: Callable[[float], None], options: list[str], url: str = "") -> None:
    url = url or f"http://127.0.0.1:{port_of(reactor, _site())}/"

    def finished(printed: str) -> None:
        done(float(printed.partition(" requests in")[0].split()[-1]))

    in_process(["wrk", "-t1", "-c20", "-d2s", *options, url], finished)


@work
def pipes(reactor: Any, done: Callable[[float], None]) -> None:
    """Send 20,000 pieces of 1 KiB through cat, one after the other. A unit is one piece."""
    from twisted.internet.protocol import ProcessProtocol

    class Cat(ProcessProtocol):
        received = 0
        transport: Any

        def connectionMade(self) -> None:
            self.transport.write(b"x" * 1_024)

        def outReceived(self, data: bytes) -> None:
            self.received += len(data)
            if self.received % 1_024 == 0:
                if self.received == 20_000 * 1_024:
                    self.transport.closeStdin()
                else:
                    self.transport.write(b"x" * 1_024)

        def processEnded(self, reason: Any) -> None:
            done(20_000)

    reactor.spawnProcess(Cat(), "/bin/cat", ["cat"])


@work
def unix(reactor: Any, done: Callable[[float], None]) -> None:
    """Echo on 20 UNIX sockets. A unit is one echo."""
    reactor.listenUNIX("./socket", _echo())
    in_process([*LOAD, "echo", "./socket", 20, 3_000], lambda _: done(60_000))


@work
def connect(reactor: Any, done: Callable[[float], None]) -> None:
    """Accept a connection, echo 64 bytes, close. A unit is one connection."""
    in_process([*LOAD, "connect", port_of(reactor, _echo()), 8_000], lambda _: done(8_000))


@work
def echo(reactor: Any, done: Callable[[float], None]) -> None:
    """Echo on 20 TCP connections. A unit is one echo."""
    in_process([*LOAD, "echo", port_of(reactor, _echo()), 20, 3_000], lambda _: done(60_000))


def _echo() -> Any:
    from twisted.internet.protocol import Factory
    from twisted.protocols.wire import Echo

    factory: Any = Factory.forProtocol(Echo)
    factory.noisy = False
    return factory


@work
def dns(reactor: Any, done: Callable[[float], None]) -> None:
    """Answer 10,000 queries for one address with twisted.names, 32 of them under way. A unit is one query."""
    _dns(reactor, done, 32)


@work
def dns_one(reactor: Any, done: Callable[[float], None]) -> None:
    """Answer 10,000 queries one after the other. A unit is one query."""
    _dns(reactor, done, 1)


def _dns(reactor: Any, done: Callable[[float], None], in_flight: int) -> None:
    from twisted.names.authority import PySourceAuthority
    from twisted.names.dns import DNSDatagramProtocol
    from twisted.names.server import DNSServerFactory

    Path("zone").write_text("zone = [SOA('example.test', 'ns', 'root'), A('a.example.test', '192.0.2.1')]")
    factory: Any = DNSServerFactory(authorities=[PySourceAuthority("zone")])
    port = reactor.listenUDP(0, DNSDatagramProtocol(factory), "127.0.0.1")
    in_process([*LOAD, "dns", port.getHost().port, in_flight, 10_000], lambda _: done(10_000))


@work
def smtp(reactor: Any, done: Callable[[float], None]) -> None:
    """Receive three messages of 10 MB with SMTP. A unit is one message."""
    from twisted.internet import defer
    from twisted.internet.protocol import ServerFactory
    from twisted.mail.smtp import ESMTP, IMessage, IMessageDelivery
    from zope.interface import implementer

    @implementer(IMessage)
    class Message:
        def lineReceived(self, line: bytes) -> None: ...

        def eomReceived(self) -> Any:
            return defer.succeed(None)

        def connectionLost(self) -> None: ...

    @implementer(IMessageDelivery)
    class Delivery:
        def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
            return b""

        def validateFrom(self, helo: Any, origin: Any) -> Any:
            return origin

        def validateTo(self, user: Any) -> Any:
            return Message

    class Server(ESMTP):
        def __init__(self) -> None:
            super().__init__()
            self.delivery = Delivery()

    factory: Any = ServerFactory.forProtocol(Server)
    factory.noisy = False
    in_process([sys.executable, LOAD[2], "smtp", port_of(reactor, factory), 3], lambda _: done(3))


@work
def memory(reactor: Any, done: Callable[[float], None]) -> None:
    """Hold 9,000 active connections in three waves and close them. A unit is 1 MiB of memory that is left."""
    before = _rss()
    in_process([*LOAD, "wave", port_of(reactor, _echo()), 3_000, 3], lambda _: reactor.callLater(0.5, finish))

    def finish() -> None:
        done(_rss() - before)


def _rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main(*sys.argv[1:])
