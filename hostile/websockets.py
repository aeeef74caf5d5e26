"""Members of ``--web`` that abuse WebSocket and JSON."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterator

from hostile.finding import MIB, Finding, at, quiet
from hostile.target import ANY, Serving, many
from hostile.web_peers import (
    BEGIN,
    CONTINUATION,
    JSON_PING,
    PING,
    TEXT,
    Flood,
    become_member,
    close_code,
    effects,
    frame,
    message,
    received_until,
    upgrade,
)


def endless_fragments(serving: Serving, seconds: float) -> Iterator[Finding]:
    """64 peers of one host, and 64 of 64 hosts: a message in fragments that are empty or one character, without end."""
    begun = frame(b"", TEXT, is_last=False)
    data = [frame(b"", CONTINUATION, is_last=False) * 1_000, frame("ā".encode(), CONTINUATION, is_last=False) * 1_000]
    with serving("--web", ANY) as target:
        for number, (what, opening, per_host) in enumerate(
            (
                ("members of one host", upgrade() + BEGIN + begun, 64),
                ("members of 64 hosts", upgrade() + BEGIN + begun, 1),
                ("peers without a session", upgrade() + begun, 8),
            )
        ):
            flood = Flood(target.ports[0], 100 * number, opening, data, per_host=per_host)
            yield from effects(target, flood, seconds / 3, what, cpu=50, memory=24)
        yield from quiet(target)


def ping_floods(serving: Serving, seconds: float) -> Iterator[Finding]:
    """64 peers of one host that send pings of WebSocket and of JSON as fast as they can."""
    ping = frame(b"x" * 125, PING) * 500
    with serving("--web", ANY) as target:
        for number, (what, opening, data, answer) in enumerate(
            (
                ("pings", upgrade() + BEGIN, ping, b"\x8a"),
                ("pings of JSON", upgrade() + BEGIN, JSON_PING * 500, b'"pong"'),
                ("pings without a session", upgrade(), ping, b"\x8a"),
                ("pings of JSON without a session", upgrade(), JSON_PING * 500, b'"pong"'),
            )
        ):
            began = time.monotonic()
            flood = Flood(target.ports[0], 100 * number, opening, [data], per_host=64, answer=answer)
            yield from effects(target, flood, seconds / 4, what, cpu=50, memory=16)
            # Eight members may send five lines per second, and a ping counts as a quarter of one.
            pongs = max(0, flood.answers.value - 300) / (time.monotonic() - began)
            yield Finding(f"pongs per second after the first 300, {what}", pongs, 200, "")
        yield from quiet(target)


def stuck_web_readers(serving: Serving, seconds: float) -> Iterator[Finding]:
    """500 WebSocket members that never read, 10 others, and 200 lines per second."""
    stuck, others, rate, length = 500, 10, 200, 256
    with serving("--web", ANY, "--chat-rate", 100, "--chat-burst", 1000, "--chat-total", 0) as target, many() as opened:
        port = target.ports[0]
        for number in range(stuck):
            opened.append(become_member(port, number, buffer=4096))
        readers = [become_member(port, stuck + number) for number in range(others)]
        opened.extend(readers)
        poll = select.epoll()
        by_number = {reader.fileno(): reader for reader in readers}
        for reader in readers:
            reader.setblocking(False)
            poll.register(reader.fileno(), select.EPOLLIN)
        received = 0
        trips: list[float] = []

        def receive(until: float) -> None:
            nonlocal received
            while (left := until - time.perf_counter()) > 0:
                for number, _ in poll.poll(left):
                    marks = by_number[number].recv(1 << 20).split(b"@")[1:]
                    received += len(marks)
                    trips.extend(time.perf_counter() - float(mark[:20]) for mark in marks if len(mark) > 20)

        receive(time.perf_counter() + 1)
        before, peak, said, disconnected_after = target.memory(), 0.0, 0, math.inf
        began = looked = time.perf_counter()
        while (now := time.perf_counter()) < began + 15:
            while said < (now - began) * rate:
                text = f"@{time.perf_counter():020.9f}".ljust(length, "x")
                readers[said % others].send(message(type="say", room="#lobby", text=text))
                said += 1
            receive(now + 0.002)
            if now - looked > 0.1:
                looked = now
                peak = max(peak, target.memory() - before)
                if math.isinf(disconnected_after) and target.disconnects() >= stuck:
                    disconnected_after = now - began
        receive(time.perf_counter() + 1)
        yield Finding("lines that the others lost", said * others - received, 0, "")
        yield Finding("p99 of a delivery", at(0.99, trips), 100, "ms")
        yield Finding("more memory", peak / MIB, 160, "MiB")
        yield Finding("all are disconnected after", disconnected_after, 15, "s")
        yield Finding("others that were disconnected", target.disconnects() - stuck, 0, "")
        yield from quiet(target)


def wrong_frames(serving: Serving, seconds: float) -> Iterator[Finding]:
    """Frames without a mask, with reserved bits or codes, and messages that are too long."""
    unmasked = b"\x81\x05hello"
    wrong = {
        "without a mask": (unmasked, 1002),
        "with a reserved bit": (bytes([0xC1]) + frame(b"hello")[1:], 1002),
        "with a reserved code": (frame(b"", 3), 1002),
        "of 2^62 bytes": (frame(b"hello", size=1 << 62), 1009),
        "of 2^64 - 1 bytes": (frame(b"hello", size=(1 << 64) - 1), 1009),
        "of 16,385 bytes": (frame(b"x" * 16_385), 1009),
        "of 16,385 bytes in fragments": (
            frame(b"x" * 16_384, is_last=False) + frame(b"x", CONTINUATION, is_last=False),
            1009,
        ),
        "with wrong UTF-8": (frame(b"\xed\xa0\x80"), 1007),
    }
    with serving("--web", ANY) as target:
        port, number, files = target.ports[0], 0, target.files()
        before = target.memory()
        for what, (data, code) in wrong.items():
            told = 0
            for _ in range(50):
                number += 1
                with become_member(port, number) as member:
                    member.sendall(data)
                    told += close_code(member) == code
            yield Finding(f"peers that were not told {code}, of 50, {what}", 50 - told, 0, "")
        yield Finding("files left open", target.files_above(files), 0, "")
        yield Finding("more memory", (target.memory() - before) / MIB, 6, "MiB")
        lines, opening = target.refusal_lines(), upgrade() + BEGIN
        flood = Flood(port, 1_000, opening, [unmasked])
        yield from effects(target, flood, seconds / 2, "without a mask", cpu=50, memory=16)
        flood = Flood(port, 2_000, opening, [frame(b"x" * 16_384)])
        yield from effects(target, flood, seconds / 2, "of 16,384 bytes", cpu=50, memory=24)
        yield Finding("log lines about it per second", (target.refusal_lines() - lines) / (seconds + 1), 4, "")
        yield from quiet(target)


#: Messages of JSON that are meant to cost much, or to break the parser.
_BOMBS = {
    "nested arrays": b"[" * 16_000,
    "nested arrays in a message": b'{"a":' + b"[" * 8_000 + b"]" * 8_000 + b',"type":"ping"}',
    "nested objects": b'{"a":' * 3_000,
    "nested type": b'{"type":' + b"[" * 16_000,
    "escapes": b'{"type":"say","room":"#lobby","text":"' + b"\\u0041" * 2_700 + b'"}',
    "half of a surrogate": b'{"type":"say","room":"#lobby","text":"\\ud800"}',
    "a huge number": b'{"type":"history","room":"#lobby","count":' + b"9" * 16_000 + b"}",
    "a huge exponent": b'{"type":"history","room":"#lobby","count":1e' + b"9" * 16_000 + b"}",
    "a huge fraction": b'{"type":"history","room":"#lobby","count":1.' + b"9" * 16_000 + b"}",
    "a repeated key": b'{"type":"away"' + b',"text":"a"' * 1_400 + b',"text":1}',
    "many keys": b"{" + b",".join(b'"%d":1' % number for number in range(1_600)) + b"}",
    "a long key": b'{"type":"ping","' + b"k" * 16_000 + b'":1}',
    "a long type": b'{"type":"' + b"k" * 16_000 + b'"}',
    "many positions": b'{"type":"resume","token":"%s","nick":"a","positions":[%s]}'
    % (b"a" * 32, b",".join([b'{"room":"a","epoch":"a","offset":1}'] * 440)),
    "blanks": b" " * 16_384,
}


def json_bombs(serving: Serving, seconds: float) -> Iterator[Finding]:
    """Messages of JSON that are nested deeply, long, or repeat themselves; and 64 peers that send nothing else."""
    with serving("--web", ANY, "--chat-rate", 100, "--chat-burst", 1000) as target:
        port, slowest, longest, broken = target.ports[0], 0.0, 0, []
        for number, (what, bomb) in enumerate(_BOMBS.items()):
            with become_member(port, number) as member:
                began = time.perf_counter()
                member.sendall(frame(bomb) + JSON_PING)
                try:
                    answer = received_until(member, b'"pong"')
                except (OSError, EOFError):
                    broken.append(what)
                    continue
                slowest = max(slowest, time.perf_counter() - began)
                longest = max(longest, len(answer))
                if b'"refused"' not in answer:
                    broken.append(what)
        yield Finding(f"messages that are not refused{': ' if broken else ''}{', '.join(broken)}", len(broken), 0, "")
        yield Finding("longest answer", longest, 1_024, "bytes")
        yield Finding("slowest answer", slowest * 1000, 50, "ms")
    with serving("--web", ANY) as target:
        bombs = [frame(bomb) for bomb in _BOMBS.values()]
        for number, (what, opening, per_host) in enumerate(
            (
                ("members of one host", upgrade() + BEGIN, 64),
                ("members of 64 hosts", upgrade() + BEGIN, 1),
                ("peers without a session", upgrade(), 8),
            )
        ):
            flood = Flood(target.ports[0], 100 * number, opening, bombs, per_host=per_host)
            yield from effects(target, flood, seconds / 3, what, cpu=50, memory=24)
        yield from quiet(target)


def idle_web_members(serving: Serving, seconds: float) -> Iterator[Finding]:
    """2,000 silent WebSocket members."""
    members = 2_000
    with serving("--web", ANY, "--chat-idle-timeout", 0) as target, many() as opened:
        before = 0.0
        for number in range(members + 100):
            if number == 100:
                before = target.memory()
            opened.append(become_member(target.ports[0], number))
        yield Finding("memory for each", (target.memory() - before) / members / 1024, 16, "KiB")
        yield from quiet(target)
