"""A trace as a capture for Wireshark, and as a page: read back by scapy, by tshark, and by Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.utils import rdpcap
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from netsvc.testing import Network, TraceEvent
from netsvc.testing.trace import PAYLOADS_MAX, Trace
from netsvc.testing.trace_page import page
from netsvc.testing.trace_pcap import SEGMENT, capture
from tests.browser import browser_page
from tests.test_pytest_plugin import run

HTTP = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000

# A query for the addresses of www.example.org.
DNS = bytes.fromhex("1234 0100 0001 0000 0000 0000 03777777076578616d706c65036f7267 00 0001 0001")


class Answering(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(ANSWER)  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


class Connected(DatagramProtocol):
    transport: Any

    def __init__(self, host: str, port: int, payload: bytes) -> None:
        self._peer, self._payload = (host, port), payload

    def startProtocol(self) -> None:
        self.transport.connect(*self._peer)
        self.transport.write(self._payload)


def talk(network: Network, address: str, **conditions: Any) -> None:
    """Let a client ask by HTTP, and send a datagram to an open port and to a closed one."""
    server, client = network.host("server"), network.host("client")
    network.links().set(latency=0.01, **conditions)
    serverFromString(server.reactor, f"tcp:80:interface={address.replace(':', chr(92) + ':')}").listen(
        Factory.forProtocol(Answering)
    )
    open_port: Any = server.reactor.listenUDP(53, DatagramProtocol(), interface=address)
    host = server.addresses[1] if ":" in address else server.address
    wildcard = "::" if ":" in address else ""
    client.reactor.listenUDP(0, Connected(host, 53, DNS), interface=wildcard)
    client.reactor.listenUDP(0, Connected(host, 5300, b"nobody"), interface=wildcard)
    endpoint = clientFromString(client.reactor, f"tcp:{host.replace(':', chr(92) + ':')}:80")
    asking: Any = network.run(connectProtocol(endpoint, Protocol()))
    asking.transport.write(HTTP)
    network.advance(60)
    network.run(open_port.stopListening())


def stream(packets: Any, port: int) -> bytes:
    """Put the payloads from a port together by their sequence numbers."""
    data = bytearray()
    for packet in packets:
        if TCP in packet and packet[TCP].sport == port and packet[TCP].payload:
            begin = packet[TCP].seq - 1
            payload = bytes(packet[TCP].payload)
            data.extend(bytes(max(0, begin + len(payload) - len(data))))
            data[begin : begin + len(payload)] = payload
    return bytes(data)


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
@pytest.mark.parametrize("conditions", [{}, {"loss": 0.1}, {"loss": 0.02, "tcp": "reno"}, {"bandwidth": 1e6}])
def test_a_capture_has_whole_packets_with_right_checksums_and_streams(
    tmp_path: Path, address: str, conditions: dict[str, Any]
) -> None:
    network = Network(5, payloads=True)
    talk(network, address, **conditions)
    file = tmp_path / "trace.pcap"
    network.trace.pcap(file)
    packets = rdpcap(str(file))
    assert stream(packets, 80) == ANSWER
    layer = IPv6 if ":" in address else IP
    for packet in packets:
        original = bytes(packet)
        for each in (IP, TCP, UDP, ICMP, ICMPv6DestUnreach):
            if each in packet:
                for name in ("chksum", "cksum"):
                    if name in packet[each].fields:
                        del packet[each].fields[name]
        assert bytes(layer(bytes(packet))) == original  # scapy computes the same checksums
    times = [float(packet.time) for packet in packets]
    assert times == sorted(times)
    assert {bytes(packet[UDP].payload) for packet in packets if UDP in packet and ICMP not in packet} >= {
        DNS,
        b"nobody",
    }


def test_a_capture_without_payloads_has_the_whole_lengths(tmp_path: Path) -> None:
    network = Network(5)
    talk(network, "0.0.0.0")
    network.trace.pcap(tmp_path / "trace.pcap")
    packets = rdpcap(str(tmp_path / "trace.pcap"))
    lengths = [int(packet.wirelen or 0) - 40 for packet in packets if TCP in packet]
    assert sum(lengths) == len(HTTP) + len(ANSWER)
    assert max(len(packet) for packet in packets) <= 40 + SEGMENT
    network.trace.pcap(tmp_path / "none.pcap", hosts=["client"])
    assert list(rdpcap(str(tmp_path / "none.pcap"))) == []


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_tshark_dissects_tcp_udp_dns_and_http_without_malformed_packets(tmp_path: Path, address: str) -> None:
    network = Network(5, payloads=True)
    talk(network, address, loss=0.05)
    file = tmp_path / "trace.pcap"
    network.trace.pcap(file)

    def tshark(*options: str) -> list[str]:
        command = [
            "tshark",
            "-r",
            str(file),
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.splitlines()

    bad = "_ws.malformed || tcp.checksum.status == 0 || udp.checksum.status == 0 || icmp.checksum.status == 0"
    assert tshark("-Y", f"{bad} || icmpv6.checksum.status == 0") == []
    assert any("Standard query 0x1234 A www.example.org" in line for line in tshark("-Y", "dns"))
    assert any("GET / HTTP/1.1" in line for line in tshark("-Y", "http.request"))
    tshark("-q", "--export-objects", f"http,{tmp_path}")
    assert sum(each.stat().st_size == 100_000 for each in tmp_path.iterdir()) == 1


def test_payloads_are_bounded() -> None:
    trace = Trace(payloads=True)
    for number in range(5):
        trace.add(number, "a", "data", "b", "1>2", data=bytes(PAYLOADS_MAX // 4))
    assert (len(trace), trace.dropped) == (4, 1)
    assert all(event.length == len(event.data) for event in trace)


@given(st.binary(max_size=60), st.integers(0, 2**31), st.sampled_from(["data", "FIN", "RST", "SYN", "ACK", "note"]))
def test_any_event_can_be_written(data: bytes, offset: int, kind: str) -> None:
    event = TraceEvent(1.5, "a", kind, "b", "1>2", len(data), data, "", ("10.0.0.1", "10.0.0.2"), offset)
    header, *packets = capture([event])
    assert len(header) == 24
    assert len(packets) == (kind != "note")


# The page


def test_a_page_is_one_file_and_no_payload_ends_its_script(tmp_path: Path) -> None:
    network = Network(5, payloads=True)
    talk(network, "0.0.0.0")
    network.note("test", "</script><b>")
    text = page(network.trace, "</script>")
    assert len(re.findall("</script", text)) == 1
    assert "http://" not in text.replace("http://www.w3.org", "")
    data = json.loads(re.search(r"const trace = (.*);\n", text)[1])  # type: ignore[index]
    assert len(data["events"]) == len(network.trace)


@pytest.mark.browser
def test_a_page_filters_zooms_and_shows_an_event(tmp_path: Path) -> None:
    network = Network(5, payloads=True)
    talk(network, "0.0.0.0", loss=0.1)
    network.partition({"server"}, {"client"})
    file = tmp_path / "trace.html"
    network.trace.html(file, "HTTP with losses")
    total = len(network.trace)
    with browser_page(tmp_path) as chromium:
        chromium.goto(file.as_uri())
        count = chromium.locator("#count")
        assert chromium.title() == "HTTP with losses"
        assert count.inner_text() == f"{total} of {total} events"
        chromium.locator("#scroll").focus()
        chromium.keyboard.press("ArrowDown")
        chromium.keyboard.press("ArrowDown")
        assert "event 2, 0.000000000 s: client → server" in chromium.locator("#detail").inner_text()
        chromium.fill("#port", "5300")
        datagrams = sum(event.ports.split(">").count("5300") > 0 for event in network.trace)
        notes = sum(not event.destination for event in network.trace)
        assert count.inner_text() == f"{datagrams + notes} of {total} events"
        chromium.fill("#port", "")
        chromium.fill("#from", "59")
        assert count.inner_text() == f"{sum(event.time >= 59 for event in network.trace)} of {total} events"
        chromium.fill("#from", "")
        chromium.check("#only")
        lost = sum(bool(event.outcome) or event.kind == "RST" for event in network.trace if event.destination)
        assert count.inner_text() == f"{lost + notes} of {total} events"
        chromium.uncheck("#only")
        chromium.locator("#hosts input").first.uncheck()
        assert count.inner_text() == f"{notes} of {total} events"
        height = chromium.evaluate("document.getElementById('space').offsetHeight")
        chromium.locator("#hosts input").first.check()
        chromium.click("#in")
        assert chromium.evaluate("document.getElementById('space').offsetHeight") > height
        chromium.check("#scale")


# The option of pytest


FAILING = """
def test_it(network):
    server, client = network.host("server"), network.host("client")
    client.reactor.listenUDP(0, __import__("twisted.internet.protocol").internet.protocol.DatagramProtocol()).write(
        b"a datagram that is longer than the preview", (server.address, 9))
    network.settle()
    assert False
