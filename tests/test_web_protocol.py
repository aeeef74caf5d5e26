from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent

from netsvc.chat.hub import ChatHub
from netsvc.chat.pace import DEAD_TIME, PROBE_TIME
from netsvc.chat.web_member import WebChatFactory
from netsvc.limits.admission import Admission
from netsvc.limits.cause import Cause
from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.limits.networks import NetworkRules
from netsvc.limits.stream_limits import StreamLimits
from netsvc.net.drain import CHECK_INTERVAL, SILENCE
from netsvc.net.stream_factory import RefusalProtocol
from netsvc.net.terms import Terms
from netsvc.web.web_protocol import REQUEST_TIMEOUT
from tests.connections import TCPTransport, taken, terms
from tests.web_clients import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    answer,
    answers,
    close,
    frame,
    request,
    upgrade,
)
from tests.web_members import Browser, begun, opened

BEGIN = {"type": "begin"}
PROXY = "10.0.0.1"
PROXIES = NetworkRules(["10.0.0.0/8"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> WebChatFactory:
    return WebChatFactory(terms(clock), rate=0)


def limited(
    clock: Clock, maximum: int = 0, max_per_host: int = 0, connect_rate: float = 0, networks: NetworkRules | None = None
) -> WebChatFactory:
    """Return a service behind reverse proxies."""
    admission = Admission(ConnectionCounter(maximum, max_per_host, 0), networks, connect_rate)
    return WebChatFactory(terms(clock, admission), rate=0, proxies=PROXIES)


# Requests


def test_a_connection_serves_the_page_until_it_is_a_websocket(factory: WebChatFactory) -> None:
    browser = Browser(factory)
    assert browser.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert browser.get("/nothing").status == 404
    assert browser.get("/", "HEAD").body == b""
    assert browser.upgrade().status == 101
    browser.send(BEGIN)
    assert browser.events()[0] == {"type": "welcome", "nick": "guest-1"}


def test_requests_that_are_sent_ahead_are_answered_in_order(factory: WebChatFactory) -> None:
    browser = Browser(factory)
    browser.send(request("/") + request("/x") + request("/", "HEAD") + request("/", "POST"))
    found = answers(taken(browser.transport), "GET", "GET", "HEAD", "POST")
    assert [each.status for each in found] == [200, 404, 200, 405]


def test_messages_that_follow_the_request_at_once_are_messages_of_the_websocket(factory: WebChatFactory) -> None:
    browser = Browser(factory)
    browser.send(request("/x") + upgrade() + frame(TEXT, b'{"type":"ping"}') + frame(PING, b"?"))
    head, _, rest = taken(browser.transport).rpartition(b"\r\n\r\n")
    assert b"HTTP/1.1 101 " in head
    assert rest == frame(TEXT, b'{"type":"pong"}', is_masked=False) + frame(PONG, b"?", is_masked=False)


def test_each_answer_has_the_date_and_the_policy(clock: Clock, factory: WebChatFactory) -> None:
    clock.advance(1_764_000_000)
    browser = Browser(factory)
    for target, method in (("/", "GET"), ("/x", "GET"), ("/", "POST"), ("/ws", "GET")):
        headers = browser.get(target, method).headers
        assert headers["date"] == "Mon, 24 Nov 2025 16:00:00 GMT"
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (request(x="y" * 20_000), 431),
        (request(method="POST", content_length="5") + b"hello", 413),
        (request(transfer_encoding="gzip"), 501),
        (upgrade(sec_websocket_version="8"), 426),
        (upgrade(sec_websocket_key=""), 400),
        (upgrade(sec_websocket_protocol="chat.v2.netsvc"), 400),
        (upgrade(method="POST"), 400),
    ],
)
def test_what_cannot_be_served_is_answered_counted_and_closed(
    factory: WebChatFactory, stream: bytes, status: int
) -> None:
    browser = Browser(factory)
    browser.send(stream + request())
    refused = answer(taken(browser.transport))
    assert refused.status == status
    assert refused.headers["connection"] == "close"
    assert "content-security-policy" in refused.headers
    assert browser.transport.write_closed
    assert factory.terms.counters.refused == {Cause.INVALID_REQUEST: 1}


def test_a_client_of_another_version_is_told_the_right_one(factory: WebChatFactory) -> None:
    assert Browser(factory).upgrade(sec_websocket_version="8").headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("stream", [request("/ws"), request("/ws", "HEAD"), upgrade(version="1.0")])
