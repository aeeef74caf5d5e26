"""``netsvc probe``: measure a network, in both directions where the target can tell them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click
from click import UsageError
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from netsvc.check.tls_attempt import checking_contexts
from netsvc.cli.command import Command, CommandError, explain
from netsvc.cli.console import notice, print_line
from netsvc.cli.json_lines import json_line
from netsvc.cli.parameters import (
    CONTEXT_SETTINGS,
    IPAddress,
    PositiveNumber,
    address_family,
    family_options,
    file_option,
    json_option,
    wait_option,
)
from netsvc.cli.probe_lines import event_line, summary_lines
from netsvc.cli.terminal_reactor import install_asyncio_reactor, output_moves_cursor
from netsvc.net.host_names import resolve
from netsvc.net.name_resolver import ascii_name
from netsvc.net.reactors import Reactor, cancel, monotonic_of
from netsvc.net.server_tls import CertificateError, load_certificates
from netsvc.probe.fail_condition import FailCondition, FailConditionError, parse_fail_condition
from netsvc.probe.probe_dialects import ProbeSizeError
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_payload import PROBE_SIZE_MAX, PayloadError
from netsvc.probe.probe_summary import ProbeSummary
from netsvc.probe.probe_target import ProbeProtocol, ProbeTarget, ProbeTargetError, parse_probe_target
from netsvc.wire.address import HostPort, family_of

if TYPE_CHECKING:
    from netsvc.cli.probe_screen import ProbeScreen
    from netsvc.probe.probe_run import ProbeRun

#: Seconds of the shortest interval at which each answer gets a line. At a shorter one, there is a summary each second.
LINES_INTERVAL = 0.02

#: Seconds between two pictures of the live view, and the share of the time that they may take.
REFRESH = 0.25
SCREEN_SHARE = 0.05

#: The largest DSCP.
DSCP_MAX = 63

_STREAMS: tuple[ProbeProtocol, ...] = ("tcp", "tls")


@dataclass
class Probe(Command):
    """The targets, and how they are measured."""

    targets: tuple[str, ...]
    stamp: bool
    udp: bool
    udp_echo: bool
    tcp: bool
    tls: bool
    interval: float
    count: int | None
    duration: float | None
    size: int | None
    dscp: int | None
    ipv4: bool
    ipv6: bool
    source: str | None
    timeout: float
    every: float | None
    lines: bool
    as_json: bool
    fail_if: tuple[str, ...]
    report: str | None
    ca: str | None

    def __post_init__(self) -> None:
        self._targets = self._parse_targets()
        self._conditions = _parse_conditions(self.fail_if)
        self._family = address_family(self.ipv4, self.ipv6)
        if self.source is not None:
            if self._family not in (0, family_of(self.source)):
                raise UsageError(f"--source {self.source}: an address of the other family; leave out -4 or -6")
            self._family = family_of(self.source)
        streams = [str(target) for target in self._targets if target.protocol in _STREAMS]
        for flag, value in (("--dscp", self.dscp), ("--size", self.size)):
            if value is not None and streams:
                raise UsageError(f"{flag}: {streams[0]} is a connection and has no such choice; leave out one of them")
        if self.ca is not None:
            try:
                load_certificates(self.ca)
            except CertificateError as e:
                raise UsageError(f"--ca {self.ca}: {e}; name a PEM file with certificates") from None
        if not find_spec("hdrh"):
            raise UsageError("hdrhistogram is not installed; run pip install '.[probe]' in netsvc's source folder")
        self._check_report()
        if self.lines and self.every is not None:
            raise UsageError("--lines cannot be combined with --every, which prints summaries; leave out one of them")
        wants_lines = self.as_json or self.lines
        can_move = output_moves_cursor() and find_spec("rich") is not None
        self._has_screen = can_move and not wants_lines and self.every is None
        if self.every is None and self.interval < LINES_INTERVAL and not wants_lines and not self._has_screen:
            self.every = 1.0
        self._ended: Deferred[None] = Deferred()
        self._next_call: IDelayedCall | None = None
        self._screen: ProbeScreen | None = None

    def install_reactor(self) -> None:
        # Twisted's own reactors take the time of a transmission for an error of the socket, and no longer watch it. The
        # port would have to ask them again after each probe.
        install_asyncio_reactor()

    async def run(self, reactor: Reactor) -> None:
        if self._has_screen:
            from netsvc.cli.probe_screen import ProbeScreen  # late: rich is an extra

            self._screen = ProbeScreen()
        runs = await self._prepare(reactor)
        try:
            await self._measure_and_judge(reactor, runs)
        finally:  # also if nobody reads the lines any more
            self._write_report(runs)

    # The rest is private

    async def _measure_and_judge(self, reactor: Reactor, runs: Sequence[ProbeRun]) -> None:
        """Measure, print the results, and fail if they are bad."""
        interrupted = False
        try:
            await self._measure(reactor, runs)
        except (CancelledError, asyncio.CancelledError):
            interrupted = True
        finally:
            for run in runs:
                await run.stop()
        summaries = [run.total() for run in runs]
        for summary in summaries:
            self._print([json_line(summary.to_json())] if self.as_json else summary_lines(summary))
        if interrupted:
            raise CancelledError
        failures = [failure for summary in summaries for failure in _failures(self._conditions, summary)]
        silent = [summary for summary in summaries if not summary.counts.answered + summary.counts.late]
        for failure in failures:
            notice(failure)
        for summary in silent:
            notice(f"{summary.target}: {_silence(summary)}")
        if failures or silent:
            raise CommandError

    def _parse_targets(self) -> list[ProbeTarget]:
        flags: dict[ProbeProtocol, bool] = {
            "stamp": self.stamp,
            "udp": self.udp,
            "udp-echo": self.udp_echo,
            "tcp": self.tcp,
            "tls": self.tls,
        }
        chosen = [protocol for protocol, is_chosen in flags.items() if is_chosen]
        if len(chosen) > 1:
            raise UsageError(
                f"--{chosen[0]} cannot be combined with --{chosen[1]}; leave out one of them, or write "
                f"{chosen[0]}/HOST and {chosen[1]}/HOST"
            )
        try:
            return [parse_probe_target(text, chosen[0] if chosen else "stamp") for text in self.targets]
        except ProbeTargetError as e:
            raise UsageError(str(e)) from None

    async def _prepare(self, reactor: Reactor) -> list[ProbeRun]:
        from netsvc.probe.probe_run import ProbeRun, ProbeSettings  # late: it needs hdrhistogram

        interval = round(self.interval * 1e9)
        settings = ProbeSettings(
            interval=interval,
            count=self.count,
            duration=None if self.duration is None else round(self.duration * 1e9),
            timeout=round(self.timeout * 1e9),
            size=self.size,
            traffic_class=None if self.dscp is None else self.dscp << 2,
            source=self.source or "",
        )
        has_tls = any(target.protocol == "tls" for target in self._targets)
        contexts = checking_contexts(self.ca or "") if has_tls else ()
        addresses = [await self._resolve(reactor, target) for target in self._targets]
        runs = []
        for number, (target, address) in enumerate(zip(self._targets, addresses, strict=True)):
            try:
                run = ProbeRun(
                    reactor,
                    target,
                    address,
                    settings,
                    delay=interval * number // len(self._targets),  # the targets take turns
                    contexts=contexts if target.protocol == "tls" else (),
                    on_event=None if self.every is not None or self._has_screen else self._print_event,
                )
            except (ProbeSizeError, PayloadError) as e:
                raise UsageError(f"--size {self.size}: {e}") from None
            runs.append(run)
        return runs

    async def _measure(self, reactor: Reactor, runs: Sequence[ProbeRun]) -> None:
        """Start all runs, and wait until they are finished."""
        try:
            for run in runs:
                self._start(run)
            if self.every is not None:
                self._next_call = reactor.callLater(self.every, self._print_intervals, reactor, runs)
            if self._screen is not None:
                self._screen.start()
                self._update_screen(self._screen, reactor, runs)
            finished = DeferredList([run.finished for run in runs], fireOnOneErrback=True, consumeErrors=True)
            finished.addCallbacks(lambda _: self._end(), lambda failure: self._end(failure.value.subFailure))
            await self._ended
        finally:
            cancel(self._next_call)
            if self._screen is not None:
                self._screen.stop()

    async def _resolve(self, reactor: Reactor, target: ProbeTarget) -> str:
        try:
            addresses = await resolve(reactor, ascii_name(target.host), self._family)
        except Exception as e:
            raise CommandError(explain(e, HostPort(target.host, target.port))) from None
        return addresses[0]

    def _start(self, run: ProbeRun) -> None:
        source = None if self.source is None else HostPort(self.source, 0)
        try:
            run.start()
        except Exception as e:
            raise CommandError(explain(e, HostPort(run.address, run.target.port), source)) from None

    def _update_screen(self, screen: ProbeScreen, reactor: Reactor, runs: Sequence[ProbeRun]) -> None:
        clock = monotonic_of(reactor)
        began = clock()
        screen.update([(run.total(), run.record.series) for run in runs])
        # Probes that are due meanwhile leave late.
        pause = max(REFRESH, (clock() - began) / SCREEN_SHARE)
        self._next_call = reactor.callLater(pause, self._update_screen, screen, reactor, runs)

    def _check_report(self) -> None:
        if self.report is None:
            return
        if not find_spec("matplotlib"):
            raise UsageError("matplotlib is not installed; run pip install '.[plot]' in netsvc's source folder")
        from netsvc.probe.probe_report import ReportError, check_report_path  # late: it takes 0.5 s

        try:
            check_report_path(self.report)
        except ReportError as e:
            raise UsageError(f"--report {e}") from None

    def _write_report(self, runs: Sequence[ProbeRun]) -> None:
        if self.report is None:
            return
        from netsvc.probe.probe_report import ReportedTarget, ReportError, write_report

        reported = [ReportedTarget(run.total(), run.record.series, run.record.buckets()) for run in runs]
        if not any(target.summary.counts.attempted for target in reported):
            return
        try:
            write_report(self.report, reported)
        except ReportError as e:
            raise CommandError(f"--report {e}") from None

    def _print_event(self, event: ProbeEvent) -> None:
        self._print([json_line(event.to_json()) if self.as_json else event_line(event)])

    def _print_intervals(self, reactor: Reactor, runs: Sequence[ProbeRun]) -> None:
        assert self.every is not None
        self._next_call = reactor.callLater(self.every, self._print_intervals, reactor, runs)
        for run in runs:
            summary = run.interval()
            self._print([json_line(summary.to_json())] if self.as_json else summary_lines(summary))

    def _print(self, lines: Sequence[str]) -> None:
        """Print lines. If that fails, end the measurement."""
        try:
            for line in lines:
                print_line(line)
        except (BrokenPipeError, CommandError) as e:
            if self._ended.called:
                raise
            self._ended.errback(e)

    def _end(self, failure: Failure | None = None) -> None:
        if not self._ended.called:
            self._ended.callback(None) if failure is None else self._ended.errback(failure)


def _parse_conditions(texts: Sequence[str]) -> list[FailCondition]:
    try:
        return [parse_fail_condition(text) for text in texts]
    except FailConditionError as e:
        raise UsageError(f"--fail-if {e}") from None


def _failures(conditions: Sequence[FailCondition], summary: ProbeSummary) -> list[str]:
    found = [(summary.target, condition.failure(summary)) for condition in conditions]
    return [f"{target}: {failure}" for target, failure in found if failure is not None]


def _silence(summary: ProbeSummary) -> str:
    if summary.counts.corrupted:
        return "all answers were damaged; another service listens there, or the path changes the packets"
    if summary.counts.foreign:
        return "all answers were to other programs; does something else use the same responder and port?"
    if summary.errors:
        return f"no answer; {max(summary.errors, key=summary.errors.__getitem__)}"
    return "no answer; no program listens there, or a firewall drops the packets"


def _protocol_option(flag: str, meaning: str) -> click.Option:
    return click.Option([flag], is_flag=True, help=meaning)


COMMAND = click.Command(
    "probe",
    callback=Probe,
    context_settings=CONTEXT_SETTINGS,
    short_help="Measure delay, loss and jitter to targets.",
    help=(
        "Send probes to each TARGET by a schedule, whatever the answers do, and tell delay, loss, duplicates, "
        "reordering and jitter. A TARGET is [PROTOCOL/]HOST[:PORT]; the protocols are stamp (RFC 8762; it also tells "
        "in which direction probes are lost and late), udp (netsvc's timestamps), udp-echo (RFC 862), tcp and tls. "
        "Without -c and -d, it goes on until Ctrl-C, which prints the summary. At a terminal it shows a live view. The "
        "exit status is 1 if a target does not answer, or if a condition of --fail-if holds."
    ),
    params=[
        click.Argument(["targets"], metavar="TARGET...", nargs=-1, required=True),
        _protocol_option("--stamp", "Use STAMP for targets that name no protocol. This is the default."),
        _protocol_option("--udp", "Use timestamps in datagrams for them."),
        _protocol_option("--udp-echo", "Use an echo of datagrams for them."),
        _protocol_option("--tcp", "Use TCP connections for them."),
        _protocol_option("--tls", "Use TCP connections and TLS handshakes for them."),
        click.Option(
            ["-i", "--interval"],
            type=PositiveNumber(float, 1e-6, 86_400),
            default=0.2,
            show_default=True,
            metavar="SECONDS",
            help="Seconds from one probe of a target to the next.",
        ),
        click.Option(["-c", "--count"], type=PositiveNumber(int), metavar="N", help="Send N probes to each target."),
        click.Option(
            ["-d", "--duration"],
            type=PositiveNumber(float, 1e-6, 1e9),
            metavar="SECONDS",
            help="Send the probes that are due within this time.",
        ),
        click.Option(
            ["--size"],
            type=click.IntRange(1, PROBE_SIZE_MAX),
            metavar="BYTES",
            help="Bytes of each datagram. [default: 44 for stamp, else 64]",
        ),
        click.Option(
            ["--dscp"],
            type=click.IntRange(0, DSCP_MAX),
            metavar="N",
            help="The differentiated services code point of the datagrams, such as 46.",
        ),
        *family_options(),
        click.Option(
            ["-s", "--source"], type=IPAddress(), metavar="ADDRESS", help="Send from this IP address of this host."
        ),
        wait_option(2.0, "Seconds without an answer after which a probe is lost."),
        click.Option(
            ["--every"],
            type=PositiveNumber(float, 1e-3, 1e6),
            metavar="SECONDS",
            help=(
                "Print a summary every SECONDS, in place of a line for each answer. [default: 1 if -i is below 0.02, "
                "without --lines and --json]"
            ),
        ),
        click.Option(
            ["--lines"], is_flag=True, help="Print a line for each answer, whatever -i is, at a terminal too."
        ),
        json_option(),
        click.Option(
            ["--fail-if"],
            metavar="CONDITION",
            multiple=True,
            help="Exit with 1 if this holds at the end, as in 'loss>1%' or 'p99>20ms'. May be repeated.",
        ),
        file_option("--report", "At the end, write a picture of the measurement to this file: .svg, .png or .html."),
        file_option("--ca", "With TLS: trust the authority in this PEM file instead of those of the system."),
    ],
)
