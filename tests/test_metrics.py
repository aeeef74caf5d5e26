from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.address import UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from netsvc.echo.server import EchoFactory
from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.net.http_site import HEAD_TIMEOUT, MAX_CLIENTS, MAX_PER_HOST, REQUEST_TIMEOUT
from netsvc.net.store_counters import StoreCounters
from tests.connections import connect, terms
from tests.reported_pages import Pages

#: A request whose body never ends.
UNFINISHED = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
def pages() -> Pages:
    return Pages()


def metrics_of(text: str) -> dict[str, float]:
    return {
        sample.name + (f" {sample.labels['cause']}" if "cause" in sample.labels else ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("service") == "tcp"
    }


def test_every_counter_is_a_prometheus_metric(pages: Pages) -> None:
    counters = pages.tcp
    counters.opened, counters.closed, counters.received_bytes, counters.sent_bytes = 5, 2, 100, 200
    counters.dropped_bytes, counters.replies, counters.stalls, counters.dropped_lines = 7, 11, 13, 17
    counters.dropped_datagrams = 19
    counters.refuse(Cause.SERVER_FULL, "192.0.2.1")
    counters.disconnect(Cause.SEND_QUEUE_FULL, "192.0.2.1")
    counters.unsent["EHOSTUNREACH"] += 2
    counters.unreceived["ENOMEM"] += 3
    status, body = pages.get("/metrics")
    assert status == 200
    assert metrics_of(body) == {
        "netsvc_connections": 3,
        "netsvc_dropped_datagrams_total": 19,
        "netsvc_connections_opened_total": 5,
        "netsvc_received_bytes_total": 100,
        "netsvc_sent_bytes_total": 200,
        "netsvc_dropped_bytes_total": 7,
        "netsvc_dropped_lines_total": 17,
        "netsvc_replies_total": 11,
        "netsvc_stalls_total": 13,
        "netsvc_refused_total server_full": 1,
        "netsvc_disconnected_total send_queue_full": 1,
        "netsvc_unsent_total EHOSTUNREACH": 2,
        "netsvc_unreceived_total ENOMEM": 3,
    }


def test_the_metrics_include_those_of_the_process(pages: Pages) -> None:
    _, body = pages.get("/metrics")
    assert re.search(r"^process_open_fds [1-9]", body, re.MULTILINE)
    assert re.search(r"^process_resident_memory_bytes [1-9]", body, re.MULTILINE)


def test_open_metrics_are_served_on_request(pages: Pages) -> None:
    answer = pages.request(b"GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n")
    assert b"application/openmetrics-text" in answer
    assert answer.endswith(b"# EOF\n")


def test_the_health_and_readiness_pages_report_the_state(pages: Pages) -> None:
    assert pages.get("/healthz") == (200, "ok\n")
    assert pages.get("/readyz") == (200, "ready\n")
    pages.ready = False
    assert pages.get("/readyz") == (503, "not ready\n")
    assert pages.get("/healthz") == (200, "ok\n")


def test_the_root_names_the_pages_and_anything_else_is_not_found(pages: Pages) -> None:
    assert pages.get("/") == (200, "/status\n/status.json\n/metrics\n/healthz\n/readyz\n")
    assert pages.get("/etc/passwd")[0] == 404


@pytest.mark.filterwarnings("ignore:.*_UnsafeErrorPage:DeprecationWarning")  # the page is Twisted's own
def test_a_post_request_is_refused(pages: Pages) -> None:
    assert pages.request(b"POST /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 405 ")


def test_the_body_of_a_request_is_not_buffered(pages: Pages) -> None:
    protocol, transport = pages.connect() or pytest.fail("refused")
    head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"
    protocol.dataReceived(head)
    for _ in range(100):
        protocol.dataReceived(bytes(65_536))
    [request] = protocol.wrappedProtocol._channel.requests
    assert request.content.getvalue() == b""
    pages.clock.advance(REQUEST_TIMEOUT)
    assert transport.disconnecting


def test_a_connection_answers_only_its_first_request(pages: Pages) -> None:
    protocol, transport = pages.connect() or pytest.fail("refused")
    protocol.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000)
    answer = transport.value()
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer.lower()
    assert transport.disconnecting