def test_a_request_for_the_websocket_that_does_not_upgrade_is_told_so(factory: WebChatFactory, stream: bytes) -> None:
    browser = Browser(factory)
    browser.send(stream)
    refused = answer(taken(browser.transport), stream.split()[0].decode())
    assert refused.status == 426
    assert refused.headers["upgrade"] == "websocket"


def test_a_page_below_a_path_has_its_websocket_there(clock: Clock) -> None:
    factory = WebChatFactory(terms(clock), path="/chat/")
    assert Browser(factory).get("/chat").headers["location"] == "/chat/"
    assert Browser(factory).get("/chat/").status == 200
    assert Browser(factory).upgrade("/ws").status == 404
    assert Browser(factory).upgrade("/chat/ws").status == 101


def test_a_page_of_another_origin_may_read_the_page_and_not_open_the_websocket(factory: WebChatFactory) -> None:
    browser = Browser(factory)
    assert browser.get("/", origin="https://evil.example").status == 200
    refused = browser.upgrade(origin="https://evil.example")
    assert refused.status == 403
    assert refused.body == b"pages of this origin may not open a WebSocket here\n"
    assert factory.terms.counters.refused == {Cause.ORIGIN: 1}
    assert Browser(factory).upgrade(origin="http://localhost").status == 101


def test_pages_of_the_given_origins_may_open_the_websocket(clock: Clock) -> None:
    factory = WebChatFactory(terms(clock), origins=["https://chat.example.org"])
    assert Browser(factory).upgrade(origin="https://chat.example.org").status == 101
    assert Browser(factory).upgrade(origin="http://localhost").status == 403
    assert Browser(factory).upgrade().status == 101


def test_a_peer_that_does_not_read_is_served_no_further_request(clock: Clock, factory: WebChatFactory) -> None:
    browser = Browser(factory)
    browser.transport.reads = False
    browser.send(request("/x") * 300)
    clock.pump([0.0] * 9)
    before = answers(taken(browser.transport))
    assert 64 < len(before) < 200
    assert browser.transport.producerState == "paused"
    browser.transport.read_all()
    clock.pump([0.0] * 9)
    assert browser.transport.producerState == "producing"
    assert len(before) + len(answers(taken(browser.transport))) == 300


def test_requests_in_one_read_are_served_a_few_in_each_iteration(clock: Clock, factory: WebChatFactory) -> None:
    browser = Browser(factory)
    browser.send(request("/x") * 200)
    assert len(answers(taken(browser.transport))) == 8
    clock.pump([0.0] * 24)
    assert len(answers(taken(browser.transport))) == 192


# Time


def test_a_connection_without_a_request_is_closed(clock: Clock, factory: WebChatFactory) -> None:
    browser = Browser(factory)
    clock.pump([1.0] * int(REQUEST_TIMEOUT))
    assert not browser.transport.write_closed
    clock.pump([1.0] * 2)
    assert browser.transport.write_closed
    assert taken(browser.transport) == b""


def test_a_head_that_trickles_in_does_not_keep_a_connection_open(clock: Clock, factory: WebChatFactory) -> None:
    browser = Browser(factory)
    for byte in request(cookie="x" * 100)[:-1]:
        if browser.transport.write_closed:
            break
        browser.send(bytes([byte]))
        clock.advance(1.0)
    assert REQUEST_TIMEOUT <= clock.seconds() <= REQUEST_TIMEOUT + 2
    assert factory.terms.counters.disconnected == {Cause.REQUEST_TIMEOUT: 1}


def test_a_connection_on_which_nothing_is_asked_any_more_is_closed_as_idle(
    clock: Clock, factory: WebChatFactory
) -> None:
    browser = Browser(factory)
    for _ in range(4):
        browser.get()
        clock.pump([1.0] * 2)
    assert not browser.transport.write_closed
    clock.pump([1.0] * 3)
    assert browser.transport.write_closed
    assert factory.terms.counters.disconnected == {Cause.IDLE_TIMEOUT: 1}


