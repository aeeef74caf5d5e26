"""One direction of a simulated connection.

A pipe delivers every byte once and in order. It retransmits lost segments, as TCP does. The buffers at both ends are
bounded, so that a reader that stops reading blocks the writer.
"""

from __future__ import annotations

import errno
from bisect import insort
from collections import deque

from netsvc.testing.stack import Socket

#: A lost segment is retransmitted after 0.2 s. The delay doubles with each attempt, up to 120 s. After 15 attempts
#: (924.6 s) the connection times out. Linux: TCP_RTO_MIN, TCP_RTO_MAX and tcp_retries2.
RETRY_DELAY, RETRY_DELAY_MAX, RETRIES = 0.2, 120.0, 15

#: ``(sequence number from 1, kind, payload)``. A reset has the number 0, because it is delivered out of order.
Segment = tuple[int, str, bytes]


class StreamEnd(Socket):
    """A socket at an end of two pipes, one in each direction."""

    unread = 0  # bytes that have arrived and have not been read
    dead = False  # whether the connection was reset or has timed out

    @property
    def has_no_connection(self) -> bool:
        """Whether this end no longer knows the connection."""
        return self.closed or self.dead or self.host_crashed

    def receive(self, data: bytes) -> None:
        """Add bytes to the receive buffer."""
        raise NotImplementedError

    def receive_end(self, closed: bool) -> None:
        """The peer has ended its stream. If ``closed``, it does not read any more either."""
        raise NotImplementedError

    def receive_reset(self, number: int = errno.ECONNRESET) -> None:
        """The connection is lost, with this errno."""
        raise NotImplementedError

    def add_to_backlog(self, connection: StreamEnd) -> None:
        """Add an established connection to the queue of a listening socket."""
        raise NotImplementedError


