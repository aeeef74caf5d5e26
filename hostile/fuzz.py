"""Random input for every parser: ``python -m hostile.fuzz [PARSER...] [--inputs N] [--atheris]``.

Each parser gets N inputs: words that it knows, split, repeated and mixed with random bytes. It may raise its own
exception only, and no input may take longer than 50 ms. Services that parse nothing are tested in the same way. With
``--atheris`` (``pip install atheris``), code coverage selects the inputs. Hypothesis does the same on a small scale in
every run of the tests.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from hostile.finding import Finding
from hostile.stamp_inputs import STAMP_PARSERS, STAMP_WORDS
from netsvc.chat.json_messages import ENCODER, REQUESTS
from netsvc.chat.program_lines import ProgramLineDecoder
from netsvc.chat.request_lines import MessageError, decode_request, split_message_id
from netsvc.chat.unicode_names import UnicodeNames
from netsvc.chat.web_member import decode_message
from netsvc.echo.udp_echo import EchoDatagramProtocol
from netsvc.limits.admission import Admission
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.limits.networks import NetworkRules
from netsvc.limits.prefixes import prefixes
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.terms import Terms
from netsvc.rfc.character_lines import CHARACTER_LINES
from netsvc.rfc.chargen_server import ChargenFactory, ChargenProtocol
from netsvc.rfc.discard_server import DiscardDatagramProtocol, DiscardFactory
from netsvc.rfc.time_octets import time_octets
from netsvc.rfc.time_server import TimeFactory
from netsvc.timestamp.format import (
    TimestampFormatError,
    TimestampFormatter,
    is_timestamp_reply,
    parse_timestamp_reply,
)
from netsvc.timestamp.server import TimestampProtocol
from netsvc.web.http_requests import HttpRequest, HttpRequests, HttpResponse
from netsvc.web.request_origin import forwarded_host, is_allowed_origin
from netsvc.web.static_site import accepts_gzip
from netsvc.web.websocket_messages import CloseReceived, Violation, WebSocketMessages
from netsvc.wire.datagram import Datagram
from netsvc.wire.framing import FramingError, LineFraming, RawFraming
from netsvc.wire.proxy_header import ProxyHeaderError, ProxyHeaderParser
from netsvc.wire.text import clean, is_blank, split_incomplete

Parser = Callable[[bytes], object]

LONGEST = 0.050
_UNICODE = UnicodeNames()
_PROXIES = NetworkRules(["192.0.2.0/24", "::1"])
_TERMS = Terms.on(Clock(), admission=Admission.unlimited())
_ECHO, _STAMPS = (
    service(_TERMS, DatagramGuard(SourceBuckets(0, 0, 0))) for service in (EchoDatagramProtocol, TimestampProtocol)
)
_DISCARD = DiscardDatagramProtocol(_TERMS)
_STREAMS: dict[StreamFactory, bytes] = {
    DiscardFactory(_TERMS): b"",
    TimeFactory(_TERMS): time_octets(0),
    ChargenFactory(_TERMS): CHARACTER_LINES,
}


def _lines(data: bytes) -> None:
    """Read lines. The bytes of the input determine where it is split."""
    framing = LineFraming()
    while data:
        size = 1 + data[0] * 8
        framing.receive(data[:size])
        data = data[size:]
        while True:
            with suppress(FramingError):
                if framing.next_message() is None:
                    break
        framing.has_partial()
    framing.end()


def _pieces(data: bytes) -> None:
    framing = RawFraming()
    for at in range(0, len(data), 7):
        framing.receive(data[at : at + 7])
        while framing.next_message() is not None:
            pass
    framing.end()


def _request(data: bytes) -> None:
    with suppress(MessageError):
        decode_request(split_message_id(data)[1])


def _unicode_request(data: bytes) -> None:
    with suppress(MessageError):
        decode_request(data, _UNICODE)


def _event(data: bytes) -> None:
    decoder = ProgramLineDecoder()
    for line in data.split(b"\n"):
        with suppress(MessageError):
            decoder.decode(line)


def _timestamp(data: bytes) -> None:
    is_timestamp_reply(data)
    with suppress(TimestampFormatError):
        parse_timestamp_reply(data)


def _proxy(data: bytes) -> None:
    reader = ProxyHeaderParser()
    size = 1 + data[-1] if data else 1
    with suppress(ProxyHeaderError):
        for at in range(0, len(data), size):
            if reader.receive(data[at : at + size]) is not None:
                return


def _text(data: bytes) -> None:
    whole, rest = split_incomplete(data)
    assert whole + rest == data
    text = clean(whole.decode("utf-8", "replace"))
    assert clean(text) == text
    is_blank(text)


def _split(data: bytes) -> list[bytes]:
    """Split an input. The bytes of the input determine where."""
    pieces = []
    while data:
        size = 1 + data[0] % 32 * 8
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def _http(data: bytes) -> None:
    """Read requests and answer them. The result may not depend on how the stream is split."""
    data = data[:65_536]
    assert _answers([data]) == _answers(_split(data))


def _answers(pieces: list[bytes]) -> list[object]:
    """Return what is read and what is answered."""
    requests, found, stays_open = HttpRequests(), list[object](), True
    for piece in pieces:
        requests.receive(piece)
        while stays_open and (message := requests.next_message()) is not None:
            found.append(message)
            if isinstance(message, HttpRequest) and message.wants_upgrade:
                switched = requests.upgrade(message, "chat")
                if isinstance(switched, tuple):
                    return [*found, switched[0]]
                found.append(switched)
            answer, stays_open = requests.respond(HttpResponse(200, [("x", "y")], b"z"))
            found.append(answer)
        requests.has_partial()
        requests.waiting()
    return found


def _websocket(data: bytes) -> None:
    """Read messages. The result may not depend on how the stream is split."""
    data = data[:4_000]
    assert _messages([data]) == _messages(_split(data))


def _messages(pieces: list[bytes]) -> list[object]:
    messages, found = WebSocketMessages(message_max=2_000), list[object]()
    for piece in pieces:
        messages.receive(piece)
        waiting, before = messages.waiting(), len(found)
        while (message := messages.next_message()) is not None:
            found.append(message)
        # What follows the end of the stream is not read.
        is_over = isinstance(found[-1] if found else None, CloseReceived | Violation)
        assert is_over or waiting == min(256, len(found) - before)
        assert not messages.waiting()
        messages.has_partial()
    return found


def _json(data: bytes) -> None:
    with suppress(MessageError):
        request = decode_message(data.decode("utf-8", "replace"))
        assert REQUESTS.decode(ENCODER.encode(request)) == request


def _forwarded(data: bytes) -> None:
    host = forwarded_host(data.decode("latin-1"), _PROXIES, "192.0.2.7")
    prefixes(host)
    assert set(host) <= set("0123456789abcdef:."), host


def _origin(data: bytes) -> None:
    origin, _, host = data.decode("latin-1").partition(" ")
    is_allowed_origin(origin, host, ())
    is_allowed_origin(origin, host, ["https://chat.example.org"])


def _encoding(data: bytes) -> None:
    accepts_gzip(data.decode("latin-1"))


def _datagrams(data: bytes) -> None:
    """Send datagrams to the services on UDP. The bytes of the input determine their sizes and ports."""
    batch = [Datagram(piece, (f"192.0.2.{piece[0]}", 256 * piece[0] + piece[-1])) for piece in _split(data)]
    admitted = [datagram for datagram in batch if datagram.peer[1] >= 1024 and len(datagram.payload) <= 1400]
    assert _ECHO.batch_received(batch) == admitted
    assert _DISCARD.batch_received(batch) == []
    assert [reply.payload[27:] for reply in _STAMPS.batch_received(batch)] == [
        datagram.payload for datagram in admitted if not is_timestamp_reply(datagram.payload)
    ]


def _streams(data: bytes) -> None:
    """Send a stream to the services that discard what they read. The answer may not depend on it."""
    for factory, answer in _STREAMS.items():
        protocol, transport = factory.buildProtocol(None), StringTransport()
        assert protocol is not None
        protocol.makeConnection(transport)
        if isinstance(protocol, ChargenProtocol):
            protocol.send_piece()
        for piece in _split(data):
            protocol.dataReceived(piece)
        assert transport.value() == answer
        protocol.connectionLost(connectionDone)


PARSERS: dict[str, Parser] = {
    "lines": _lines,
    "pieces": _pieces,
    "request": _request,
    "unicode-request": _unicode_request,
    "event": _event,
    "timestamp": _timestamp,
    **STAMP_PARSERS,
    "proxy": _proxy,
    "text": _text,
    "http": _http,
    "websocket": _websocket,
    "json": _json,
    "forwarded": _forwarded,
    "origin": _origin,
    "encoding": _encoding,
    "datagrams": _datagrams,
    "streams": _streams,
}

#: Words that most parsers know. Inputs are made of these and of random bytes.
_WORDS = (
    *(
        b"/nick ",
        b"/join #",
        b"/msg ",
        b"//",
        b"/leave",
        b"/who",
        b"/resume ",
        b"/topic ",
        b"@7 ",
        b"<ann> ",
        b"<a -> b> ",
        b"* ",
        b"& entries #a ",
        b"& room ",
        b"\n",
        b"\r\n",
        b" ",
    ),
    *(b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"192.0.2.1 ", b"::1 ", b"65535 ", b"1314\r\n"),
    *(
        b"\r\n\r\n\x00\r\nQUIT\n",
        b"\x21\x11",
        b"\x20\x00",
        b"\x00\x0c",
        TimestampFormatter().prefix(0),
        b"[Sat Nov 21 ",
    ),
    *(
        "王小明".encode(),
        "é".encode(),
        "\u0430".encode(),
        "\u202e".encode(),
        "\u200d".encode(),
        "\u200c".encode(),
        "\u0301\ufe0f".encode(),
        "क्".encode(),
        "سی".encode(),
        "👩".encode(),
        b"\xff",
        b"\xed\xa0\x80",
    ),
)

_HTTP_WORDS = (
    *(b"GET /ws HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    *(b"Host: a\r\n", b"\r\n", b"\r\n\r\n", b"\n", b": ", b"a: b\r\n", b" c\r\n", b"Connection: close\r\n"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n", b"Expect: 100-continue\r\n"),
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    *(b"Cookie: " + b"c" * 9_000 + b"\r\n", b"a:b\r\n" * 90),
    *(b"Sec-WebSocket-Protocol: chat\r\n", b"Sec-WebSocket-Extensions: permessage-deflate; a\r\n"),
)

# They are masked with zeros.
_FRAMES = (
    *(b"\x81\x83\0\0\0\0abc", b"\x01\x82\0\0\0\0\xc3\xa9", b"\x02\x80\0\0\0\0"),
    *(b"\x00\x80\0\0\0\0", b"\x80\x81\0\0\0\0\xc3", b"\x80\x80\0\0\0\0"),
    *(b"\x89\x81\0\0\0\0x", b"\x8a\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xe8", b"\x89\x81"),
    *(b"\x81\xfe\0\x7e\0\0\0\0" + b"x" * 126, b"\x01\xfe\x03\x20\0\0\0\0" + b"x" * 800),
    b"\x81\xff\x40\0\0\0\0\0\0\0",
)

_JSON_WORDS = (
    *(b'{"type":"', b"say", b"resume", b'","room":"a"', b',"text":"', b'"}', b'{"type":"say","room":"a","text":"'),
    *(b'{"type":"ping"}', b'{"type":"join","room":"', b'{"a":', b"[" * 1_100, b"{", b"}", b"]", b'"', b",", b":"),
    *(b"\\ud83d\\ude00", b"\\ud800", b"\\u0000", b"\\", b"1e9", b"-0", b"9" * 20, b"null", b"true", b"\xff", b" "),
    b'{"type":"history","room":"a","before":',
)

_HEADER_WORDS = (
    *(b",", b", ", b"192.0.2.1", b"::ffff:198.51.100.1", b"[::1]:80", b"[", b"]", b"fe80::1%", b":", b"65536"),
    *(b"https://", b"http:", b"//", b"chat.example.org", b":443", b" ", b"@", b"?", b"\xe9", b"xn--", b"null"),
    *(b"gzip", b"*", b";q=0", b"; q=", b".", b"0"),
)

#: The words that a parser knows, if they are others.
_OTHER_WORDS = {
    "http": _HTTP_WORDS,
    "websocket": _FRAMES,
    "json": _JSON_WORDS,
    **dict.fromkeys(STAMP_PARSERS, STAMP_WORDS),
    **dict.fromkeys(["forwarded", "origin", "encoding"], _HEADER_WORDS),
}


def random_input(chance: random.Random, known: Sequence[bytes] = _WORDS) -> bytes:
    """Return one input, made of words that the parser knows and of random bytes."""
    words = [
        chance.choice(known) if chance.random() < 0.7 else chance.randbytes(chance.randrange(8))
        for _ in range(chance.randrange(12))
    ]
    data = b"".join(words) * (chance.randrange(1, 300) if chance.random() < 0.02 else 1)
    if data and chance.random() < 0.3:
        at = chance.randrange(len(data))
        data = data[:at] + chance.randbytes(1) + data[at + 1 :]
    return data


def fuzz(name: str, inputs: int, seed: int) -> Finding:
    """Give a parser ``inputs`` inputs.

    :return: the longest time for one input, in milliseconds.
    :raises Exception: that of the parser, if it is not its own; the input is printed.
    """
    chance = random.Random(seed)
    parser, known, worst = PARSERS[name], _OTHER_WORDS.get(name, _WORDS), 0.0
    for _ in range(inputs):
        data = random_input(chance, known)
        began = time.thread_time()  # without the time of other processes
        try:
            parser(data)
        except Exception:
            sys.stderr.write(f"hostile: {name} fails at {data!r}\n")
            raise
        worst = max(worst, time.thread_time() - began)
    return Finding(f"{name}: the slowest of {inputs:,} inputs", worst * 1000, LONGEST * 1000, "ms")


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz the parsers and print a line for each."""
    arguments = argparse.ArgumentParser(prog="python -m hostile.fuzz", description="Random input for every parser.")
    arguments.add_argument(
        "parsers", nargs="*", metavar="PARSER", help=f"parsers to test (default: all): {', '.join(PARSERS)}"
    )
    arguments.add_argument("--inputs", type=int, default=1_000_000, help="inputs for each parser (default: 1,000,000)")
    arguments.add_argument("--seed", type=int, default=1, help="seed of the inputs (default: 1)")
    arguments.add_argument("--atheris", action="store_true", help="select inputs by code coverage; pip install atheris")
    options = arguments.parse_args(argv)
    for name in options.parsers:
        if name not in PARSERS:
            arguments.error(f"there is no parser {name!r}; there are {', '.join(PARSERS)}")
    if options.atheris:
        return _by_coverage(options.parsers or list(PARSERS), options.inputs)
    findings = []
    for name in options.parsers or PARSERS:
        findings.append(fuzz(name, options.inputs, options.seed))
        print(f"{findings[-1].what}: {findings[-1].figure:.3g} ms", flush=True)
    return 0 if all(finding.within_bound for finding in findings) else 1


def _by_coverage(names: Sequence[str], inputs: int) -> int:
    """Let atheris select inputs for all these parsers. It ends the process."""
    try:
        import atheris
    except ImportError:
        sys.stderr.write("hostile: atheris is not installed; pip install atheris\n")
        return 1
    atheris.instrument_all()

    def run(data: bytes) -> None:
        for name in names:
            PARSERS[name](data)

    atheris.Setup([sys.argv[0], f"-runs={inputs}", "-max_len=4096", "-timeout=1"], run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
