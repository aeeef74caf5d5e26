"""How TCP recovers from losses: retransmission timer, fast retransmission, slow start and congestion avoidance."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from netsvc.testing.events import EventQueue
from netsvc.testing.loss_recovery import RETRIES, RETRY_DELAY, RETRY_DELAY_MAX, SegmentPath

#: The retransmission timeout before the first measurement, in seconds (RFC 6298, section 2.1).
FIRST_TIMEOUT = 1.0

#: Duplicate acknowledgements after which a segment is taken as lost (RFC 5681, section 3.2).
DUPLICATES = 3

#: Segments of the first congestion window (RFC 6928), and the least threshold of slow start (RFC 5681).
FIRST_WINDOW, THRESHOLD_MIN = 10.0, 2.0


class RetransmissionTimeout:
    """The retransmission timeout of RFC 6298, with Linux's lower bound for the variation, 0.2 s.

    :ivar seconds: the timeout. It doubles with each :meth:`back_off`, up to 120 s, until the next measurement.
    """

    def __init__(self, round_trip: float | None = None) -> None:
        self.seconds = FIRST_TIMEOUT
        self._smoothed: float | None = None
        self._variation = 0.0
        if round_trip is not None:
            self.measure(round_trip)

    def measure(self, round_trip: float) -> None:
        """Take a measured round-trip time into account, in seconds."""
        if self._smoothed is None:
            self._smoothed, self._variation = round_trip, round_trip / 2
        else:
            self._variation += (abs(self._smoothed - round_trip) - self._variation) / 4
            self._smoothed += (round_trip - self._smoothed) / 8
        self.seconds = min(RETRY_DELAY_MAX, self._smoothed + max(RETRY_DELAY, 4 * self._variation))

    def back_off(self) -> None:
        self.seconds = min(RETRY_DELAY_MAX, 2 * self.seconds)


class CongestionWindow:
    """Slow start, congestion avoidance and fast recovery of RFC 5681 and RFC 6582, counted in segments as on Linux.

    :ivar size: the segments that may be in flight.
    """

    def __init__(self) -> None:
        self.size = FIRST_WINDOW
        self._threshold = inf

    def acknowledged(self, segments: int, in_flight: int) -> None:
        """Grow: by each acknowledged segment in slow start, by one segment in each round trip afterwards.

        A window that the sender did not use does not grow (RFC 7661).
        """
        if in_flight + 1 > self.size:
            self.size += segments if self.size < self._threshold else segments / self.size

    def begin_recovery(self, in_flight: int) -> None:
        """A segment is lost, and later ones have arrived."""
        self._halve(in_flight)
        self.size = self._threshold + DUPLICATES

    def duplicate(self) -> None:
        """One more segment has left the network during the recovery."""
        self.size += 1

    def partly_recovered(self, segments: int) -> None:
        """One of several lost segments has arrived, and was acknowledged with those behind it."""
        self.size = max(self.size - segments + 1, 1.0)

    def end_recovery(self, in_flight: int) -> None:
        """All that was sent before the recovery has arrived. The data in flight bounds the next burst."""
        self.size = min(self._threshold, max(in_flight, 1) + 1.0)

    def time_out(self, in_flight: int) -> None:
        if self.size > 1.0:  # another timeout of the same segment leaves the threshold
            self._halve(in_flight)
        self.size = 1.0

    def _halve(self, in_flight: int) -> None:
        # After a recovery, much of what is not acknowledged has left the network: it arrived behind the next loss. Only
        # as much as the window allows can be in the network (Linux halves the window alone).
        self._threshold = max(min(in_flight, self.size) / 2, THRESHOLD_MIN)


class _SentSegment:
    """A segment that is not acknowledged yet."""

    __slots__ = ("data", "kind", "left_at", "offset", "retransmitted")

    def __init__(self, kind: str, data: bytes, offset: int) -> None:
        self.kind = kind
        self.data = data
        self.offset = offset  # bytes of the stream before it
        self.left_at = 0.0  # the time at which it leaves the queue of the link
        self.retransmitted = False


class TcpRecovery:
    """Recovers from losses as TCP does, without selective acknowledgements (NewReno).

    Each segment is acknowledged at once, by a packet that uses the reverse link and can be lost. A segment is
    retransmitted after three duplicate acknowledgements, or when the retransmission timeout (RFC 6298) has passed since
    it left the queue of the link: as on Linux, a packet that its own host still queues is not sent again.

    If the link has ``tcp="reno"``, a congestion window limits the segments in flight. Otherwise, they are limited only
    when segments are sent again after a timeout: each acknowledged one lets two pass.

    Segments are numbered. A segment keeps its bytes when it is retransmitted.

    :param round_trip: the seconds that the handshake took.
    """

    def __init__(self, path: SegmentPath, events: EventQueue, round_trip: float | None) -> None:
        self.in_flight = 0
        self._offset = 0  # bytes that were sent so far
        self._path = path
        self._events = events
        self._timeout = RetransmissionTimeout(round_trip)
        self._window = CongestionWindow()
        # The sender. The numbers are those of segments.
        self._sent: dict[int, _SentSegment] = {}  # not acknowledged
        self._first_unacknowledged = 1
        self._next_to_send = 1  # after a timeout, it goes back
        self._next_new = 1
        self._duplicates = 0
        self._recover_until = 0  # recovery ends when this number is acknowledged; 0: there is none
        self._timed_out_at = 0  # the number of the segment that timed out
        self._timed_out_until = 0  # no fast retransmission before this number
        self._retries = 0
        self._deadline = inf  # of the retransmission timer
        self._timer_at = inf  # the time for which it is scheduled
        # The receiver
        self._next_expected = 1
        self._early: dict[int, tuple[str, bytes]] = {}  # arrived before a segment with a lower number

    def may_send(self) -> bool:
        if self._next_to_send != self._next_new:  # the segments before go first
            return False
        limited_transmit = 0 if self._recover_until else min(self._duplicates, 2)  # RFC 3042
        return self._next_new - self._first_unacknowledged < self._limit + limited_transmit

    @property
    def _limit(self) -> float:
        """The segments that may be in flight."""
        if self._path.link.conditions.tcp == "reno":
            return self._window.size
        if self._first_unacknowledged < self._timed_out_until:  # perhaps nothing is lost, but waits in a queue
            return 1 + self._first_unacknowledged - self._timed_out_at
        return inf

    def send(self, kind: str, data: bytes) -> None:
        number = self._next_new
        self._sent[number] = _SentSegment(kind, data, self._offset)
        self._offset += len(data)
        self.in_flight += len(data)
        self._next_new = self._next_to_send = number + 1
        self._transmit(number)

    def forget(self) -> None:
        self._sent.clear()
        self._first_unacknowledged = self._next_to_send = self._next_new
        self._deadline = inf

    # The end of the sender

    def _transmit(self, number: int) -> None:
        segment = self._sent[number]
        arrival = self._path.transmit(segment.kind, segment.data, segment.offset)
        segment.left_at = max(self._events.now, self._path.link.idle_at)
        if arrival is not None:
            self._events.deliver_at(arrival, self._segment_arrives, number, segment.kind, segment.data)
        if self._deadline == inf:
            self._start_timer()

    def _retransmit(self, number: int) -> None:
        self._sent[number].retransmitted = True
        self._transmit(number)

    def _acknowledgement_arrives(self, next_expected: int) -> None:
        path = self._path
        if path.is_stopped() or not path.reaches_source():
            return
        if next_expected > self._first_unacknowledged:
            self._acknowledge(next_expected)
        elif next_expected == self._first_unacknowledged and self._sent:
            self._duplicates += 1
            if self._recover_until:
                self._window.duplicate()
            elif self._duplicates == DUPLICATES and next_expected >= self._timed_out_until:
                self._window.begin_recovery(self._next_to_send - next_expected)
                self._recover_until = self._next_new
                self._retransmit(next_expected)
        self._send_more()

    def _acknowledge(self, next_expected: int) -> None:
        """All segments before ``next_expected`` have arrived."""
        acknowledged = [self._sent.pop(number) for number in range(self._first_unacknowledged, next_expected)]
        in_flight = self._next_to_send - self._first_unacknowledged
        self._first_unacknowledged = next_expected
        self._next_to_send = max(self._next_to_send, next_expected)
        self._duplicates = self._retries = 0
        now = self._events.now
        if not self._recover_until and not any(segment.retransmitted for segment in acknowledged):  # Karn's rule
            self._timeout.measure(now - acknowledged[-1].left_at)
        self._path.acknowledged(now, sum(len(segment.data) for segment in acknowledged))
        if not self._recover_until:
            self._window.acknowledged(len(acknowledged), in_flight)
        elif next_expected >= self._recover_until:
            self._recover_until = 0
            self._window.end_recovery(self._next_to_send - next_expected)
        else:  # another segment is lost (RFC 6582, section 3.2)
            self._window.partly_recovered(len(acknowledged))
            self._retransmit(next_expected)
        if self._sent:
            self._start_timer()
        else:
            self._deadline = inf

    def _send_more(self) -> None:
        """Send again what was sent before a timeout, and then new segments, as far as the window allows."""
        while self._next_to_send < self._next_new and self._next_to_send - self._first_unacknowledged < self._limit:
            self._next_to_send += 1
            self._retransmit(self._next_to_send - 1)
        self._path.send_unsent()

    def _start_timer(self) -> None:
        left_at = self._sent[self._first_unacknowledged].left_at
        self._deadline = max(self._events.now, left_at) + self._timeout.seconds
        if self._timer_at > self._deadline:
            self._timer_at = self._deadline
            self._events.call_at(self._deadline, self._timer_ends)

    def _timer_ends(self) -> None:
        if self._events.now < self._timer_at:  # an earlier timer took its place
            return
        self._timer_at = inf
        if self._deadline == inf or self._path.is_stopped():
            return
        if self._events.now < self._deadline:
            self._timer_at = self._deadline
            self._events.call_at(self._deadline, self._timer_ends)
            return
        self._retries += 1
        if self._retries > RETRIES:
            self._path.time_out()
            return
        self._timeout.back_off()
        self._window.time_out(self._next_to_send - self._first_unacknowledged)
        self._duplicates = self._recover_until = 0
        self._timed_out_until = self._next_new
        self._timed_out_at = self._next_to_send = self._first_unacknowledged
        self._deadline = inf
        self._send_more()

    # The end of the receiver

    def _segment_arrives(self, number: int, kind: str, data: bytes) -> None:
        path = self._path
        if not path.reaches_sink():
            return
        if path.is_refused(kind):
            path.answer_reset()
            return
        path.complete_handshake()
        if number >= self._next_expected:
            self._early[number] = (kind, data)
            for early_kind, early_data in self._take_in_order():
                self.in_flight -= len(early_data)
                path.deliver(early_kind, early_data)
        arrival = path.send_acknowledgement()
        if arrival is not None:
            self._events.deliver_at(arrival, self._acknowledgement_arrives, self._next_expected)

    def _take_in_order(self) -> Iterator[tuple[str, bytes]]:
        """Remove and yield the segments that have arrived without a gap."""
        while self._next_expected in self._early:
            self._next_expected += 1
            yield self._early.pop(self._next_expected - 1)