"""


def test_artifacts_are_written_for_failed_tests_and_the_report_names_them(tmp_path: Path) -> None:
    output = run(tmp_path, FAILING, "--netsvc-artifacts", "traces")
    assert "the trace as a page and as a capture: traces/test_it.py-test_it.html and .pcap" in output
    [packet, *_] = rdpcap(str(tmp_path / "traces" / "test_it.py-test_it.pcap"))
    assert bytes(packet[UDP].payload) == b"a datagram that is longer than the preview"
    assert "test_it.py::test_it, seed" in (tmp_path / "traces" / "test_it.py-test_it.html").read_text()
    assert not (tmp_path / "none").exists()
    run(tmp_path, "def test_it(network):\n    pass\n", "--netsvc-artifacts", "none")
    assert not (tmp_path / "none").exists()


def test_artifacts_of_tests_with_similar_names_do_not_replace_each_other(tmp_path: Path) -> None:
    run(
        tmp_path,
        "import pytest\n"
        '@pytest.mark.parametrize("path", ["a b", "a/b", "a?b", "c" * 200, "c" * 201])\n'
        "def test_it(path, network):\n    assert False\n",
        "--netsvc-artifacts",
        "traces",
    )
    assert len(list((tmp_path / "traces").glob("*.html"))) == 5


def test_a_folder_that_cannot_be_written_is_one_line_of_the_report(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output = run(tmp_path, FAILING, "--netsvc-artifacts", "file/traces")
    assert "--netsvc-artifacts file/traces: Not a directory; name a folder that can be written" in output
