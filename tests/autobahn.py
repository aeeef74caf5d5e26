"""Run the Autobahn test suite for WebSocket servers (RFC 6455) against netsvc.web: ``python -m tests.autobahn``.

The server echoes text and bytes, and takes messages of up to 16 MiB. The suite is a client that sends it about 500
sequences of frames, right and wrong ones, and judges each answer. It needs Python 2.7. The command installs it below
``.foreign``, for the Python that ``--python`` names, and runs in half a minute.

A table lists the cases that are not expected to pass, with a reason for each. The command prints the outcomes as a
Markdown table. The exit status is 1 if another case did not pass, or if an expected one did.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from twisted.application.reactors import installReactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThreadPool
from wsproto.frame_protocol import FrameProtocol

from netsvc.limits.admission import Admission
from netsvc.limits.stream_limits import StreamLimits
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms
from netsvc.web.static_site import StaticSite
from netsvc.web.web_protocol import WebProtocol, WebTerms
from netsvc.web.websocket_messages import text_frame
from tests.foreign.environment import ENVIRONMENTS

#: The packages that are installed.
SUITE = "autobahntestsuite==25.10.1"

#: Bytes of the longest message that the server takes.
MESSAGE_MAX = 16 * 1024 * 1024

#: Seconds after which the suite is ended.
LIMIT = 600

#: The outcome of a case, as the suite names it, and as the table does.
OUTCOMES = {
    "OK": "passed",
    "NON-STRICT": "non-strict",
    "INFORMATIONAL": "informational",
    "UNIMPLEMENTED": "unimplemented",
}
FAILED = "failed"
HEADINGS = (*OUTCOMES.values(), FAILED)
GOOD = ("passed", "informational")

#: The cases that are not expected to pass, as patterns, and why.
REASONS: Mapping[str, str] = {
    "6.4.[34]": (
        "a frame is checked when it is complete, so UTF-8 that is wrong in the middle of one is refused at its end; "
        "RFC 6455 does not say when"
    ),
    "12.*": "no extension is offered: permessage-deflate keeps up to 300 KiB for each connection",
    "13.*": "no extension is offered",
}

#: The groups of cases.
GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragments",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits and speed",
    "10": "fragments that the suite chooses",
    "12": "compression",
    "13": "parameters of compression",
}


class EchoProtocol(WebProtocol):
    """Echoes each message."""

    def text_received(self, text: str) -> None:
        self.send(text_frame(text))

    def binary_received(self, data: bytes) -> None:
        self.send(bytes(FrameProtocol(client=False, extensions=[]).send_data(data)))


class EchoFactory(StreamFactory):
    """Serves an echo over WebSocket at ``/ws``."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.web = WebTerms(StaticSite({"index.html": b"<!doctype html>"}), "ws", "echo", message_max=MESSAGE_MAX)

    def build_connection(self) -> StreamProtocol:
        return EchoProtocol()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the suite, print the table, and exit."""
    options = parser().parse_args(argv)
    client = installed(options.python)
    installReactor(options.reactor)
    react(run, [client, options.case])


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default="python2.7", metavar="PROGRAM", help="Python 2.7 to run the suite on")
    parser.add_argument("--case", nargs="+", default=["*"], metavar="PATTERN", help="cases to run, such as '1.*' (all)")
    parser.add_argument("--reactor", default="epoll", help="reactor of the server (epoll)")
    return parser


def installed(python: str) -> list[str]:
    """Return the command of the suite. Install it if it is not there."""
    folder = ENVIRONMENTS / "autobahn"
    packages, mark = folder / "packages", folder / "installed.txt"
    if not mark.exists() or mark.read_text() != SUITE:
        shutil.rmtree(folder, ignore_errors=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(packages)]
        subprocess.run([*pip, SUITE], check=True)
        mark.write_text(SUITE)
    # A folder that is added as a site has its .pth files read, which the namespace package zope needs.
    start = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()"
    return [python, "-c", start, str(packages), "--mode", "fuzzingclient", "--spec"]


async def serve_and_judge(reactor: Any, client: list[str], cases: list[str]) -> None:
    # An echo of 16 MiB is queued at once.
    limits = StreamLimits(queue_max=4 * MESSAGE_MAX, line_timeout=0)
    factory = EchoFactory(Terms.on(reactor, limits=limits, admission=Admission.unlimited()))
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    with tempfile.TemporaryDirectory() as folder:
        spec, log, reports = (Path(folder, name) for name in ("spec.json", "log", "reports"))
        url = f"ws://127.0.0.1:{port.getHost().port}/ws"
        server = {"agent": "netsvc", "url": url}
        spec.write_text(json.dumps({"outdir": str(reports), "servers": [server], "cases": cases, "exclude-cases": []}))
        with log.open("wb") as output:

            def attack() -> None:
                subprocess.run([*client, str(spec)], stdout=output, stderr=output, timeout=LIMIT, check=False)

            await deferToThreadPool(reactor, reactor.getThreadPool(), attack)
        if not (reports / "index.json").exists():
            raise SystemExit(f"the suite has not run:\n{log.read_text(errors='replace')}")
        found: dict[str, dict[str, Any]] = json.loads((reports / "index.json").read_text())["netsvc"]
        details = {case: json.loads((reports / each["reportfile"]).read_text()) for case, each in found.items()}
    outcomes = {case: outcome(each) for case, each in found.items()}
    out(table(outcomes))
    failures = 0
    for case in sorted(outcomes, key=numbers):
        passed, pattern = outcomes[case] in GOOD, pattern_of(case)
        if passed == (pattern is not None):
            failures += 1
            why = "is listed in REASONS" if passed else f"{details[case]['result']} {details[case]['resultClose']}"
            out(f"- **{case} {outcomes[case]}**: {why}")
    for pattern, reason in REASONS.items():
        counts = Counter(outcomes[case] for case in outcomes if pattern_of(case) == pattern)
        for name, count in counts.items():
            out(f"- {pattern}: {count} {name}: {reason}")
    if failures:
        raise SystemExit(1)


def run(reactor: Any, client: list[str], cases: list[str]) -> Deferred[None]:
    return Deferred.fromCoroutine(serve_and_judge(reactor, client, cases))


def outcome(report: Mapping[str, str]) -> str:
    """Return the outcome of a case. One that ends with a wrong close has failed."""
    if report["behaviorClose"] not in OUTCOMES:
        return FAILED
    return OUTCOMES.get(report["behavior"], FAILED)


def pattern_of(case: str) -> str | None:
    """Return the pattern of ``REASONS`` that names a case."""
    return next((pattern for pattern in REASONS if fnmatchcase(case, pattern)), None)


def numbers(case: str) -> list[int]:
    return [int(number) for number in case.split(".")]


def table(outcomes: Mapping[str, str]) -> str:
    """Return the number of cases of each group, by outcome, as a Markdown table."""
    lines = [f"| cases | | {' | '.join(HEADINGS)} |", "|---|---|" + "---:|" * len(HEADINGS)]
    for group, name in GROUPS.items():
        counts = Counter(outcome for case, outcome in outcomes.items() if case.partition(".")[0] == group)
        if counts:
            lines.append(f"| {group}.* | {name} | {' | '.join(str(counts[heading]) for heading in HEADINGS)} |")
    counts = Counter(outcomes.values())
    lines.append(f"| all | | {' | '.join(str(counts[heading]) for heading in HEADINGS)} |\n")
    return "\n".join(lines)


def out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