@pytest.mark.parametrize("idle_timeout", [0.0, 600.0])
def test_a_websocket_without_a_session_is_closed_at_the_deadline_and_not_before(
    clock: Clock, idle_timeout: float
) -> None:
    factory = WebChatFactory(terms(clock, idle_timeout=idle_timeout))
    browser = opened(factory)
    clock.pump([1.0] * 9)
    assert browser.frames() == []
    clock.pump([1.0] * 3)
    assert browser.closed() == Frame(CLOSE, b"\x03\xf0no session was begun in time")
    assert factory.terms.counters.disconnected == {Cause.REQUEST_TIMEOUT: 1}


@pytest.mark.parametrize(
    "sent", [frame(PING), frame(PONG), frame(TEXT, b'{"type":"ping"}'), frame(TEXT, b"{}"), frame(TEXT, fin=False)]
)
def test_what_begins_no_session_does_not_extend_its_deadline(
    clock: Clock, factory: WebChatFactory, sent: bytes
) -> None:
    browser = opened(factory)
    for _ in range(24):
        browser.send(sent)
        sent = frame(CONTINUATION, fin=False) if sent[0] == TEXT else sent
        clock.advance(0.5)
    assert browser.closed().close_code == 1008


def test_a_member_is_pinged_even_without_an_idle_timeout_and_its_answer_keeps_it(clock: Clock) -> None:
    factory = WebChatFactory(terms(clock, idle_timeout=0))
    browser = begun(factory)
    for _ in range(20):
        clock.pump([1.0] * 57)
        [ping] = browser.frames()
        assert ping == Frame(PING, b"")
        browser.send(frame(PONG))
    assert clock.seconds() > 1_000
    assert not browser.transport.aborted


@pytest.mark.parametrize("idle_timeout", [0.0, 600.0])
def test_a_member_that_does_not_answer_is_disconnected(clock: Clock, idle_timeout: float) -> None:
    factory = WebChatFactory(terms(clock, idle_timeout=idle_timeout))
    browser = begun(factory)
    clock.pump([1.0] * int(PROBE_TIME - 1))
    assert browser.frames() == []
    clock.pump([1.0] * 3)
    assert browser.frames() == [Frame(PING, b"")]
    clock.pump([1.0] * int(DEAD_TIME - PROBE_TIME - 3))
    assert not browser.transport.aborted
    clock.pump([1.0] * 3)
    assert browser.transport.aborted
    assert factory.terms.counters.disconnected == {Cause.PING_TIMEOUT: 1}


@pytest.mark.parametrize(
    "sign", [frame(PING, b"x"), frame(TEXT, b'{"type":"ping"}'), frame(TEXT, b"{}"), frame(TEXT, b'{"type":"rooms"}')]
)
def test_whatever_a_member_sends_is_a_sign_of_life(clock: Clock, factory: WebChatFactory, sign: bytes) -> None:
    browser = begun(factory)
    clock.pump([1.0] * 57)
    browser.send(sign)
    clock.pump([1.0] * 57)
    assert not browser.transport.aborted
    assert browser.frames()[-1] == Frame(PING, b"")


def test_a_member_that_only_answers_pings_is_warned_and_closed_at_the_idle_timeout(clock: Clock) -> None:
    factory = WebChatFactory(terms(clock, idle_timeout=600.0))
    browser = begun(factory)
    texts = []
    while not browser.transport.write_closed and clock.seconds() < 1_000:
        clock.advance(1.0)
        received = browser.frames()
        texts += [each.payload for each in received if each.opcode != PING]
        if Frame(PING, b"") in received:
            browser.send(frame(PONG), {"type": "ping"})
            browser.frames()
    assert 600 <= clock.seconds() <= 603
    warning, bye, closing = texts
    assert b"still there?" in warning
    assert bye == b'{"type":"notice","text":"you said nothing for too long; bye"}'
    assert closing == b"\x03\xe9idle for too long"


def test_a_message_that_is_never_complete_ends_the_connection(clock: Clock, factory: WebChatFactory) -> None:
    browser = begun(factory)
    browser.send(frame(TEXT, b"{", fin=False))
    for byte in frame(CONTINUATION, b"x" * 100)[:33]:
        browser.send(bytes([byte]))
        clock.advance(1.0)
    assert browser.closed() == Frame(CLOSE, b"\x03\xf0line not ended in time")


# Closing


