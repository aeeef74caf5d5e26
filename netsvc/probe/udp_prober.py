"""Sends probes to one target by its schedule, whatever the answers do, and receives the answers."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from netsvc.net.datagram_protocol import DatagramService, connect_port
from netsvc.net.precise_timer import PreciseTimer
from netsvc.net.reactors import Reactor, monotonic_nanoseconds_of, wall_nanoseconds_of
from netsvc.probe.clock_reading import MOVEMENT_MAX, ClockReading, clocks_moved
from netsvc.probe.probe_dialects import ProbeDialect
from netsvc.probe.probe_ledger import StampSource
from netsvc.probe.probe_payload import PayloadKind
from netsvc.probe.probe_recorder import LOSS_INTERVAL, ProbeRecorder
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.wire.datagram import Datagram

#: Probes that are sent in one iteration of the reactor. After a stall many are due. The port receives up to 64 answers
#: in one iteration, so those to a burst do not fill its buffer.
SENDS_MAX = 32

#: Probes whose time of transmission is waited for.
TRANSMISSIONS_MAX = 4_096

#: Nanoseconds within which both clocks must be read. If the process was interrupted meanwhile, they are read again.
READING_MAX = 5_000
_READINGS_MAX = 5

#: Numbers of datagrams that are less than this ahead are those of later ones. The rest are those of earlier ones.
_NUMBERS_AHEAD = 1 << 31

_KERNEL: StampSource = "kernel"
_PROCESS: StampSource = "process"

#: Errors of a send that tell of an earlier probe. The probe itself was not sent.
_OF_EARLIER = frozenset((errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN))


class UdpProber(DatagramService):
    """Probes one target over UDP. It is the service of a UDP port.

    :param reactor: tells the time and calls the prober when a probe is due.
    :param host: the IPv4 or IPv6 address of the target.
    :param port: its port.
    :param dialect: makes the questions.
    :param schedule: tells when they are due.
    :param recorder: is told what happens.
    :param wall: tells the nanoseconds since the epoch on the clock by which the kernel stamps datagrams; by default
        that of the reactor.
    :ivar finished: fires when the last probe of the schedule is answered or lost, or when the port is closed. It fails
        if the recorder or the dialect raises an exception while probes are sent.
    """

    def __init__(
        self,
        reactor: Reactor,
        host: str,
        port: int,
        dialect: ProbeDialect,
        schedule: ProbeSchedule,
        recorder: ProbeRecorder,
        *,
        wall: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self.peer = (host, port)
        self.finished: Deferred[None] = Deferred()
        self._dialect = dialect
        self._schedule = schedule
        self._recorder = recorder
        self._mono = monotonic_nanoseconds_of(reactor)
        self._wall = wall_nanoseconds_of(reactor) if wall is None else wall
        self._base = self._read_clocks()
        self._valid_from = 0  # probes before this one were sent before the clock was set
        self._next = 0  # the number of the next probe
        self._due_below = 0  # probes with smaller numbers are due
        # The probes whose time of transmission is not known yet: their numbers, and the times right before the sends.
        self._transmissions: deque[tuple[int, int]] = deque()
        self._transmission = 0  # the number of the first of them at the socket
        self._next_look = 0
        self._look_postponed = False
        self._timer: PreciseTimer | None = None  # while the port is open

    # Called by the port

    def startProtocol(self) -> None:
        connect_port(self.transport, *self.peer)
        self._timer = PreciseTimer(self._reactor, self._wake)
        self._set_timer(self._timer)

    def batch_received(self, batch: Sequence[Datagram]) -> list[Datagram]:
        self._read_transmit_times(len(self._transmissions))
        reading = self._check_clocks()
        offset = self._base.wall - self._base.mono
        latest = reading.mono + reading.uncertainty + self._base.uncertainty + MOVEMENT_MAX
        parse, recorder = self._dialect.parse, self._recorder
        for datagram in batch:
            answer = parse(datagram.payload, reading.wall)
            if answer.kind is PayloadKind.OURS:
                time = datagram.kernel_time
                mono, source = (reading.mono, _PROCESS) if time is None else (time - offset, _KERNEL)
                void = answer.sequence < self._valid_from
                if void or mono > latest:
                    # The stamp is on another clock than the send. This time is right enough for the verdict.
                    mono, source, void = reading.mono, _PROCESS, True
                recorder.answered(answer.sequence, mono, source, offset, void=void, times=answer.times)
            elif answer.kind is PayloadKind.CORRUPTED:
                recorder.corrupted(reading.mono)
            else:
                recorder.foreign(reading.mono)
        return []

    def not_received(self, failure: OSError) -> None:
        self._recorder.refused(failure)

    def dropped(self, count: int) -> None:
        self._recorder.refused(OSError(errno.ENOBUFS, "answers were dropped: the receive buffer was full"), count)

    def stopProtocol(self) -> None:
        super().stopProtocol()
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._finish()

    # The rest is private

    def _wake(self) -> None:
        """Send what is due, and look for what is lost."""
        try:
            self._send_and_look()
        except Exception:  # a fault of the recorder or the dialect: nothing more would be sent
            self._finish(Failure())

    def _send_and_look(self) -> None:
        timer = self._timer
        if timer is None:
            return
        now = self._mono()
        self._due_below = max(self._due_below, self._schedule.due(now).stop)
        self._check_clocks()
        for sequence in range(self._next, min(self._due_below, self._next + SENDS_MAX)):
            self._send(sequence)
        if now - self._next_look >= LOSS_INTERVAL and self._next_look and not self._look_postponed:
            # The process or the system has stalled. The answers that wait in the buffer come first.
            self._next_look = now + LOSS_INTERVAL
            self._look_postponed = True
        elif now >= self._next_look:
            self._next_look = now + LOSS_INTERVAL
            self._look_postponed = False
            self._read_transmit_times(len(self._transmissions))
            pending = self._recorder.advance(now)
            if not pending and self._next == self._due_below and self._schedule.finished:
                self._finish()
                return
        self._set_timer(timer)

    def _set_timer(self, timer: PreciseTimer) -> None:
        if self._next < self._due_below:
            timer.set(self._mono())
            return
        timer.set(self._schedule.next_wake(self._next_look))

    def _send(self, sequence: int) -> None:
        due = self._schedule.time_of(sequence)
        self._next = sequence + 1
        try:
            mono = self._write(sequence)
        except OSError as e:
            if e.errno not in _OF_EARLIER:
                self._recorder.unsent(sequence, due, e)
                return
            try:
                mono = self._write(sequence)
            except OSError as again:
                if again.errno != e.errno:
                    self._recorder.refused(e)
                self._recorder.unsent(sequence, due, again)
                return
            self._recorder.refused(e)
        self._recorder.sent(sequence, due, mono)
        self._transmissions.append((sequence, mono))
        if len(self._transmissions) > TRANSMISSIONS_MAX:
            self._next_transmission()
        self._read_transmit_times(1)

    def _write(self, sequence: int) -> int:
        """Send a probe. Return the time right before."""
        question = self._dialect.question(sequence, self._wall())
        mono = self._mono()
        self.transport.write(question)
        return mono

    def _read_transmit_times(self, maximum: int) -> None:
        """Tell the recorder when the kernel has passed probes to the network."""
        if not maximum:
            return
        waiting = self._transmissions
        offset = self._base.wall - self._base.mono
        for number, time in self.transport.socket.transmit_times(maximum):
            passed = (number - self._transmission) & 0xFFFFFFFF
            if not waiting or passed > _NUMBERS_AHEAD:  # the time of a probe that is not waited for any more
                continue
            if passed >= len(waiting):
                # The kernel has counted datagrams that it did not send, such as those that a firewall of this host has
                # refused. No datagram after the last one can have a time.
                passed, self._transmission = len(waiting) - 1, number - len(waiting) + 1
            for _ in range(passed):
                self._next_transmission()
            sequence, before = self._next_transmission()
            # Else the stamp is on another clock: it was set meanwhile.
            if before - self._base.uncertainty - MOVEMENT_MAX <= time - offset <= self._mono() + MOVEMENT_MAX:
                self._recorder.transmitted(sequence, time - offset)

    def _next_transmission(self) -> tuple[int, int]:
        """Return the first probe whose time of transmission is not known, and wait for that of the next one."""
        self._transmission += 1
        return self._transmissions.popleft()

    def _check_clocks(self) -> ClockReading:
        """Read both clocks. If the wall clock was set, the probes that are under way cannot be measured."""
        reading = self._read_clocks()
        if clocks_moved(self._base, reading):
            self._base = reading
            self._valid_from = self._next
        return reading

    def _read_clocks(self) -> ClockReading:
        mono, wall = self._mono, self._wall
        best: ClockReading | None = None
        for _ in range(_READINGS_MAX):
            before = mono()
            now = wall()
            took = mono() - before
            if best is None or took < best.uncertainty:
                best = ClockReading(before + took // 2, now, took)
            if took <= READING_MAX:
                break
        assert best is not None
        return best

    def _finish(self, failure: Failure | None = None) -> None:
        if not self.finished.called:
            if failure is None:
                self.finished.callback(None)
            else:
                self.finished.errback(failure)
