"""Random input for every parser: ``python -m hostile.fuzz [PARSER...] [--inputs N] [--atheris]``.

Each parser gets N inputs: words that it knows, split, repeated and mixed with random bytes. It may raise its own
exception only, and no input may take longer than 50 ms. With ``--atheris`` (``pip install atheris``), code coverage
selects the inputs. Hypothesis does the same on a small scale in every run of the tests.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from hostile.finding import Finding
from netsvc.chat.program_lines import ProgramLineDecoder
from netsvc.chat.request_lines import MessageError, decode_request, split_message_id
from netsvc.chat.unicode_names import UnicodeNames
from netsvc.timestamp.format import (
    TimestampFormatError,
    TimestampFormatter,
    is_timestamp_reply,
    parse_timestamp_reply,
)
from netsvc.wire.framing import FramingError, LineFraming, RawFraming
from netsvc.wire.proxy_header import ProxyHeaderError, ProxyHeaderParser
from netsvc.wire.text import clean, is_blank, split_incomplete

Parser = Callable[[bytes], object]

LONGEST = 0.050
_UNICODE = UnicodeNames()


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


def _stamp(data: bytes) -> None:
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


PARSERS: dict[str, Parser] = {
    "lines": _lines,
    "pieces": _pieces,
    "request": _request,
    "unicode-request": _unicode_request,
    "event": _event,
    "stamp": _stamp,
    "proxy": _proxy,
    "text": _text,
}

#: Words that the parsers know. Inputs are made of these and of random bytes.
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


def random_input(chance: random.Random) -> bytes:
    """Return one input."""
    words = [
        chance.choice(_WORDS) if chance.random() < 0.7 else chance.randbytes(chance.randrange(8))
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
    parser, worst = PARSERS[name], 0.0
    for _ in range(inputs):
        data = random_input(chance)
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