class Pipe:
    """One direction of a connection.

    :ivar window_full: whether the sender waits because the receive buffer was full.
    """

    def __init__(self, source: StreamEnd, sink: StreamEnd) -> None:
        self.source = source
        self.sink = sink
        self.window_full = False
        fabric = source.stack.fabric
        self.link = fabric.link(source.stack.name, sink.stack.name)
        self._reverse_link = fabric.link(sink.stack.name, source.stack.name)
        self._events = source.stack.events
        self._trace = fabric.trace
        self._ports = f"{source.local_address[-1]}>{sink.local_address[-1]}"
        self._unsent: deque[bytes] = deque()
        self._unacknowledged = 0  # bytes in the send buffer, sent or not
        self._in_flight = 0  # bytes that were sent and have not arrived
        self._acknowledgements: deque[tuple[float, int]] = deque()  # time at which the sender gets it, and its bytes
        self._sender_waits = False  # for space in the send buffer
        self._last_arrival = 0.0
        self._last_sent = 0  # sequence number
        self._next_expected = 1  # sequence number
        self._unconfirmed: list[Segment] = []  # to be retransmitted, in order; new segments wait until it is empty
        self._retry_scheduled = False
        self._retries = 0
        self._probes = 0  # since the window became full
        self._probe_scheduled = False
        self._finished = False  # whether the sender has ended the stream
        self._fin_unsent = False
        self._closes = False  # whether the sender does not read any more either
        self._stopped = False  # whether nothing more is sent

        self._listener: StreamEnd | None = None

    # The end of the sender

    def space(self) -> int:
        """Return the free bytes of the send buffer."""
        acknowledgements = self._acknowledgements
        if acknowledgements:
            now = self._events.now
            while acknowledgements and acknowledgements[0][0] <= now:
                self._unacknowledged -= acknowledgements.popleft()[1]
        return self.source.send_limit - self._unacknowledged

    def writable(self) -> bool:
        """Whether a third of the send buffer is free, as on Linux. If not, the sender is notified when it is."""
        if self.space() * 3 >= self.source.send_limit:
            return True
        if not self._sender_waits:
            self._sender_waits = True
            for when, _ in self._acknowledgements:
                self._events.deliver_at(when, self._notify_sender)
        return False

    def accept(self, data: bytes) -> None:
        """Add bytes to the send buffer. The caller has checked that there is space."""
        self._unsent.append(data)
        self._unacknowledged += len(data)
        if not self._unconfirmed:
            self._send_unsent()

    def finish(self, closes: bool = False) -> None:
        """End this direction after all bytes in the send buffer."""
        self._closes = self._closes or closes
        if not self._finished:
            self._finished = self._fin_unsent = True
            if not self._unconfirmed:
                self._send_unsent()

    def establish(self, listener: StreamEnd) -> None:
        """Send the last segment of the handshake. On arrival, the listener can accept the connection."""
        self._listener = listener
        self._send("ACK", b"")

    def reset(self) -> None:
        """Reset the connection. Unsent bytes are dropped; segments in flight arrive before the reset."""
        self.drop()
        self._transmit((0, "RST", b""))

    def drop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._unsent.clear()
        self._unconfirmed.clear()
        self._acknowledgements.clear()

    def update_window(self) -> None:
        """The receiver has read. If half of its buffer is free, tell the sender."""
        if not self.window_full or 2 * self.sink.unread > self.sink.receive_limit or self._stopped:
            return
        if self._reverse_link.conditions.up:  # otherwise, a probe of the sender gets the update later
            self.window_full = False
            self._events.deliver_at(
                self._events.now + self._reverse_link.conditions.latency, self._window_update_arrives
            )

    def _window_update_arrives(self) -> None:
        if not self._unconfirmed and not self.source.host_crashed:
            self._send_unsent()

    def _send_unsent(self) -> None:
        """Send as many unsent bytes as fit into the receive buffer."""
        unsent = self._unsent
        while unsent and not self._unconfirmed:
            window = self.sink.receive_limit - self.sink.unread - self._in_flight
            if window <= 0:
                self.window_full = True
                self._probes = 0
                self._schedule_probe()
                return
            size = min(window, self.link.segment_max)
            data = unsent[0]
            if len(data) <= size:
                unsent.popleft()
            else:
                unsent[0] = data[size:]
                data = data[:size]
            self._send("data", data)
        if self._fin_unsent and not unsent and not self._unconfirmed:
            self._fin_unsent = False
            self._send("FIN", b"")

    def _send(self, kind: str, data: bytes) -> None:
        """Send a new segment."""
        self._last_sent += 1
        self._transmit((self._last_sent, kind, data))

    def _transmit(self, segment: Segment) -> None:
        """Send or retransmit a segment."""
        _, kind, data = segment
        now = self._events.now
        arrival = self.link.send_segment(now, len(data))
        outcome = "lost" if arrival is None else ""
        source, sink = self.source.stack.name, self.sink.stack.name
        self._trace.add(now, source, kind, sink, self._ports, data=data, outcome=outcome)
        if arrival is None:
            self._retransmit_later(segment)
            return
        self._in_flight += len(data)
        arrival = max(arrival, self._last_arrival)
        self._last_arrival = arrival
        self._events.deliver_at(arrival, self._segment_arrives, segment)

    # Retransmission and probes

    def _retransmit_later(self, segment: Segment) -> None:
        """The segment or its acknowledgement is lost: retransmit it later, and all later segments after it."""
        if self._stopped:  # the lost segment is a reset, which is not retransmitted
            return
        insort(self._unconfirmed, segment)
        if not self._retry_scheduled:
            self._retry_scheduled = True
            events = self._events
            events.call_at(events.now + min(RETRY_DELAY_MAX, RETRY_DELAY * 2**self._retries), self._retransmit)

    def _retransmit(self) -> None:
        self._retry_scheduled = False
        if not self._unconfirmed or self.source.host_crashed:
            return
        self._retries += 1
        if self._retries > RETRIES:
            self.source.receive_reset(errno.ETIMEDOUT)
            return
        segments, self._unconfirmed = self._unconfirmed, []
        for index, segment in enumerate(segments):
            self._transmit(segment)
            if self._unconfirmed:  # it is lost again: the later segments wait for it
                self._unconfirmed.extend(segments[index + 1 :])
                return
        self._send_unsent()

    def _schedule_probe(self) -> None:
        if not self._probe_scheduled:
            self._probe_scheduled = True
            events = self._events
            events.call_at(events.now + min(RETRY_DELAY_MAX, RETRY_DELAY * 2**self._probes), self._send_probe)

    def _send_probe(self) -> None:
        """The window is still full: ask the receiver for it (RFC 9293, section 3.8.6.1)."""
        self._probe_scheduled = False
        if not self.window_full or self._stopped or self.source.host_crashed:
            return
        if self._probes == RETRIES:
            self.source.receive_reset(errno.ETIMEDOUT)
            return
        self._probes += 1
        self._schedule_probe()
        arrival = self.link.send_segment(self._events.now, 0)
        if arrival is not None:
            self._events.call_at(arrival, self._probe_arrives)

    def _probe_arrives(self) -> None:
        sink = self.sink
        if not sink.stack.up or not self.link.conditions.up or not self._reverse_link.conditions.up:
            return
        self._probes = min(self._probes, RETRIES - 1)  # while probes are answered, there is no limit to their number
        if sink.has_no_connection:
            self._answer_reset((0, "probe", b""))
        else:
            self.update_window()

    # The end of the receiver

    def _segment_arrives(self, segment: Segment) -> None:
        number, kind, data = segment
        sink = self.sink
        self._in_flight -= len(data)
        if not sink.stack.up or not self.link.conditions.up or number > self._next_expected:
            self._retransmit_later(segment)  # it is lost, or an earlier segment is
        elif kind == "RST":
            if not sink.closed and not sink.host_crashed:
                sink.receive_reset()
        elif sink.has_no_connection or (
            self._listener is not None and (self._listener.closed or self._listener.host_crashed)
        ):
            if kind == "data" or sink.host_crashed or not sink.closed:
                self._answer_reset(segment)
        else:
            if number == self._next_expected:
                self._next_expected += 1
                self._deliver(kind, data)
            self._acknowledge(segment)

    def _deliver(self, kind: str, data: bytes) -> None:
        if kind == "data":
            self.sink.receive(data)
        elif kind == "FIN":
            self.sink.receive_end(self._closes)
        elif self._listener is not None:
            self._listener.add_to_backlog(self.sink)
            self._listener = None

    def _acknowledge(self, segment: Segment) -> None:
        """Tell the sender that the segment has arrived."""
        if not self._reverse_link.conditions.up:
            self._retransmit_later(segment)
            return
        self._retries = 0
        if segment[2]:
            when = self._events.now + self._reverse_link.conditions.latency
            self._acknowledgements.append((when, len(segment[2])))
            if self._sender_waits:
                self._events.deliver_at(when, self._notify_sender)

    def _answer_reset(self, segment: Segment) -> None:
        """Answer with a reset, because the receiver does not know the connection."""
        now = self._events.now
        arrival = self._reverse_link.send_segment(now, 0)
        source, sink = self.source, self.sink
        ports = f"{sink.local_address[-1]}>{source.local_address[-1]}"
        outcome = "lost" if arrival is None else ""
        self._trace.add(now, sink.stack.name, "RST", source.stack.name, ports, outcome=outcome)
        if arrival is not None:
            self._events.deliver_at(arrival, self._reset_arrives, segment)
        elif segment[2]:  # its retransmission gets another reset
            self._retransmit_later(segment)

    def _reset_arrives(self, segment: Segment) -> None:
        source = self.source
        if not source.stack.up or not self._reverse_link.conditions.up:
            if segment[2]:
                self._retransmit_later(segment)
            return
        self.drop()
        if not source.closed and not source.host_crashed:
            source.receive_reset()

    def _notify_sender(self) -> None:
        if self._sender_waits and self.space() * 3 >= self.source.send_limit:
            self._sender_waits = False
            self.source.readiness_changed()