def test_a_client_that_half_closes_after_its_request_is_answered(pages: Pages) -> None:
    protocol, transport = pages.connect() or pytest.fail("refused")
    protocol.dataReceived(b"GET /healthz HTTP/1.0\r\n\r\n")
    IHalfCloseableProtocol(protocol).readConnectionLost()
    assert transport.value().endswith(b"ok\n")
    assert transport.disconnecting


def test_a_client_that_half_closes_before_its_request_is_closed(pages: Pages) -> None:
    protocol, transport = pages.connect() or pytest.fail("refused")
    IHalfCloseableProtocol(protocol).readConnectionLost()
    assert transport.disconnecting
    protocol.connectionLost(Failure(ConnectionDone()))
    assert (pages.own_counters.opened, pages.own_counters.closed) == (1, 1)


@pytest.mark.parametrize("accept", ["text/plain;version=zzz", "application/openmetrics-text; version=abc", ";;,,;q=x"])
def test_any_accept_header_is_answered_with_metrics(pages: Pages, accept: str) -> None:
    answer = pages.request(f"GET /metrics HTTP/1.0\r\nAccept: {accept}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/", "/nothing"])
def test_a_head_request_gets_the_head_and_is_not_logged(pages: Pages, path: str) -> None:
    with capturedLogs() as events:
        head, _, body = pages.request(f"HEAD {path}?x HTTP/1.0\r\n\r\n".encode()).partition(b"\r\n\r\n")
    assert body == b""
    assert b"content-length" in head.lower()
    assert not events


def test_a_request_that_arrives_too_slowly_is_aborted_at_the_deadline(pages: Pages) -> None:
    protocol, transport = pages.connect() or pytest.fail("refused")
    for _ in range(4):
        assert not transport.disconnecting
        protocol.dataReceived(b"x")
        pages.clock.advance(HEAD_TIMEOUT / 4)
    assert transport.disconnecting


def test_connections_are_closed_when_the_site_stops(pages: Pages) -> None:
    site: Any = pages.site
    site.doStart()
    _, transport = pages.connect() or pytest.fail("refused")
    site.doStop()
    assert transport.disconnecting


def test_clients_above_the_maximum_are_refused_and_silent_clients_are_closed(pages: Pages) -> None:
    connections = [pages.connect(f"192.0.2.{number}") for number in range(MAX_CLIENTS)]
    for protocol, _ in filter(None, connections):
        protocol.dataReceived(UNFINISHED)
    assert pages.connect("198.51.100.1") is None
    assert pages.own_counters.refused == {Cause.SERVER_FULL: 1}
    pages.clock.advance(REQUEST_TIMEOUT)
    assert all(transport.disconnecting for _, transport in filter(None, connections))
    assert pages.own_counters.disconnected == {Cause.REQUEST_TIMEOUT: MAX_CLIENTS}
    pages.clock.advance(60)  # so that Twisted aborts them


def test_the_connection_that_waits_for_its_request_for_longest_makes_room(pages: Pages) -> None:
    connections = []
    for number in range(MAX_CLIENTS):
        connections.append(pages.connect(f"192.0.2.{number}") or pytest.fail("refused"))
        pages.clock.advance(0.01)
    connections[0][0].dataReceived(UNFINISHED)
    assert pages.connect("198.51.100.1") is not None
    assert pages.connect("198.51.100.2") is not None
    assert [transport.disconnecting for _, transport in connections] == [False, True, True] + [False] * 13
    assert pages.own_counters.disconnected == {Cause.DISPLACED: 2}


def test_a_host_has_a_maximum_of_its_own(pages: Pages) -> None:
    connections = [pages.connect() or pytest.fail("refused") for _ in range(MAX_PER_HOST)]
    assert pages.connect() is not None  # in place of its oldest one
    assert [transport.disconnecting for _, transport in connections] == [True] + [False] * (MAX_PER_HOST - 1)
    pages = Pages()
    connections = [pages.connect() or pytest.fail("refused") for _ in range(MAX_PER_HOST)]
    for protocol, _ in connections:
        protocol.dataReceived(UNFINISHED)
    assert pages.connect() is None
    assert pages.connect("192.0.2.2") is not None
    lost, _ = connections[0]
    lost.connectionLost(Failure(ConnectionDone()))
    assert pages.connect() is not None