def test_a_peer_that_closes_is_answered_with_its_own_code(factory: WebChatFactory) -> None:
    for sent, answered in ((close(1001, "bye"), b"\x03\xe9"), (close(4_000), b"\x0f\xa0"), (frame(CLOSE), b"")):
        browser = begun(factory)
        browser.send(sent + frame(TEXT, b'{"type":"ping"}'))
        assert browser.frames() == [Frame(CLOSE, answered)]
        assert browser.transport.write_closed
        assert not factory.hub.members_of_host("192.0.2.1")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"x", is_masked=False), 1002),
        (frame(TEXT, length=16_385), 1009),
        (frame(TEXT, b"x" * 10_000, fin=False) + frame(CONTINUATION, b"x" * 10_000), 1009),
        (close(999), 1002),
    ],
)
def test_a_violation_is_counted_and_closed_with_its_code(factory: WebChatFactory, sent: bytes, code: int) -> None:
    browser = begun(factory)
    browser.send(sent)
    assert browser.closed().close_code == code
    assert factory.terms.counters.refused == {Cause.WEBSOCKET_VIOLATION: 1}


def test_messages_of_bytes_are_not_accepted(factory: WebChatFactory) -> None:
    browser = begun(factory)
    browser.send(frame(2, b'{"type":"ping"}'))
    assert browser.closed() == Frame(CLOSE, b"\x03\xebmessages are text")


def test_a_ping_of_the_peer_is_answered(factory: WebChatFactory) -> None:
    browser = begun(factory)
    browser.send(frame(PING, b"a" * 125))
    assert browser.frames() == [Frame(PONG, b"a" * 125)]


def test_a_peer_that_ends_its_input_is_sent_everything_and_closed(factory: WebChatFactory) -> None:
    browser = Browser(factory)
    browser.send(request())
    browser.protocol.readConnectionLost()
    assert answer(taken(browser.transport)).status == 200
    assert browser.transport.disconnecting
    member, other = begun(factory), begun(factory)
    member.send({"type": "say", "room": "#lobby", "text": "last words"})
    member.protocol.readConnectionLost()
    assert member.closed().close_code == 1000
    assert [event["kind"] for event in other.events()] == ["said", "left"]


def test_a_request_that_is_cut_off_is_not_answered(factory: WebChatFactory) -> None:
    browser = Browser(factory)
    browser.send(request()[:-1])
    browser.protocol.readConnectionLost()
    assert taken(browser.transport) == b""
    assert browser.transport.disconnecting


def test_a_lost_connection_leaves_no_member_and_no_timer(clock: Clock, factory: WebChatFactory) -> None:
    for browser in (Browser(factory), opened(factory), begun(factory)):
        browser.lose(ConnectionLost)
    assert not factory.connections
    assert len(factory.hub) == 0
    assert not clock.getDelayedCalls()


def drained(clock: Clock, factory: WebChatFactory) -> None:
    factory.drain(5.0)
    clock.pump([0.0, SILENCE, CHECK_INTERVAL, CHECK_INTERVAL])


def test_a_server_that_stops_closes_websockets_as_going_away(clock: Clock, factory: WebChatFactory) -> None:
    waiting, session, member = Browser(factory), opened(factory), begun(factory)
    drained(clock, factory)
    assert waiting.transport.write_closed
    assert taken(waiting.transport) == b""
    assert session.closed() == Frame(CLOSE, b"\x03\xe9the server stops")
    notice, closing = member.frames()
    assert notice.payload == b'{"type":"notice","text":"the server stops; bye"}'
    assert closing == Frame(CLOSE, b"\x03\xe9the server stops")


def test_the_answer_to_a_request_while_the_server_stops_says_that_it_is_the_last(
    clock: Clock, factory: WebChatFactory
) -> None:
    browser = Browser(factory)
    factory.drain(5.0)
    assert browser.get().headers["connection"] == "close"
    assert browser.transport.write_closed


def test_a_request_that_waits_for_the_peer_to_read_is_answered_before_the_server_stops(
    clock: Clock, factory: WebChatFactory
) -> None:
    browser = Browser(factory)
    browser.transport.reads = False
    browser.send(request("/x") * 300)
    clock.pump([0.0] * 9)
    factory.drain(5.0)
    clock.pump([0.0, *[CHECK_INTERVAL] * 50])
    assert not browser.transport.write_closed
    taken(browser.transport)
    browser.transport.read_all()
    assert answer(taken(browser.transport)).headers["connection"] == "close"
    assert browser.transport.write_closed


