"""Half an hour of short connections: ``python -m hostile.soak [--minutes N] [--reactor NAME]``.

50 connections per second to echo and chat. Each sends something and closes in one of ten ways. Ten members stay and
talk, and datagrams are sent beside them. The result is whether memory grows: the slope of a straight line through its
figures after the first fifth of the time.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from hostile.finding import MIB, Finding
from hostile.target import ANY, HOST, Target, connect, serving, warm

PER_SECOND = 50


def _short_connection(port: int, number: int, chat: bool) -> None:
    """Connect, send something, and close in the way that ``number`` selects."""
    with connect(port, number % 50_000) as peer, suppress(OSError):
        peer.sendall(b"/nick n%d\nhello\n" % number if chat else b"x" * (number % 5_000))
        if number % 5 == 0:
            peer.shutdown(socket.SHUT_WR)
        if number % 3 == 0:
            peer.recv(65_536)
        if number % 4 == 0:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it resets


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Return the slope of a straight line by least squares."""
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread


def _soak(target: Target, seconds: float) -> list[tuple[float, float]]:
    """Run the connections. Return (seconds, MiB) once a second."""
    echo, chat, udp = target.ports
    samples: list[tuple[float, float]] = []
    members = [connect(chat, 50_000 + number) for number in range(10)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        began, number = time.monotonic(), 0
        while (now := time.monotonic() - began) < seconds:
            while number < now * PER_SECOND:
                number += 1
                _short_connection(chat if number % 2 else echo, number, bool(number % 2))
                asking.sendto(b"%d" % number, (HOST, udp))
                with suppress(BlockingIOError):
                    asking.recv(2_000)
            if now > len(samples):
                samples.append((now, target.memory() / MIB))
                members[len(samples) % 10].sendall(b"still here\n")
                for member in members:
                    member.setblocking(False)
                    with suppress(BlockingIOError):
                        while member.recv(1 << 20):
                            pass
                    member.setblocking(True)
            time.sleep(0.002)
    for member in members:
        member.close()
    return samples


def main(argv: Sequence[str] | None = None) -> int:
    """Run the soak test and print its figures."""
    arguments = argparse.ArgumentParser(
        prog="python -m hostile.soak", description="Short connections for half an hour."
    )
    arguments.add_argument("--minutes", type=float, default=30.0, help="duration in minutes (default: 30)")
    arguments.add_argument("--reactor", default="uvloop", help="reactor to test (default: uvloop)")
    options = arguments.parse_args(argv)
    with serving(options.reactor, "--tcp", ANY, "--chat", ANY, "--udp", ANY) as target:
        warm(target.ports[0])
        files = target.files()
        samples = _soak(target, options.minutes * 60)
        steady = samples[len(samples) // 5 :]
        findings = [
            Finding("memory in ten minutes", slope(steady) * 600, 1, "MiB"),
            Finding("files left open", target.files_above(files), 0, ""),
            Finding("tracebacks in the log", target.log_lines("Traceback"), 0, ""),
        ]
        print(
            f"{options.reactor}: {samples[0][1]:.1f} MiB at first, {steady[0][1]:.1f} then, {samples[-1][1]:.1f} last"
        )
    for finding in findings:
        print(f"{finding.what}: {finding.figure:.3g} {finding.unit} (at most {finding.most:g})")
    return 0 if all(finding.within_bound for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
