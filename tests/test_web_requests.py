from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.web.http_requests import HEAD_MAX, HttpRequest, HttpRequests, HttpResponse, InvalidRequest
from tests.strategies import split, split_places
from tests.web_clients import ACCEPT, Answer, answer, answers, frame, request, upgrade

Message = HttpRequest | InvalidRequest

OK = HttpResponse(200, [("content-type", "text/plain")], b"ok\n")


def served(pieces: Iterable[bytes]) -> tuple[list[Message], bytes, bool]:
    """Answer all requests in a stream, each as soon as it is complete.

    :return: the requests, the answers, and whether the connection stays open.
    """
    requests = HttpRequests()
    messages, sent, stays_open = [], b"", True
    for piece in pieces:
        requests.receive(piece)
        while (message := requests.next_message()) is not None:
            messages.append(message)
            status = message.status if isinstance(message, InvalidRequest) else 200
            data, stays_open = requests.respond(HttpResponse(status, OK.headers, OK.body))
            sent += data
    assert requests.end() is None
    return messages, sent, stays_open


def one(stream: bytes) -> Message:
    """Return the first request in a stream."""
    requests = HttpRequests()
    requests.receive(stream)
    message = requests.next_message()
    assert message is not None
    return message


def refusal(stream: bytes) -> tuple[int, Answer]:
    """Return the status with which a stream is refused, and the answer to all of it."""
    messages, sent, stays_open = served([stream])
    assert not stays_open
    last = messages[-1]
    assert isinstance(last, InvalidRequest)
    return last.status, answers(sent)[-1]


def upgraded(stream: bytes) -> tuple[bytes, bytes] | InvalidRequest:
    """Upgrade the connection of the only request in a stream."""
    requests = HttpRequests()
    requests.receive(stream)
    message = requests.next_message()
    assert isinstance(message, HttpRequest)
    return requests.upgrade(message, "chat.v1.netsvc")


def test_a_request_has_its_method_its_target_and_its_headers() -> None:
    message = one(b"GET /page?x=1&y HTTP/1.1\r\nHost: a.example:81\r\nX-A: b c \r\nx-a:\xe9\r\n\r\n")
    assert message == HttpRequest(
        "GET", "/page?x=1&y", (("host", "a.example:81"), ("x-a", "b c"), ("x-a", "\xe9")), wants_upgrade=False
    )
    assert message.path == "/page"
    assert message.header("x-a") == "b c, \xe9"
    assert message.header("accept") == ""


def test_a_connection_stays_open_for_further_requests() -> None:
    messages, sent, stays_open = served([request("/a"), request("/b"), request("/c")])
    assert [message.path for message in messages if isinstance(message, HttpRequest)] == ["/a", "/b", "/c"]
    assert [each.body for each in answers(sent)] == [b"ok\n"] * 3
    assert not any("connection" in each.headers for each in answers(sent))
    assert stays_open


@pytest.mark.parametrize("last", [request(connection="close"), request(version="1.0"), request(connection="Close, x")])
def test_a_connection_is_closed_if_the_client_wants_it_or_speaks_http_1_0(last: bytes) -> None:
    messages, sent, stays_open = served([request() + last + request()])
    assert len(messages) == 2
    assert [each.headers.get("connection") for each in answers(sent)] == [None, "close"]
    assert not stays_open


def test_a_connection_is_closed_if_the_server_wants_it() -> None:
    requests = HttpRequests()
    requests.receive(request() + request())
    assert requests.next_message() is not None
    sent, stays_open = requests.respond(OK, close=True)
    assert answer(sent).headers["connection"] == "close"
    assert not stays_open
    assert requests.next_message() is None


def test_the_next_request_is_not_read_before_the_last_one_is_answered() -> None:
    requests = HttpRequests()
    requests.receive(request("/a") + request("/b"))
    assert requests.next_message() is not None
    assert requests.next_message() is None
    assert requests.waiting() == 1
    requests.respond(OK)
    message = requests.next_message()
    assert isinstance(message, HttpRequest)
    assert message.path == "/b"
    assert requests.waiting() == 0