def test_a_displaced_member_is_told_and_closed_to_try_again_later(clock: Clock) -> None:
    factory = WebChatFactory(terms(clock, Admission(ConnectionCounter(2), connect_rate=0)))
    first = begun(factory)
    clock.advance(2)
    begun(factory)
    Browser(factory, "198.51.100.1")
    *_, notice, closing = first.frames()
    assert notice.payload == b'{"type":"notice","text":"the server is full, and another host gets the place"}'
    assert closing == Frame(CLOSE, b"\x03\xf5the server is full, and another host gets the place")
    assert first.transport.disconnecting


def test_a_displaced_connection_without_a_websocket_is_closed_without_a_word(clock: Clock) -> None:
    factory = WebChatFactory(terms(clock, Admission(ConnectionCounter(2), connect_rate=0)))
    first = Browser(factory)
    clock.advance(2)
    Browser(factory)
    Browser(factory, "198.51.100.1")
    assert taken(first.transport) == b""
    assert first.transport.disconnecting


# Admission


def refused(factory: WebChatFactory, host: str = "192.0.2.1") -> bytes:
    """Return what a connection that is refused is told."""
    protocol = factory.buildProtocol(IPv4Address("TCP", host, 40_000))
    assert isinstance(protocol, RefusalProtocol)
    transport = TCPTransport()
    protocol.makeConnection(transport)
    assert transport.disconnecting
    return taken(transport)


@pytest.mark.parametrize(
    ("limits", "status", "text"),
    [
        ({"maximum": 1}, 503, b"server full\n"),
        ({"max_per_host": 1}, 429, b"too many connections from one host\n"),
        ({"connect_rate": 0.1}, 429, b"too many new connections per second from one host or network\n"),
    ],
)
def test_a_connection_that_is_refused_gets_an_answer(
    clock: Clock, limits: dict[str, float], status: int, text: bytes
) -> None:
    factory = limited(clock, **limits)  # type: ignore[arg-type]
    Browser(factory)
    told = answer(refused(factory))
    assert (told.status, told.body) == (status, text)
    assert told.headers["connection"] == "close"
    assert "content-security-policy" in told.headers


def test_a_connection_that_is_not_allowed_is_closed_without_an_answer(clock: Clock) -> None:
    factory = limited(clock, networks=NetworkRules(deny=["192.0.2.0/24"]))
    assert factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000)) is None


def test_clients_behind_a_proxy_are_counted_each_for_itself(clock: Clock) -> None:
    factory = limited(clock, max_per_host=2, networks=NetworkRules(deny=["198.51.100.66"]))
    clients = ["198.51.100.1", "198.51.100.1", "198.51.100.1", "198.51.100.2", "198.51.100.66", "2001:db8::1"]
    told = [Browser(factory, PROXY).get(x_forwarded_for=f"203.0.113.9, {client}").status for client in clients]
    assert told == [200, 200, 429, 200, 403, 200]
    assert factory.terms.counters.refused == {Cause.TOO_MANY_PER_HOST: 1, Cause.NOT_ALLOWED: 1}


def test_the_rate_of_new_connections_applies_to_clients_behind_a_proxy(clock: Clock) -> None:
    factory = limited(clock, connect_rate=0.1)
    told = [Browser(factory, PROXY).get(x_forwarded_for=f"198.51.100.{number % 2}").status for number in range(4)]
    assert told == [200, 200, 429, 429]


def test_requests_of_one_client_on_one_connection_count_once(clock: Clock) -> None:
    factory = limited(clock, max_per_host=1, connect_rate=0.1)
    browser = Browser(factory, PROXY)
    assert [browser.get(x_forwarded_for="198.51.100.1").status for _ in range(5)] == [200] * 5


def test_a_connection_of_a_proxy_counts_for_the_client_that_asked_last(clock: Clock) -> None:
    factory = limited(clock, max_per_host=1)
    browser = Browser(factory, PROXY)
    assert browser.get(x_forwarded_for="198.51.100.1").status == 200
    assert browser.get(x_forwarded_for="198.51.100.2").status == 200
    assert Browser(factory, PROXY).get(x_forwarded_for="198.51.100.1").status == 200
    assert Browser(factory, PROXY).get(x_forwarded_for="198.51.100.2").status == 429


