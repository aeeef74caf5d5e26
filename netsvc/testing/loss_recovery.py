"""How a pipe recovers what a link loses: the interface, and the simplest way."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from typing import Protocol

from netsvc.testing.events import EventQueue, KeptTime
from netsvc.testing.link import Link

#: A lost segment is retransmitted after 0.2 s. The delay doubles with each attempt, up to 120 s. After 15 attempts
#: (924.6 s) the connection times out. Linux: TCP_RTO_MIN, TCP_RTO_MAX and tcp_retries2.
RETRY_DELAY, RETRY_DELAY_MAX, RETRIES = 0.2, 120.0, 15

#: ``(sequence number from 1, kind, payload, bytes of the stream before it)``.
Segment = tuple[int, str, bytes, int]


def retry_delay(attempts: int) -> float:
    """Return the seconds to the next attempt, after so many in vain."""
    return min(RETRY_DELAY_MAX, RETRY_DELAY * 2.0**attempts)


class SegmentPath(Protocol):
    """The part of a pipe that loss recovery uses. :class:`netsvc.testing.pipe.Pipe` describes the methods."""

    link: Link
    reverse_link: Link

    def transmit(self, kind: str, data: bytes, offset: int) -> float | None: ...

    def send_unsent(self) -> None: ...

    def acknowledged(self, when: float, length: int) -> None: ...

    def is_stopped(self) -> bool: ...

    def time_out(self) -> None: ...

    def reaches_sink(self) -> bool: ...

    def reaches_source(self) -> bool: ...

    def send_acknowledgement(self) -> float | None: ...

    def is_refused(self, kind: str) -> bool: ...

    def complete_handshake(self) -> None: ...

    def deliver(self, kind: str, data: bytes) -> None: ...

    def answer_reset(self, if_lost: Callable[[], object] | None = None) -> None: ...


class LossRecovery(Protocol):
    """Sends the segments of a pipe until each has arrived.

    :ivar in_flight: bytes that were sent and have not been delivered.
    """

    in_flight: int

    def may_send(self) -> bool:
        """Whether a new segment may be sent now. Otherwise, it calls the pipe's ``send_unsent`` when it may."""

    def send(self, kind: str, data: bytes) -> None:
        """Send a new segment."""

    def forget(self) -> None:
        """Forget what was sent and has not arrived: it is not retransmitted."""


class FixedDelayRecovery:
    """Retransmits a lost segment after a fixed delay, and all later segments after it.

    The sender knows at once what is lost, and acknowledgements need no packets. A segment is one event. Loss is
    therefore a delay, and does not reduce the throughput as it does with TCP.
    """

    def __init__(self, path: SegmentPath, events: EventQueue) -> None:
        self.in_flight = 0
        self._path = path
        self._events = events
        self._last_sent = 0  # sequence number
        self._offset = 0  # bytes that were sent so far
        self._next_expected = 1  # sequence number
        self._unconfirmed: list[Segment] = []  # to be retransmitted, in order; new segments wait until it is empty
        self._retry_scheduled = False
        self._retries = 0

    def may_send(self) -> bool:
        return not self._unconfirmed

    def send(self, kind: str, data: bytes) -> None:
        self._last_sent += 1
        self._transmit((self._last_sent, kind, data, self._offset))
        self._offset += len(data)

    def forget(self) -> None:
        self._unconfirmed.clear()

    def _transmit(self, segment: Segment) -> None:
        """Send or retransmit a segment."""
        _, kind, data, offset = segment
        arrival = self._path.transmit(kind, data, offset)
        if arrival is None:
            self._retransmit_later(segment)
        else:
            self.in_flight += len(data)
            self._events.deliver_at(arrival, self._segment_arrives, segment)

    def _retransmit_later(self, segment: Segment) -> None:
        """The segment or its acknowledgement is lost: retransmit it later, and all later segments after it."""
        if self._path.is_stopped():
            return
        insort(self._unconfirmed, segment)
        if not self._retry_scheduled:
            self._retry_scheduled = True
            events = self._events
            events.call_at(events.now + retry_delay(self._retries), self._retransmit)

    def _retransmit(self) -> None:
        self._retry_scheduled = False
        if not self._unconfirmed or self._path.is_stopped():
            return
        self._retries += 1
        if self._retries > RETRIES:
            self._path.time_out()
            return
        segments, self._unconfirmed = self._unconfirmed, []
        for index, segment in enumerate(segments):
            self._transmit(segment)
            if self._unconfirmed:  # it is lost again: the later segments wait for it
                self._unconfirmed.extend(segments[index + 1 :])
                return
        self._path.send_unsent()

    def _segment_arrives(self, segment: Segment) -> None:
        number, kind, data, _ = segment
        path = self._path
        self.in_flight -= len(data)
        if not path.reaches_sink() or number > self._next_expected:
            self._retransmit_later(segment)  # it is lost, or an earlier segment is
        elif path.is_refused(kind):
            path.answer_reset(if_lost=lambda: self._retransmit_later(segment))
        else:
            path.complete_handshake()
            if number == self._next_expected:
                self._next_expected += 1
                path.deliver(kind, data)
            self._acknowledge(segment)

    def _acknowledge(self, segment: Segment) -> None:
        """Tell the sender that the segment has arrived."""
        link = self._path.reverse_link
        conditions = link.conditions
        if conditions.held:
            self._events.deliver_at(KeptTime(self._events.now, link.kept), self._acknowledge, segment)
            return
        if not conditions.up:
            self._retransmit_later(segment)
            return
        self._retries = 0
        self._path.acknowledged(self._events.now + conditions.latency, len(segment[2]))