def test_a_request_that_waits_for_the_peer_to_read_counts_as_waiting() -> None:
    requests = HttpRequests()
    requests.receive(request("/a") + request("/b") + request("/c")[:9])
    requests.next_message()
    requests.respond(OK)
    assert requests.waiting() == 1
    requests.next_message()
    requests.respond(OK)
    assert requests.next_message() is None
    assert requests.waiting() == 0


@pytest.mark.parametrize(
    ("stream", "is_partial"),
    [
        (b"", False),
        (b"G", True),
        (request()[:-1], True),
        (request(), False),
        (request() + b"G", True),
    ],
)
def test_a_request_that_has_begun_and_not_ended_is_partial(stream: bytes, is_partial: bool) -> None:
    requests = HttpRequests()
    if stream:
        requests.receive(stream)
    while requests.next_message() is not None:
        requests.respond(OK)
    assert requests.has_partial() == is_partial


def test_the_answer_to_head_is_that_to_get_without_its_body() -> None:
    stream = request() + request(method="HEAD") + request()
    _, sent, stays_open = served([stream])
    get, head, after = answers(sent, "GET", "HEAD", "GET")
    assert head.headers == get.headers
    assert head.headers["content-length"] == "3"
    assert (get.body, head.body, after.body) == (b"ok\n", b"", b"ok\n")
    assert stays_open


def test_an_answer_that_nothing_has_changed_says_nothing_of_a_length() -> None:
    # RFC 9110, section 8.6: the length in a 304 would be that of the body that is not sent.
    requests = HttpRequests()
    requests.receive(request())
    requests.next_message()
    sent, stays_open = requests.respond(HttpResponse(304, [("etag", '"x"')]))
    assert sent == b'HTTP/1.1 304 Not Modified\r\netag: "x"\r\n\r\n'
    assert stays_open


@pytest.mark.parametrize(
    "stream",
    [
        request(method="POST", content_length="1") + b"x",
        request(method="PUT", transfer_encoding="chunked") + b"3\r\nabc\r\n0\r\n\r\n",
        request(method="GET", content_length="70000") + b"x" * 65_536,
        request(method="POST", content_length="9", expect="100-continue"),
    ],
)
def test_a_request_with_a_body_is_refused(stream: bytes) -> None:
    status, last = refusal(request() + stream)
    assert status == last.status == 413
    assert last.headers["connection"] == "close"


def test_a_request_that_says_that_its_body_is_empty_has_none() -> None:
    messages, _, stays_open = served([request(method="POST", content_length="0") + request()])
    assert len(messages) == 2
    assert stays_open


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),  # TLS
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_and_nothing_follows(stream: bytes, status: int) -> None:
    messages, sent, stays_open = served([request() + stream + request()])
    assert [type(message) for message in messages] == [HttpRequest, InvalidRequest]
    assert [each.status for each in answers(sent)] == [200, status]
    assert answers(sent)[1].headers["connection"] == "close"
    assert not stays_open


def test_a_refusal_repeats_nothing_that_the_peer_sent() -> None:
    message = one(b"GET /<script> HTTP/1.1\r\nHost: a\r\n<script>: x\r\n\r\n")
    assert message == InvalidRequest(400, "this is no HTTP/1.1 request")


def with_head_of(size: int) -> bytes:
    """Return a request whose head is so long."""
    shortest = len(request(x="y"))
    return request(x="y" * (size - shortest + 1))


