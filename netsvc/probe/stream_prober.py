"""Opens connections to one target by its schedule, whatever became of the earlier ones, and measures them."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.check.check_target import CheckTarget
from netsvc.check.finding import Finding, PortVerdict
from netsvc.check.stream_check import check_stream
from netsvc.net.precise_timer import PreciseTimer
from netsvc.net.reactors import Reactor, monotonic_nanoseconds_of
from netsvc.probe.probe_ledger import StampSource
from netsvc.probe.probe_recorder import LOSS_INTERVAL, ProbeRecorder
from netsvc.probe.probe_schedule import ProbeSchedule

#: Connections that are being opened at a time. Further probes are not sent, and are counted so.
CONNECTIONS_MAX = 256


class StreamProber:
    """Probes one target over TCP, or TLS. Each probe is a connection, which is closed when it is open.

    A TLS probe is answered when its handshake is complete. The recorder waits for it twice as long as ``timeout``.

    :param reactor: connects.
    :param target: the protocol, ``tcp`` or ``tls``, and the port.
    :param host: the name or address that the user has typed, which a certificate should have.
    :param address: the IPv4 or IPv6 address of the target.
    :param schedule: tells when the probes are due.
    :param recorder: is told what happens.
    :param timeout: seconds that a connection may take, and then a handshake.
    :param contexts: for TLS: those of :func:`~netsvc.check.tls_attempt.checking_contexts`.
    :param source: the local IP address of the connections; empty for that of the route.
    :ivar finished: fires when the last probe of the schedule is answered or lost, or after :meth:`stop`.
        It fails if the recorder raises an exception while connections are opened.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        target: CheckTarget,
        host: str,
        address: str,
        schedule: ProbeSchedule,
        recorder: ProbeRecorder,
        timeout: float,
        contexts: Sequence[SSL.Context] = (),
        source: str = "",
    ) -> None:
        self.finished: Deferred[None] = Deferred()
        self._reactor = reactor
        self._target = target
        self._host = host
        self._address = address
        self._schedule = schedule
        self._recorder = recorder
        self._timeout = timeout
        self._contexts = contexts
        self._source = source
        self._mono = monotonic_nanoseconds_of(reactor)
        self._timer: PreciseTimer | None = None  # from the start to the end
        self._next_look = 0
        self._opening: set[Deferred[Finding]] = set()

    def start(self) -> None:
        """Wait for the first probe of the schedule."""
        self._timer = PreciseTimer(self._reactor, self._wake)
        self._timer.set(self._schedule.next_wake(self._next_look))

    def stop(self) -> None:
        """Open no further connections, and give up those that are being opened."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        for opening in tuple(self._opening):
            opening.cancel()
        if not self.finished.called:
            self.finished.callback(None)

    def _wake(self) -> None:
        try:
            self._connect_and_look()
        except Exception:  # a fault of the recorder: nothing more would be opened
            failure = Failure()
            if not self.finished.called:
                self.finished.errback(failure)
            self.stop()

    def _connect_and_look(self) -> None:
        now = self._mono()
        for sequence in self._schedule.due(now):
            self._connect(sequence)
        if now >= self._next_look:
            self._next_look = now + LOSS_INTERVAL
            pending = self._recorder.advance(now)
            if not pending and not self._opening and self._schedule.finished:
                self.stop()
        if self._timer is not None:  # the recorder may have stopped it
            self._timer.set(self._schedule.next_wake(self._next_look))

    def _connect(self, sequence: int) -> None:
        due = self._schedule.time_of(sequence)
        if len(self._opening) >= CONNECTIONS_MAX:
            self._recorder.unsent(sequence, due, OSError(errno.EAGAIN, "too many connections are being opened"))
            return
        began = self._mono()
        self._recorder.sent(sequence, due, began)
        opening = Deferred.fromCoroutine(
            check_stream(
                self._reactor, self._target, self._host, self._address, self._timeout, self._contexts, self._source
            )
        )
        self._opening.add(opening)
        opening.addBoth(self._opened, opening)
        opening.addCallbacks(self._found, self._failed, callbackArgs=(sequence, began))

    def _opened(self, result: Finding | Failure, opening: Deferred[Finding]) -> Finding | Failure:
        self._opening.discard(opening)
        return result

    def _found(self, finding: Finding, sequence: int, began: int) -> None:
        if finding.connect_seconds is None or finding.verdict is not PortVerdict.OPEN:
            if finding.verdict is not PortVerdict.FILTERED:  # silence tells no reason
                self._recorder.refused(OSError(errno.ECONNREFUSED, finding.reason))
            return
        mono = began + round(finding.connect_seconds * 1e9)
        took = finding.handshake_seconds
        handshake = None if took is None else round(took * 1e9)
        source: StampSource = "kernel" if finding.connect_by_kernel else "process"
        self._recorder.answered(sequence, mono, source, 0, handshake=handshake)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self.log.failure("a probe failed", failure)
