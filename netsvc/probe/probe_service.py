"""Measures one target for ever: as a part of a server, for a monitoring that reads the counters."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.check.tls_attempt import checking_contexts
from netsvc.net.error_words import failure_words
from netsvc.net.host_names import resolve
from netsvc.net.name_resolver import ascii_name
from netsvc.net.reactors import Reactor, cancel, monotonic_nanoseconds_of, wall_nanoseconds_of
from netsvc.probe.answer_watch import AnswerChange, AnswerWatch
from netsvc.probe.bucketed_durations import BucketedDurations
from netsvc.probe.probe_counters import RunningCounters
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_ledger import LedgerCounts
from netsvc.probe.probe_run import ProbeRun, ProbeSettings
from netsvc.probe.probe_summary import ClockSummary, ProbeSummary
from netsvc.probe.probe_target import ProbeTarget
from netsvc.wire.address import is_ip

#: Seconds after which the name of a target is looked up again.
LOOKUP_INTERVAL = 300.0

#: The same while the target does not answer.
SILENT_LOOKUP_INTERVAL = 30.0

#: Seconds until the next attempt after a failed one. They double with each failure, up to the maximum.
RETRY_MIN, RETRY_MAX = 1.0, 60.0

#: Seconds that a summary covers.
SUMMARY_INTERVAL = 60.0

#: The durations that are counted in buckets, by the names of :class:`~netsvc.probe.probe_event.ProbeEvent`.
BUCKETED = ("rtt", "connect", "handshake", "there_change", "back_change")


class ProbeService(Service):
    """Measures one target until it is stopped. It can be started again, and its counters go on.

    The name of the target is looked up every five minutes, every 30 s while the target does not answer, and after each
    failure. As long as the name has the address that is measured, this stays. Otherwise a new run begins. If the system
    cannot begin a run, for instance without a route, the next attempt follows after 1 to 60 s. The service logs one
    line when the target stops answering, and one when it answers again.

    :param reactor: provides sockets, names and time.
    :param target: the target.
    :param settings: how it is measured, without count and duration.
    :param delay: nanoseconds from the start of a run to its first probe, so that several targets take turns.
    :ivar target: the same.
    :ivar counters: the counters as of the last call of :meth:`count`.
    :ivar durations: how often durations of each kind occurred, by the names in ``BUCKETED``.
    :ivar clock: what the target told of its clock; None if it told nothing.
    """

    log = Logger()

    def __init__(self, reactor: Reactor, target: ProbeTarget, settings: ProbeSettings, *, delay: int = 0) -> None:
        self.target = target
        self.counters = RunningCounters()
        self.durations: dict[str, BucketedDurations] = {}
        self.clock: ClockSummary | None = None
        self._reactor = reactor
        self._settings = settings
        self._delay = delay
        self._contexts = checking_contexts() if target.protocol == "tls" else []
        self._mono = monotonic_nanoseconds_of(reactor)
        self._watch = AnswerWatch(self._mono())
        self._starts = 0  # the number of starts and stops: a look-up that began before is not used
        self._run: ProbeRun | None = None
        self._summary: ProbeSummary | None = None  # of the last minute that is complete
        self._retry_delay = RETRY_MIN
        self._next_lookup: IDelayedCall | None = None
        self._next_summary: IDelayedCall | None = None

    @property
    def is_up(self) -> bool:
        """Whether the target answers: it is measured, and fewer than three probes in a row had no answer."""
        return self._run is not None and self._watch.answers is True

    def startService(self) -> None:
        super().startService()
        self._starts += 1
        self._watch = AnswerWatch(self._mono())
        self._retry_delay = RETRY_MIN
        self._reactor.callWhenRunning(self._look_up, self._starts)

    def stopService(self) -> Deferred[None]:
        """Send no more probes. Fires when the socket is closed."""
        super().stopService()
        stopped = self._end_run()
        self._starts += 1
        cancel(self._next_lookup)
        return stopped

    def count(self) -> None:
        """Bring the counters up to date."""
        if self._run is not None:
            found = self._run.counters()
            self.counters.update(found)
            self.clock = found.clock

    def summary(self) -> ProbeSummary:
        """Return the numbers of the last complete minute of this run; those since its start before it is complete."""
        if self._summary is not None:
            return self._summary
        if self._run is not None:
            return self._run.total()
        return ProbeSummary(
            target=str(self.target),
            protocol=self.target.protocol,
            scope="total",
            started=wall_nanoseconds_of(self._reactor)(),
            duration=0,
            interval=self._settings.interval,
            counts=LedgerCounts(),
        )

    # The rest is private

    def _look_up(self, start: int) -> None:
        if start != self._starts:
            return
        looked_up: Deferred[list[str]] = maybeDeferred(lambda: resolve(self._reactor, ascii_name(self.target.host)))
        looked_up.addCallbacks(self._resolved, self._unresolved, (start,), errbackArgs=(start,))
        looked_up.addErrback(self._failed, start)

    def _resolved(self, addresses: list[str], start: int) -> None:
        if start != self._starts:
            return
        if self._run is None or self._run.address not in addresses:
            try:
                self._begin_run(addresses[0])
            except (CannotListenError, OSError) as e:
                cause = e.socketError if isinstance(e, CannotListenError) else e
                self._retry(failure_words(cause) if isinstance(cause, OSError) else str(cause))
                return
        if not is_ip(self.target.host):
            self._look_up_in(SILENT_LOOKUP_INTERVAL if self._watch.answers is False else LOOKUP_INTERVAL)

    def _unresolved(self, failure: Failure, start: int) -> None:
        failure.trap(DNSLookupError, UnicodeError)
        if start != self._starts:
            return
        if self._run is None:
            self._retry("the name has no address")
        else:  # the name server may be away
            self._look_up_in(SILENT_LOOKUP_INTERVAL)

    def _failed(self, failure: Failure, start: int) -> None:
        """A fault of netsvc's. The measurement goes on."""
        self.log.failure("{target}: a run did not begin", failure, target=str(self.target))
        if start == self._starts:
            self._retry("see the traceback")

    def _begin_run(self, address: str) -> None:
        """Measure an address, and no longer the one before.

        :raises CannotListenError: as :meth:`ProbeRun.start` does.
        :raises OSError: likewise.
        """
        self._end_run()
        self._watch.begin_run()
        run = ProbeRun(
            self._reactor,
            self.target,
            address,
            self._settings,
            delay=self._delay,
            contexts=self._contexts,
            on_event=self._take_event,
        )
        run.start()
        self._run = run
        run.finished.addCallbacks(lambda _: self._run_finished(run), lambda failure: self._run_failed(run, failure))
        self._next_summary = self._reactor.callLater(SUMMARY_INTERVAL, self._sum_up)

    def _end_run(self) -> Deferred[None]:
        """End the run, if there is one. Fires when its socket is closed."""
        cancel(self._next_summary)
        self.count()
        self.counters.end_run()
        run, self._run = self._run, None
        self._summary = self.clock = None
        return succeed(None) if run is None else run.stop()

    def _run_finished(self, run: ProbeRun) -> None:
        """The schedule has no end, so the socket was closed."""
        if self._run is run:
            self._end_run()
            self._retry("the system has closed the socket")

    def _run_failed(self, run: ProbeRun, failure: Failure) -> None:
        """A fault of netsvc's has ended the run: begin another one."""
        self.log.failure("{target}: a run has failed", failure, target=str(self.target))
        if self._run is run:
            self._end_run()
            self._retry("see the traceback")

    def _retry(self, reason: str) -> None:
        """Try again to begin a run, after a delay."""
        self._look_up_in(self._retry_delay)
        self._retry_delay = min(2 * self._retry_delay, RETRY_MAX)
        if self._watch.silenced(self._mono()) is not None:
            self.log.warn("{target}: cannot be probed: {reason}", target=str(self.target), reason=reason)

    def _look_up_in(self, delay: float) -> None:
        cancel(self._next_lookup)
        self._next_lookup = self._reactor.callLater(delay, self._look_up, self._starts)

    def _sum_up(self) -> None:
        self._next_summary = self._reactor.callLater(SUMMARY_INTERVAL, self._sum_up)
        if self._run is not None:
            self._summary = self._run.interval()

    def _take_event(self, event: ProbeEvent) -> None:
        change = None
        match event.kind:
            case "answered" | "late":
                assert event.sequence is not None
                self._retry_delay = RETRY_MIN
                self._record_durations(event)
                change = self._watch.answered(event.sequence, self._mono())
            case "lost" | "unsent":
                assert event.sequence is not None
                change = self._watch.missed(event.sequence, self._mono())
        if change is not None:
            self._report(change)

    def _record_durations(self, event: ProbeEvent) -> None:
        for kind in BUCKETED:
            duration: int | None = getattr(event, kind)
            if duration is not None:
                if kind not in self.durations:
                    self.durations[kind] = BucketedDurations()
                self.durations[kind].record(duration)

    def _report(self, change: AnswerChange) -> None:
        fields: dict[str, Any] = {"target": str(self.target), "missed": change.missed, "answered": change.answered}
        if change.answers:
            line = "{target}: answers again after {seconds:.1f} s; {missed:,} probes had no answer"
            if not change.answered:
                line = "{target}: answers for the first time, after {seconds:.1f} s; {missed:,} probes had no answer"
            self.log.info(line, seconds=change.nanoseconds / 1e9, **fields)
            return
        line = "{target}: no answer to the last {missed:,} probes, for {seconds:.1f} s; answered before: {answered:,}"
        self.log.warn(line, seconds=change.nanoseconds / 1e9, **fields)
        if not is_ip(self.target.host):  # the name may have another address now
            self._look_up_in(0)