@given(st.lists(st.integers(0, 20_000), max_size=5))
def test_a_head_of_16_kib_is_accepted_and_a_longer_one_is_refused_however_it_arrives(places: list[int]) -> None:
    assert HEAD_MAX == 16_384
    messages, _, _ = served(split(with_head_of(HEAD_MAX), places))
    assert [type(message) for message in messages] == [HttpRequest]
    messages, sent, _ = served(split(with_head_of(HEAD_MAX + 1), places))
    assert messages == [InvalidRequest(431, "the head of the request is too long")]
    assert answer(sent).status == 431


def test_the_head_of_each_request_has_the_same_bound() -> None:
    messages, _, _ = served([with_head_of(HEAD_MAX) * 2 + with_head_of(HEAD_MAX + 1)])
    assert [type(message) for message in messages] == [HttpRequest, HttpRequest, InvalidRequest]


def test_requests_that_are_sent_ahead_do_not_count_as_one_long_head() -> None:
    messages, _, _ = served([request() * 2_000])
    assert len(messages) == 2_000


STREAM = b"".join(
    [
        request("/a", cookie="x" * 100),
        request("/b", method="HEAD"),
        request("/c", method="POST", content_length="0"),
        b"GET /d HTTP/1.1\nHost: only-line-feeds\n\n",
        request("/e", connection="close"),
    ]
)


@given(split_places)
def test_how_the_network_splits_the_requests_does_not_matter(places: list[int]) -> None:
    assert served(split(STREAM, places)) == served([STREAM])


LINES = [
    *(b"GET / HTTP/1.1", b"HEAD /ws HTTP/1.1", b"POST / HTTP/1.0", b"CONNECT a:1 HTTP/1.1", b"PRI * HTTP/2.0", b"SM"),
    *(b"Host: a", b"Host:", b"Connection: close", b"Connection: upgrade", b"Upgrade: websocket", b"Upgrade: h2c"),
    *(
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b" folded",
        b"abc",
        b"3",
        b"0",
        b"",
    ),
    *(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: eA==", b"Sec-WebSocket-Protocol: chat.v1.netsvc"),
]
lines_of_requests = st.lists(st.sampled_from(LINES), max_size=12).map(
    lambda lines: b"".join(b + b"\r\n" for b in lines)
)


@given(st.lists(st.binary(max_size=40) | lines_of_requests, max_size=8), st.booleans())
def test_no_bytes_of_a_peer_raise_an_exception_and_each_request_is_answered(
    pieces: list[bytes], upgrades: bool
) -> None:
    requests = HttpRequests()
    stays_open = True
    for piece in filter(None, pieces):
        requests.receive(piece)
        requests.waiting()
        requests.has_partial()
        while (message := requests.next_message()) is not None:
            assert stays_open
            if upgrades and isinstance(message, HttpRequest) and message.wants_upgrade:
                switched = requests.upgrade(message, "chat.v1.netsvc")
                if not isinstance(switched, InvalidRequest):
                    return
            sent, stays_open = requests.respond(OK if isinstance(message, HttpRequest) else HttpResponse(400, []))
            assert sent.startswith(b"HTTP/1.1 ")
            assert stays_open != (b"\r\nconnection: close" in sent.lower())


def test_an_upgrade_switches_to_websocket_and_returns_what_the_client_has_sent_after_its_request() -> None:
    switched = upgraded(upgrade() + frame(1, b"hello"))
    assert not isinstance(switched, InvalidRequest)
    answered, rest = switched
    assert answer(answered) == Answer(
        101,
        {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-accept": ACCEPT,
            "sec-websocket-protocol": "chat.v1.netsvc",
        },
        b"",
    )
    assert rest == frame(1, b"hello")


def test_no_extension_is_accepted() -> None:
    switched = upgraded(upgrade(sec_websocket_extensions="permessage-deflate; client_max_window_bits, x"))
    assert not isinstance(switched, InvalidRequest)
    assert "sec-websocket-extensions" not in answer(switched[0]).headers


def test_a_client_may_offer_other_subprotocols_as_well_or_none() -> None:
    for offered in ("chat.v2.netsvc, chat.v1.netsvc", "", "chat.v1.netsvc,x"):
        switched = upgraded(upgrade(sec_websocket_protocol=offered))
        assert not isinstance(switched, InvalidRequest)
        chosen = answer(switched[0]).headers.get("sec-websocket-protocol")
        assert chosen == ("chat.v1.netsvc" if offered else None)


def test_an_upgrade_follows_other_requests_on_the_same_connection() -> None:
    requests = HttpRequests()
    requests.receive(request() + upgrade())
    requests.next_message()
    requests.respond(OK)
    message = requests.next_message()
    assert isinstance(message, HttpRequest)
    assert message.wants_upgrade
    assert not isinstance(requests.upgrade(message, "chat.v1.netsvc"), InvalidRequest)
    assert requests.next_message() is None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sec_websocket_version": "8"}, 426),
        ({"sec_websocket_version": "13, 8"}, 426),
        ({"sec_websocket_version": ""}, 400),
        ({"sec_websocket_key": ""}, 400),
        ({"sec_websocket_protocol": "chat.v2.netsvc"}, 400),
        ({"sec_websocket_protocol": "\xe9"}, 400),
        ({"sec_websocket_extensions": "\xe9"}, 400),
        ({"connection": "keep-alive"}, 400),
        ({"connection": "\xe9"}, 400),
        ({"upgrade": "h2c"}, 400),
        ({"upgrade": "h2c, websocket"}, 400),
        ({"method": "POST"}, 400),
        ({"method": "HEAD"}, 400),
        ({"method": "CONNECT"}, 400),
    ],
)
def test_an_upgrade_that_is_malformed_is_refused_and_can_be_answered(changes: dict[str, str], status: int) -> None:
    requests = HttpRequests()
    requests.receive(upgrade(**changes))
    message = requests.next_message()
    assert isinstance(message, HttpRequest)
    refused = requests.upgrade(message, "chat.v1.netsvc")
    assert isinstance(refused, InvalidRequest)
    assert refused.status == status
    assert refused.text.isprintable()
    sent, stays_open = requests.respond(HttpResponse(refused.status, OK.headers, OK.body))
    assert answer(sent, message.method).headers["connection"] == "close"
    assert not stays_open