def test_a_client_on_a_unix_socket_needs_no_host_header(pages: Pages) -> None:
    protocol: Any = pages.site.buildProtocol(UNIXAddress(None))
    transport = StringTransport(hostAddress=UNIXAddress(b"/run/netsvc"), peerAddress=UNIXAddress(None))
    protocol.makeConnection(transport)
    protocol.dataReceived(b"GET /readyz HTTP/1.0\r\n\r\n")
    assert transport.value().endswith(b"ready\n")


def test_a_peer_that_is_not_allowed_is_refused_and_takes_no_place() -> None:
    pages = Pages(networks=NetworkRules(deny=["192.0.2.0/24"]))
    assert [pages.connect() for _ in range(MAX_CLIENTS)] == [None] * MAX_CLIENTS
    assert pages.connect("198.51.100.1") is not None
    assert pages.own_counters.refused == {Cause.NOT_ALLOWED: MAX_CLIENTS}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9100", 200),
        ("127.0.0.1:9100", 200),
        ("[::1]:9100", 200),
        ("192.0.2.7", 200),
        ("monitor.example.org:9100", 200),
        ("Monitor.Example.org.", 200),
        ("attacker.example", 403),
        ("localhost.attacker.example", 403),
        ("", 403),
    ],
)
def test_a_request_must_name_this_server(host: str, status: int) -> None:
    pages = Pages(names=["monitor.example.org"])
    answer = pages.request(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert pages.own_counters.refused == ({} if status == 200 else {Cause.HOST_NAME: 1})


def test_the_end_of_the_certificate_is_a_metric(pages: Pages) -> None:
    assert "netsvc_certificate_expiry_seconds" not in pages.get("/metrics")[1]
    pages.certificate_expires = 1_800_000_000.0
    assert "\nnetsvc_certificate_expiry_seconds 1.8e+09\n" in pages.get("/metrics")[1]


def test_a_store_that_is_shared_has_metrics(pages: Pages) -> None:
    assert "netsvc_store" not in pages.get("/metrics")[1]
    pages.tcp.store = StoreCounters("redis")
    pages.tcp.store.waiting = lambda: (3, 1.5)
    pages.tcp.store.nodes = lambda: ("7716487e53b8", 2)
    pages.tcp.store.is_connected = True
    pages.tcp.store.appends, pages.tcp.store.append_seconds = 4, 0.5
    pages.tcp.store.connections, pages.tcp.store.refused = 5, 6
    pages.tcp.store.gaps, pages.tcp.store.filled, pages.tcp.store.new_logs = 7, 8, 9
    metrics = metrics_of(pages.get("/metrics")[1])
    of_store = {name.removeprefix("netsvc_store_"): value for name, value in metrics.items() if "netsvc_store" in name}
    assert {name.partition("{")[0]: value for name, value in of_store.items()} == {
        **{
            "up": 1,
            "nodes": 2,
            "waiting": 3,
            "oldest_wait_seconds": 1.5,
            "appends_total": 4,
            "append_seconds_total": 0.5,
        },
        **{"connections_total": 5, "refused_total": 6, "gaps_total": 7, "filled_entries_total": 8, "new_logs_total": 9},
    }
    assert "appends: 4, mean 125.0 ms, 6 refused; waiting: 3, the oldest for 1.5 s" in pages.tcp.summary()


def test_the_sources_that_were_refused_most_are_metrics(pages: Pages) -> None:
    for number in range(6):
        for _ in range(number + 1):
            pages.tcp.refuse(Cause.DATAGRAM_RATE, f"::ffff:192.0.2.{number}")
    found = [line for line in pages.get("/metrics")[1].splitlines() if line.startswith("netsvc_top_rate")]
    assert found == [
        f'netsvc_top_rate_limited_datagrams{{network="192.0.2.{number}",service="tcp"}} {number + 1}.0'
        for number in (5, 4, 3, 2, 1)
    ]


def test_the_largest_networks_are_metrics(pages: Pages) -> None:
    pages.connections.connection_opened(connect(EchoFactory(terms(pages.clock)))[0])
    assert 'netsvc_top_network_connections{network="192.0.2.0/24"} 1.0' in pages.get("/metrics")[1]
