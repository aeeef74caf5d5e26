"""Each verdict of ``netsvc check``, on the simulated network."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from netsvc import Config, EchoFactory, Terms, netsvc_service
from netsvc.check.check_target import parse_check_target
from netsvc.check.finding import Finding, PortVerdict
from netsvc.check.host_check import AT_ONCE, HostCheck
from netsvc.net.server_tls import ServerTLS
from netsvc.testing import Host, Network


@pytest.fixture
def server(network: Network) -> Host:
    server = network.host("server")
    network.host("client")
    network.links().set(latency=0.05)
    return server


def check(network: Network, *targets: str, seconds: float = 3.0, addresses: list[str] | None = None) -> list[Finding]:
    """Check targets of the server from the client. Return the findings at the first address."""
    return [findings[0] for findings in check_all(network, *targets, seconds=seconds, addresses=addresses)]


def check_all(
    network: Network, *targets: str, seconds: float = 3.0, addresses: list[str] | None = None, authorities: str = ""
) -> list[list[Finding]]:
    server, client = network.hosts["server"], network.hosts["client"]
    used = addresses or [server.address]
    checking = HostCheck(client.reactor, "server", used, seconds, authorities)
    parsed = [parse_check_target(text, lambda _name, _transport: None) for text in targets]

    async def collect() -> list[list[Finding]]:
        return [findings async for findings in checking.findings(parsed)]

    return network.run(client.run(collect))


def serve(server: Host, **settings: list[str] | str) -> None:
    netsvc_service(server.reactor, Config(**settings)).startService()  # type: ignore[arg-type]  # of several types


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.issue_cert("server").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority


def verdicts(findings: list[Finding]) -> list[PortVerdict]:
    return [finding.verdict for finding in findings]


# TCP


def test_a_port_that_accepts_is_open_after_one_round_trip(network: Network, server: Host) -> None:
    serve(server, tcp=["1314"])
    [finding] = check(network, "tcp/1314")
    assert (finding.verdict, finding.reason, finding.address) == (PortVerdict.OPEN, "", server.address)
    assert finding.connect_seconds == pytest.approx(0.1)
    assert (finding.path_mtu.at_least, finding.path_mtu.at_most) == (None, None)


def test_a_port_without_a_program_is_refused(network: Network, server: Host) -> None:
    [finding] = check(network, "tcp/9")
    assert finding.verdict is PortVerdict.REFUSED
    assert finding.connect_seconds is None


def test_a_partition_is_filtered_when_the_time_is_over(network: Network, server: Host) -> None:
    serve(server, tcp=["1314"])
    network.link("client", "server").partition()
    [finding] = check(network, "tcp/1314", seconds=2.5)
    assert finding.verdict is PortVerdict.FILTERED
    assert network.now == pytest.approx(2.5, abs=0.1)
    assert finding.reason == "no answer within 2.5 s; the host is down, or a firewall drops the packets"


@pytest.mark.parametrize("direction", [("client", "server"), ("server", "client")])
def test_a_link_that_loses_one_direction_is_filtered(
    network: Network, server: Host, direction: tuple[str, str]
) -> None:
    serve(server, tcp=["1314"], udp=["520"])
    network.link_from(*direction).set(loss=1.0)
    assert verdicts(check(network, "tcp/1314", "udp/520")) == [PortVerdict.FILTERED, PortVerdict.NO_ANSWER]


def test_a_lost_packet_makes_the_connection_slow_and_not_filtered(network: Network, server: Host) -> None:
    serve(server, tcp=["1314"])
    network.link_from("client", "server").set(loss=1.0)
    network.call_later(0.5, lambda: network.links().set(loss=0.0))
    [finding] = check(network, "tcp/1314")
    assert finding.verdict is PortVerdict.OPEN
    assert finding.connect_seconds == pytest.approx(1.1, abs=0.05)


def test_an_address_without_a_host_is_unreachable_with_the_reason(network: Network, server: Host) -> None:
    [finding] = check(network, "tcp/1314", seconds=5.0, addresses=["192.0.2.99"])
    assert (finding.verdict, finding.address) == (PortVerdict.UNREACHABLE, "192.0.2.99")
    assert finding.reason == "no route to host; the host is down, or a router or firewall rejects the packets"


def test_a_family_without_a_route_is_unreachable(network: Network) -> None:
    network.host("server", "10.0.0.1")
    network.host("client", "10.0.0.2")
    findings = check(network, "tcp/1", "udp/1", addresses=["2001:db8::1"])
    assert verdicts(findings) == [PortVerdict.UNREACHABLE, PortVerdict.UNREACHABLE]
    assert {finding.reason for finding in findings} == {
        "address family not supported by protocol; this host has no IPv6; choose an IPv4 address, or -4"
    }


def test_each_address_has_a_finding(network: Network, server: Host) -> None:
    serve(server, tcp=[f"{server.address}:1314"])
    addresses = list(server.addresses)
    [findings] = check_all(network, "tcp/1314", addresses=addresses)
    assert [finding.address for finding in findings] == addresses
    assert verdicts(findings) == [PortVerdict.OPEN, PortVerdict.REFUSED]


# UDP


def test_a_timestamp_server_answers(network: Network, server: Host) -> None:
    serve(server, udp=["520"])
    [finding] = check(network, "udp/520")
    assert (finding.verdict, finding.questions) == (PortVerdict.OPEN, 1)
    assert finding.answer_seconds == pytest.approx(0.1)
    assert finding.path_mtu.at_least == len("netsvc check 0123456789abcdef") + 28


def test_a_datagram_to_a_port_without_a_program_is_refused(network: Network, server: Host) -> None:
    [finding] = check(network, "udp/9")
    assert finding.verdict is PortVerdict.REFUSED
    assert network.now == pytest.approx(0.1, abs=0.01)


def test_a_silent_program_may_be_open_or_filtered(network: Network, server: Host) -> None:
    server.reactor.listenUDP(7777, DatagramProtocol())
    [finding] = check(network, "udp/7777", seconds=1.5)
    assert (finding.verdict, finding.questions) == (PortVerdict.NO_ANSWER, 3)
    assert finding.reason == ("no answer to 3 questions (timestamp) within 1.5 s; open or filtered, UDP does not tell")


def test_a_lost_question_is_asked_again_and_the_time_is_that_of_the_answered_one(
    network: Network, server: Host
) -> None:
    serve(server, udp=["520"])
    network.link_from("client", "server").set(loss=1.0)
    network.call_later(0.5, lambda: network.links().set(loss=0.0))
    [finding] = check(network, "udp/520")
    assert (finding.verdict, finding.questions) == (PortVerdict.OPEN, 2)
    assert finding.answer_seconds == pytest.approx(0.1)


class Answering(DatagramProtocol):
    """Answers every question in the same way, after some time."""

    def __init__(self, host: Host, answer: bytes, delay: float) -> None:
        self._host, self._answer, self._delay = host, answer, delay

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        assert self.transport is not None
        self._host.reactor.callLater(self._delay, self.transport.write, self._answer, addr)


def test_an_answer_without_the_token_shows_that_the_port_is_open(network: Network, server: Host) -> None:
    server.reactor.listenUDP(7777, Answering(server, b"what?", 0.0))
    [finding] = check(network, "udp/7777")
    assert finding.verdict is PortVerdict.OPEN
    assert finding.answer_seconds == pytest.approx(0.1)


def test_the_time_of_an_answer_is_unknown_if_it_may_be_to_one_of_several_questions(
    network: Network, server: Host
) -> None:
    server.reactor.listenUDP(7777, Answering(server, b"what?", 1.5))
    [finding] = check(network, "udp/7777")
    assert (finding.verdict, finding.answer_seconds, finding.questions) == (PortVerdict.OPEN, None, 2)


# TLS


def test_a_tls_server_is_open_with_its_certificate(
    network: Network, server: Host, authority: trustme.CA, tmp_path: Path
) -> None:
    serve(server, tcp=["1316"], tls_cert=str(tmp_path / "server.pem"))
    [[finding]] = check_all(network, "tls/1316", authorities=str(tmp_path / "ca.pem"))
    assert finding.verdict is PortVerdict.OPEN
    assert finding.connect_seconds == pytest.approx(0.1)
    assert finding.handshake_seconds == pytest.approx(0.1)  # one round trip in TLS 1.3
    assert finding.tls is not None
    assert finding.tls.certificate is not None
    assert (finding.tls.certificate.names, finding.tls.certificate.problems) == (("server",), ())
    [[untrusted], [plain]] = check_all(network, "tls/1316", "tcp/1316")
    assert untrusted.tls is not None
    assert untrusted.tls.certificate is not None
    assert (untrusted.verdict, len(untrusted.tls.certificate.problems)) == (PortVerdict.OPEN, 1)
    assert (plain.verdict, plain.tls) == (PortVerdict.OPEN, None)


def test_a_server_without_tls_is_told_from_one_with_it(network: Network, server: Host) -> None:
    serve(server, tcp=["1314"], chat=["1400"], daytime=["13"])
    findings = check(network, "tls/1314", "tls/1400", "tls/13")
    assert verdicts(findings) == [PortVerdict.NO_TLS] * 3
    assert findings[0].reason == "the server does not speak TLS; try tcp/1314"
    assert all(finding.connect_seconds == pytest.approx(0.1) for finding in findings)


def test_a_tls_port_that_is_closed_or_filtered_is_no_matter_of_tls(network: Network, server: Host) -> None:
    assert verdicts(check(network, "tls/9")) == [PortVerdict.REFUSED]
    network.link("client", "server").partition()
    assert verdicts(check(network, "tls/9")) == [PortVerdict.FILTERED]


class Silent(Protocol):
    """Reads and says nothing."""


def listen(server: Host, port: int, protocol: type[Protocol]) -> None:
    serverFromString(server.reactor, f"tcp:{port}").listen(Factory.forProtocol(protocol))


def test_a_server_that_waits_for_something_else_gives_no_answer(network: Network, server: Host) -> None:
    listen(server, 7, Silent)
    [finding] = check(network, "tls/7", seconds=2.0)
    assert finding.verdict is PortVerdict.NO_ANSWER
    assert finding.reason == ("no answer to the handshake within 2 s; if the server does not speak TLS, try tcp/7")


def test_a_handshake_that_gets_stuck_points_to_large_packets(
    network: Network, server: Host, authority: trustme.CA, tmp_path: Path
) -> None:
    class Stuck(Protocol):
        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03")  # the head of a ServerHello

    listen(server, 7, Stuck)
    [finding] = check(network, "tls/7", seconds=2.0)
    assert finding.verdict is PortVerdict.NO_ANSWER
    assert finding.reason == "the handshake is not complete after 2 s; large packets may be lost on the way"


@pytest.mark.parametrize(("alert", "words"), [(120, "no application protocol"), (80, "internal error")])
def test_a_server_that_refuses_the_offer_of_protocols_is_asked_without_it(
    network: Network, server: Host, authority: trustme.CA, tmp_path: Path, alert: int, words: str
) -> None:
    tls = ServerTLS(server.reactor, str(tmp_path / "server.pem"))

    class Choosy(Protocol):
        """Refuses a client that offers HTTP by an alert, and passes others on to TLS."""

        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            if b"http/1.1" in data:
                self.transport.write(bytes([21, 3, 3, 0, 2, 2, alert]))
                self.transport.loseConnection()
                return
            secure = tls.wrap(Factory.forProtocol(Silent)).buildProtocol(self.transport.getPeer())
            assert secure is not None
            self.dataReceived = secure.dataReceived  # type: ignore[method-assign]  # the rest of the connection
            secure.makeConnection(self.transport)
            secure.dataReceived(data)

    listen(server, 7, Choosy)
    [finding] = check(network, "tls/7")
    assert finding.verdict is PortVerdict.OPEN
    assert finding.tls is not None
    assert (finding.tls.alpn, finding.tls.alpn_refusal) == ("", words)


# Several at once


def test_the_targets_are_checked_at_once_and_reported_in_their_order(network: Network, server: Host) -> None:
    serve(server, tcp=["1314"])
    listen(server, 7, Silent)
    findings = check(network, "tls/7", "tcp/9", "udp/9", "tcp/1314", seconds=2.0)
    assert [finding.target.text for finding in findings] == ["tls/7", "tcp/9", "udp/9", "tcp/1314"]
    assert verdicts(findings) == [PortVerdict.NO_ANSWER, PortVerdict.REFUSED, PortVerdict.REFUSED, PortVerdict.OPEN]
    assert network.now == pytest.approx(2.1, abs=0.05)


def test_the_number_of_open_sockets_is_bounded(network: Network, server: Host) -> None:
    server.reactor.listenTCP(1314, EchoFactory(Terms.on(server.reactor)))
    network.link_from("server", "client").set(loss=1.0)
    client = network.hosts["client"]
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, len({*client.reactor.getReaders(), *client.reactor.getWriters()}))

    for tenth in range(60):
        network.call_later(tenth / 10, count)
    findings = check(network, *[f"tcp/{port}" for port in range(1, 41)], seconds=1.0)
    assert verdicts(findings) == [PortVerdict.FILTERED] * 40
    assert 0 < most <= AT_ONCE
    assert network.now == pytest.approx(3.0, abs=0.1)  # 40 checks in three turns


def test_closed_sockets_are_left_when_the_check_ends(network: Network, server: Host) -> None:
    serve(server, tcp=["1314"], udp=["520"])
    listen(server, 7, Silent)
    check(network, "tcp/1314", "udp/520", "tls/7", "tls/1314", "udp/9", "tcp/9", seconds=1.0)
    network.advance(10.0)
    reactor = network.hosts["client"].reactor
    assert (reactor.getReaders(), reactor.getWriters(), reactor.getDelayedCalls()) == ([], [], [])
