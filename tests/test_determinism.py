"""The same seed gives the same run, also of programs that use random numbers and the clocks of the system."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import time
import uuid
from pathlib import Path
from random import random as imported_by_name
from typing import Any

import pytest
import trustme
from twisted.internet import ssl
from twisted.internet.endpoints import SSL4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

from netsvc.testing import Network
from netsvc.testing.trace import ENCRYPTION_BEGINS
from tests.programs import SECONDS
from tests.scenarios.protocols import RecordingProtocol
from tests.test_pytest_plugin import run

clock: Any = time


def numbers() -> list[Any]:
    """Return what programs use as random numbers."""
    some = [1, 2, 3, 4, 5]
    random.shuffle(some)
    names = [random.random(), random.randrange(1_000_000), imported_by_name(), some]
    system = [os.urandom(8), uuid.uuid4(), secrets.token_hex(), random.SystemRandom().random()]
    generators = [random.Random().random(), random.Random(None).random()]
    random.seed()
    return [*names, *system, *generators, random.random()]


def numbers_in_a_run(seed: int) -> list[Any]:
    network = Network(seed)
    drawn: list[Any] = []
    network.host("host").reactor.callLater(1, lambda: drawn.extend(numbers()))
    network.advance(2)
    with network.hosts["host"]:
        drawn.extend(numbers())
    return drawn


def test_random_numbers_in_a_run_follow_the_seed() -> None:
    one = numbers_in_a_run(1)
    assert one == numbers_in_a_run(1)
    assert not set(map(str, one)) & set(map(str, numbers_in_a_run(2)))
    assert len(set(map(str, one))) == len(one) == 22


def test_each_part_of_a_run_has_other_random_numbers(network: Network) -> None:
    drawn: list[float] = []
    host = network.host("host")
    for _ in range(3):
        host.reactor.callLater(0, lambda: drawn.append(random.random()))
        network.advance(1)
    assert len(set(drawn)) == 3


def test_outside_of_a_run_random_numbers_are_what_they_were(network: Network) -> None:
    random.seed(5)
    expected = [random.random() for _ in range(3)]
    random.seed(5)
    functions = (clock.time, clock.monotonic, os.urandom, random.seed, random.Random.seed)
    drawn = [random.random()]
    network.host("host").reactor.callLater(0, random.random)
    network.advance(1)
    drawn.append(random.random())
    with pytest.raises(ZeroDivisionError):
        network.hosts["host"].run(lambda: random.seed(7) or 1 // 0)
    drawn.append(random.random())
    assert drawn == expected
    assert (clock.time, clock.monotonic, os.urandom, random.seed, random.Random.seed) == functions


def test_a_generator_with_a_seed_of_its_own_keeps_it_in_a_run(network: Network) -> None:
    def draw() -> list[float]:
        random.seed(5)
        return [random.Random(5).random(), random.random()]

    assert network.host("host").run(draw) == draw()


def test_the_clocks_of_the_system_show_the_virtual_time_in_a_run(network: Network) -> None:
    read: list[float] = []

    def read_clocks() -> None:
        read.extend((clock.time(), clock.time_ns() / 1e9, clock.monotonic(), clock.monotonic_ns() / 1e9))

    network.host("host").reactor.callLater(90, read_clocks)
    network.advance(100)
    network.hosts["host"].run(read_clocks)
    assert read == [90] * 4 + [100] * 4
    assert clock.time() > 1_000_000_000


REPLAYED = """
import uuid
from twisted.application.internet import ClientService
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.names import client, dns, server
from netsvc.testing import Network

network = Network(seed=3)
host, other = network.host("host"), network.host("other", "10.0.0.9")
network.links().set(loss=0.2, latency=0.01)


class Greeter(Protocol):
    def connectionMade(self):
        self.transport.write(uuid.uuid4().bytes)
        self.transport.loseConnection()


class Nobody:
    def query(self, *_, **__):
        return __import__("twisted.internet.defer").internet.defer.fail(dns.DomainError("no such name"))


with other:
    other.reactor.listenTCP(7, Factory.forProtocol(Greeter))
    answers = server.DNSServerFactory(clients=[Nobody()])
    other.reactor.listenUDP(53, dns.DNSDatagramProtocol(answers, reactor=other.reactor))
with host:
    endpoint = HostnameEndpoint(host.reactor, "other", 7)
    service = ClientService(endpoint, Factory.forProtocol(Protocol), clock=host.reactor)
    service.startService()
    resolver = client.Resolver(servers=[("10.0.0.9", 53)], reactor=host.reactor)
    resolver.lookupAddress("www.example.net").addErrback(lambda _: None)
network.advance(120)
print(network.trace)
"""


def test_client_service_and_names_replay_in_another_process_with_another_hash_seed(tmp_path: Path) -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", REPLAYED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].count("SYN-ACK") > 5
    assert ">53" in runs[0]


def events_of_tls(authority: trustme.CA, issued: bytes) -> list[tuple[Any, ...]]:
    """Ask an echo server over TLS. Returns the events without their bytes."""
    network = Network(seed=3)
    server, client = network.host("server"), network.host("client")
    network.links().set(latency=0.01, jitter=0.001, bandwidth=1e6)
    trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(authority.cert_pem.bytes())])
    served: Factory[Any] = Factory.forProtocol(Echo)
    with server:
        server.reactor.listenSSL(443, served, ssl.PrivateCertificate.loadPEM(issued).options())
    asker = RecordingProtocol()
    endpoint = SSL4ClientEndpoint(client.reactor, "server", 443, ssl.optionsForClientTLS("server", trust))
    network.run(connectProtocol(endpoint, asker))
    asker.transport.write(b"x" * 5_000)
    network.run(asker.has_received(5_000))
    return [(each.time, each.source, each.kind, each.ports, each.length) for each in network.trace]


def test_runs_with_tls_have_the_same_events_if_signatures_have_one_length() -> None:
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    issued = authority.issue_cert("server", key_type=trustme.KeyType.RSA).private_key_and_cert_chain_pem.bytes()
    one = events_of_tls(authority, issued)
    remarks = [event for event in one if event[2] == ENCRYPTION_BEGINS]
    assert len(remarks) == 1
    assert one[one.index(remarks[0]) + 1][2] == "data"
    assert one.index(remarks[0]) < next(index for index, event in enumerate(one) if event[2] == "data")
    assert all(one == events_of_tls(authority, issued) for _ in range(3))


def test_a_run_that_differs_with_the_same_seed_is_found(tmp_path: Path) -> None:
    test = """
times = iter([1, 1, 1, 2])

def test_same(network):
    network.note("test", next(times))

def test_other(network):
    network.note("test", next(times))
"""
    output = run(tmp_path, test.replace("next(times)", "str(next(times))"), "--netsvc-check-determinism")
    assert "4 passed, 1 error" in output
    assert "the same seed gave another run; event 1 was\n  " in output
    for order in ("no:randomly", "randomly"):
        again = test.replace("next(times)", "str(next(times))").replace("test_other", "test_again")
        output = run(tmp_path, again, "--netsvc-check-determinism", "-p", order)
        assert "the same seed gave another run" in output
    assert "2 passed" in run(tmp_path, "def test_it(network):\n    pass\n", "--netsvc-check-determinism")
