"""Sends probes to one target by its schedule, whatever the answers do, and receives the answers."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred

from netsvc.net.datagram_protocol import DatagramService, connect_port
from netsvc.net.precise_timer import PreciseTimer
from netsvc.net.reactors import Reactor, monotonic_nanoseconds_of, wall_nanoseconds_of
from netsvc.probe.clock_reading import ClockReading, clocks_moved
from netsvc.probe.probe_dialects import ProbeDialect
from netsvc.probe.probe_payload import PayloadKind
from netsvc.probe.probe_recorder import ProbeRecorder
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.wire.datagram import Datagram

#: Probes that are sent in one iteration of the reactor. After a stall many are due.
SENDS_MAX = 128

#: Nanoseconds between two looks at which probes are lost.
LOSS_INTERVAL = 100_000_000

#: Probes whose time of transmission is waited for.
TRANSMISSIONS_MAX = 4_096

#: Nanoseconds within which both clocks must be read. If the process was interrupted meanwhile, they are read again.
READING_MAX = 5_000
_READINGS_MAX = 5

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
    :ivar finished: fires when the last probe of the schedule is answered or lost, or when the port is closed.
    """

    def __init__(
        self,
        reactor: Reactor,
        host: str,
        port: int,
        dialect: ProbeDialect,
        schedule: ProbeSchedule,
        recorder: ProbeRecorder,
    ) -> None:
        super().__init__(reactor)
        self.peer = (host, port)
        self.finished: Deferred[None] = Deferred()
        self._dialect = dialect
        self._schedule = schedule
        self._recorder = recorder
        self._mono = monotonic_nanoseconds_of(reactor)
        self._wall = wall_nanoseconds_of(reactor)
        self._base = self._read_clocks()
        self._valid_from = 0  # probes before this one were sent before the clock was set
        self._next = 0  # the number of the next probe
        self._due: deque[int] = deque()
        self._transmissions: deque[int] = deque()  # the probes whose time of transmission is not known yet
        self._transmission = 0  # the number of the first of them at the socket
        self._next_look = 0
        self._timer = PreciseTimer(reactor, self._wake)
        self._is_open = False

    # Called by the port

    def startProtocol(self) -> None:
        connect_port(self.transport, *self.peer)
        self._is_open = True
        self._set_timer()

    def batch_received(self, batch: Sequence[Datagram]) -> list[Datagram]:
        self._read_transmit_times(len(self._transmissions))
        reading = self._check_clocks()
        offset = self._base.wall - self._base.mono
        parse, recorder = self._dialect.parse, self._recorder
        for datagram in batch:
            answer = parse(datagram.payload, reading.wall)
            if answer.kind is PayloadKind.OURS:
                time = datagram.kernel_time
                mono = reading.mono if time is None else time - offset
                recorder.answered(
                    answer.sequence,
                    mono,
                    "process" if time is None else "kernel",
                    offset,
                    void=answer.sequence < self._valid_from,
                    times=answer.times,
                )
            elif answer.kind is PayloadKind.CORRUPTED:
                recorder.corrupted()
            else:
                recorder.foreign()
        return []

    def not_received(self, failure: OSError) -> None:
        self._recorder.refused(failure)

    def stopProtocol(self) -> None:
        super().stopProtocol()
        self._is_open = False
        self._timer.close()
        self._finish()

    # The rest is private

    def _wake(self) -> None:
        """Send what is due, and look for what is lost."""
        if not self._is_open:
            return
        now = self._mono()
        self._due.extend(self._schedule.due(now))
        self._check_clocks()
        for _ in range(min(len(self._due), SENDS_MAX)):
            self._send(self._due.popleft())
        if now >= self._next_look:
            self._next_look = now + LOSS_INTERVAL
            self._read_transmit_times(len(self._transmissions))
            pending = self._recorder.advance(now)
            if not pending and not self._due and self._schedule.finished:
                self._finish()
                return
        self._set_timer()

    def _set_timer(self) -> None:
        if self._due:
            self._timer.set(self._mono())
            return
        due = self._schedule.next_time()
        self._timer.set(self._next_look if due is None else min(due, self._next_look or due))

    def _send(self, sequence: int) -> None:
        due = self._schedule.time_of(sequence)
        self._next = sequence + 1
        try:
            mono = self._write(sequence)
        except OSError as e:
            if e.errno not in _OF_EARLIER:
                self._recorder.unsent(sequence, due, e)
                return
            self._recorder.refused(e)
            try:
                mono = self._write(sequence)
            except OSError as again:
                self._recorder.unsent(sequence, due, again)
                return
        self._recorder.sent(sequence, due, mono)
        self._transmissions.append(sequence)
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
        offset = self._base.wall - self._base.mono
        for number, time in self.transport.socket.transmit_times(maximum):
            missing = (number - self._transmission) & 0xFFFFFFFF
            if missing < len(self._transmissions):
                for _ in range(missing):
                    self._next_transmission()
                self._recorder.transmitted(self._next_transmission(), time - offset)

    def _next_transmission(self) -> int:
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
        for _ in range(_READINGS_MAX):
            before = mono()
            now = wall()
            after = mono()
            if after - before <= READING_MAX:
                break
        return ClockReading((before + after) // 2, now, after - before)

    def _finish(self) -> None:
        if not self.finished.called:
            self.finished.callback(None)