def test_a_connection_of_a_proxy_serves_other_clients_after_one_was_refused(clock: Clock) -> None:
    factory = limited(clock, networks=NetworkRules(deny=["198.51.100.66"]))
    browser = Browser(factory, PROXY)
    assert [
        browser.get(x_forwarded_for=client).status for client in ("198.51.100.66", "198.51.100.1", "198.51.100.66")
    ] == [403, 200, 403]


def test_a_closed_connection_of_a_proxy_no_longer_counts_for_its_client(clock: Clock) -> None:
    factory = limited(clock, max_per_host=1)
    browser = Browser(factory, PROXY)
    browser.get(x_forwarded_for="198.51.100.1")
    browser.lose()
    assert len(factory.terms.admission.connections) == 0
    assert Browser(factory, PROXY).get(x_forwarded_for="198.51.100.1").status == 200


def test_two_clients_of_one_ipv6_network_may_use_one_connection_in_turn(clock: Clock) -> None:
    factory = limited(clock, max_per_host=1)
    browser = Browser(factory, PROXY)
    assert browser.get(x_forwarded_for="2001:db8::1").status == 200
    assert browser.get(x_forwarded_for="2001:db8::2").status == 200


def test_a_connection_of_a_proxy_has_its_place_on_a_full_server(clock: Clock) -> None:
    factory = limited(clock, maximum=2)
    first, second = Browser(factory, PROXY), Browser(factory, PROXY)
    assert first.get(x_forwarded_for="198.51.100.1").status == 200
    assert second.get(x_forwarded_for="198.51.100.2").status == 200
    assert second.get(x_forwarded_for="198.51.100.3").status == 200
    assert answer(refused(factory, "198.51.100.4")).status == 503


def test_a_header_from_a_peer_that_is_no_proxy_is_ignored(clock: Clock) -> None:
    factory = limited(clock, max_per_host=1, networks=NetworkRules(deny=["198.51.100.66"]))
    browser = Browser(factory)
    assert browser.get(x_forwarded_for="198.51.100.66").status == 200
    assert browser.protocol.host == "192.0.2.1"
    assert answer(refused(factory)).status == 429


def test_a_request_of_the_proxy_itself_counts_for_the_proxy(clock: Clock) -> None:
    factory = limited(clock, max_per_host=1)
    assert [Browser(factory, PROXY).get().status for _ in range(3)] == [200, 429, 429]


@pytest.mark.parametrize("proxy", [PROXY, f"::ffff:{PROXY}"])
def test_members_behind_a_proxy_have_the_address_of_the_client(clock: Clock, proxy: str) -> None:
    factory = limited(clock)
    browser = Browser(factory, proxy)
    assert browser.upgrade(x_forwarded_for="198.51.100.1").status == 101
    browser.send(BEGIN)
    assert browser.protocol.peer == "198.51.100.1 (through 10.0.0.1:40000)"
    assert factory.hub.members_of_host("198.51.100.1") == 1
    browser.lose()
    assert factory.hub.members_of_host("198.51.100.1") == 0


def test_the_log_names_the_client_that_is_refused(clock: Clock) -> None:
    factory = limited(clock, networks=NetworkRules(deny=["198.51.100.66"]))
    browser = Browser(factory, PROXY)
    browser.get(x_forwarded_for="198.51.100.1")
    with capturedLogs() as events:
        browser.get(x_forwarded_for="198.51.100.66")
    [line] = [formatEvent(event) for event in events]
    assert line == "refused 198.51.100.66 (through 10.0.0.1:40000): the address is not allowed"


def test_a_service_may_log_its_connections(clock: Clock) -> None:
    service = Terms.on(clock, service="web", limits=StreamLimits(), admission=Admission(), log_connections=True)
    factory = WebChatFactory(service)
    with capturedLogs() as events:
        Browser(factory)
    assert [formatEvent(event) for event in events] == ["web: 192.0.2.1:40000 connected"]


def test_a_unix_socket_serves_the_page_and_the_chat(clock: Clock) -> None:
    factory = WebChatFactory(terms(clock), ChatHub(terms(clock)), proxies=PROXIES)
    protocol = factory.buildProtocol(None)
    assert isinstance(protocol, Protocol)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(request(x_forwarded_for="198.51.100.1") + upgrade(x_forwarded_for="x"))
    assert [each.status for each in answers(taken(transport))] == [200, 101]
    protocol.connectionLost()