@pytest.mark.parametrize("host", ["[::1]:8080", "\xe9", "xn--\xe9", "xn--a", "xn--" + "a" * 15_000, ".", "a" * 15_000])
def test_the_host_of_an_upgrade_is_not_decoded_as_an_international_name(host: str) -> None:
    assert not isinstance(upgraded(upgrade(host=host)), InvalidRequest)


def test_a_client_of_http_1_0_cannot_upgrade() -> None:
    # RFC 9110, section 7.8: a server ignores the header there.
    message = one(upgrade(version="1.0"))
    assert isinstance(message, HttpRequest)
    assert not message.wants_upgrade


def test_a_request_that_wants_another_protocol_is_answered_as_usual_and_closed() -> None:
    messages, sent, stays_open = served([request(upgrade="h2c", connection="Upgrade, HTTP2-Settings") + b"rest"])
    assert len(messages) == 1
    assert answer(sent).body == b"ok\n"
    assert answer(sent).headers["connection"] == "close"
    assert not stays_open


NAMES = ("host", "connection", "upgrade", "sec_websocket_version", "sec_websocket_key", "sec_websocket_protocol")
values = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc", "Zs"]), max_size=80)


@given(st.dictionaries(st.sampled_from(NAMES), values | st.sampled_from(["xn--", "a.xn--zz9", "websocket", "13", ","])))
def test_no_header_of_an_upgrade_raises_an_exception(headers: dict[str, str]) -> None:
    requests = HttpRequests()
    requests.receive(upgrade(**headers))
    message = requests.next_message()
    if isinstance(message, HttpRequest) and message.wants_upgrade:
        requests.upgrade(message, "chat.v1.netsvc")
