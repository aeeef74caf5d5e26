"""One direction of a simulated connection.

A pipe delivers every byte once and in order. The buffers at both ends are bounded, so that a reader that stops reading
blocks the writer. Lost segments are retransmitted by :mod:`netsvc.testing.loss_recovery`.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from math import inf

from netsvc.testing.loss_recovery import RETRIES, FixedDelayRecovery, LossRecovery, retry_delay
from netsvc.testing.stack import Socket
from netsvc.testing.tcp_recovery import TcpRecovery

#: A SYN-ACK without an answer is retransmitted after 1 s. The delay doubles with each attempt. After 5 retransmissions
#: the server forgets the connection. Linux: tcp_synack_retries.
SYN_ACK_RETRY_DELAY, SYN_ACK_RETRIES = 1.0, 5


class StreamEnd(Socket):
    """A socket at an end of two pipes, one in each direction.

    :ivar unread: bytes that have arrived and have not been read.
    :ivar dead: whether the connection was reset or has timed out.
    :ivar heard_at: the time at which the peer was last known to be alive.
    """

    unread = 0
    dead = False
    heard_at = 0.0

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

    :param round_trip: the seconds that the handshake took; None if they are unknown.
    :ivar window_full: whether the sender waits for the receiver to say that there is room in the receive buffer again.
    """

    def __init__(self, source: StreamEnd, sink: StreamEnd, round_trip: float | None = None) -> None:
        self.source = source
        self.sink = sink
        self.window_full = False
        self._unacknowledged = 0  # bytes in the send buffer, sent or not
        fabric = source.stack.fabric
        self.link = fabric.link(source.stack.name, sink.stack.name)
        self.reverse_link = fabric.link(sink.stack.name, source.stack.name)
        self._events = source.stack.events
        self._ports = f"{source.local_address[-1]}>{sink.local_address[-1]}"
        self._reverse_ports = f"{sink.local_address[-1]}>{source.local_address[-1]}"
        self._unsent: deque[bytes] = deque()
        self._first_offset = 0  # bytes of the first unsent chunk that were sent
        self._sent = 0  # bytes of the stream that were sent
        self._acknowledgements: deque[tuple[float, int]] = deque()  # time at which the sender gets it, and its bytes
        self._sender_waits = False  # for space in the send buffer
        self._last_arrival = 0.0
        self._window_announced = False  # whether the receiver has told the sender that the window is open again
        self._probes = 0  # since the window became full
        self._unanswered_probes = 0
        self._next_probe_at = inf
        self._finished = False  # whether the sender has ended the stream
        self._fin_unsent = False
        self._closes = False  # whether the sender does not read any more either
        self._stopped = False  # whether nothing more is sent
        self._listener: StreamEnd | None = None  # until the handshake is complete
        by_packets = self.link.by_packets or self.reverse_link.by_packets
        self._recovery: LossRecovery = (
            TcpRecovery(self, self._events, round_trip) if by_packets else FixedDelayRecovery(self, self._events)
        )

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
        self.send_unsent()

    def finish(self, closes: bool = False) -> None:
        """End this direction after all bytes in the send buffer."""
        self._closes = self._closes or closes
        if not self._finished:
            self._finished = self._fin_unsent = True
            self.send_unsent()

    def reset(self) -> None:
        """Reset the connection. Unsent bytes are dropped; segments in flight arrive before the reset."""
        self.drop()
        arrival = self.transmit("RST", b"")
        if arrival is not None:
            self._events.deliver_at(arrival, self._own_reset_arrives)

    def drop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._unsent.clear()
        self._first_offset = 0
        self._fin_unsent = False
        self._recovery.forget()
        self._acknowledgements.clear()

    def update_window(self) -> None:
        """The receiver has read. If half of its buffer is free, tell the sender."""
        if self.window_full and not self._window_announced and self._has_room and not self._stopped:
            self._window_announced = True  # if the packet is lost, a probe of the sender gets the answer
            self._send_window()

    @property
    def _has_room(self) -> bool:
        """Whether half of the receive buffer is free. The receiver announces no less (RFC 9293, section 3.8.6.2.2)."""
        return 2 * self.sink.unread <= self.sink.receive_limit

    def _send_window(self) -> None:
        """Tell the sender whether it may send again."""
        arrival = self.send_acknowledgement()
        if arrival is not None:
            self._events.deliver_at(arrival, self._window_arrives, self._has_room)

    def _window_arrives(self, has_room: bool) -> None:
        if self.is_stopped() or not self.reaches_source():
            return
        self._unanswered_probes = 0
        if has_room:
            self.window_full = False
            self.send_unsent()

    def send_unsent(self) -> None:
        """Send as many unsent bytes as fit into the receive buffer, and as the recovery of losses lets pass."""
        unsent, recovery = self._unsent, self._recovery
        while unsent and recovery.may_send():
            window = self.sink.receive_limit - self.sink.unread - recovery.in_flight
            if window <= 0:
                self._window_announced = False
                if not self.window_full:
                    self.window_full = True
                    self._probes = self._unanswered_probes = 0
                    self._schedule_probe()
                return
            size = min(window, self.link.segment_max)
            recovery.send("data", self._take(size))
        if self._fin_unsent and not unsent and recovery.may_send():
            self._fin_unsent = False
            recovery.send("FIN", b"")

    def _take(self, size: int) -> bytes:
        """Remove and return the next bytes to be sent, at most ``size``, from one chunk."""
        chunk, begin = self._unsent[0], self._first_offset
        if len(chunk) - begin > size:
            self._first_offset += size
            return chunk[begin : begin + size]
        self._unsent.popleft()
        self._first_offset = 0
        return chunk[begin:] if begin else chunk

    def transmit(self, kind: str, data: bytes, offset: int | None = None) -> float | None:
        """Send one packet. Returns its arrival time, or None if it is lost. Packets arrive in order.

        :param offset: bytes of the stream before the data; by default all that were sent.
        """
        offset = self._sent if offset is None else offset
        self._sent = max(self._sent, offset + len(data))
        addresses = (self.source.local_address[0], self.sink.local_address[0])
        arrival = self.source.stack.send_packet(self.sink.stack, kind, self._ports, data, addresses, offset)
        if arrival is not None:
            arrival = self._last_arrival = self.link.not_before(arrival, self._last_arrival)
        return arrival

    def acknowledged(self, when: float, length: int) -> None:
        """The sender gets to know at this time that ``length`` bytes have arrived."""
        self.source.heard_at = when
        if length:
            self._acknowledgements.append((when, length))
            if self._sender_waits:
                self._events.deliver_at(when, self._notify_sender)

    def is_stopped(self) -> bool:
        """Whether the sender no longer sends anything."""
        return self._stopped or self.source.host_crashed

    def time_out(self) -> None:
        """The receiver does not answer any more."""
        self.source.receive_reset(errno.ETIMEDOUT)

    def _notify_sender(self) -> None:
        if self._sender_waits and self.space() * 3 >= self.source.send_limit:
            self._sender_waits = False
            self.source.readiness_changed()

    # The handshake

    def establish(self, listener: StreamEnd) -> None:
        """Send the last packet of the handshake. On arrival, the listener can accept the connection.

        If it is lost, the server sends its SYN-ACK again. Data that arrive in the meantime complete the handshake too.
        """
        self._listener = listener
        self._acknowledge_handshake(0)

    def _acknowledge_handshake(self, tries: int) -> None:
        arrival = self.transmit("ACK", b"")
        if arrival is None:
            self._send_syn_ack_later(tries)
        else:
            self._events.deliver_at(arrival, self._handshake_acknowledgement_arrives, tries)

    def _handshake_acknowledgement_arrives(self, tries: int) -> None:
        if not self.reaches_sink():
            self._send_syn_ack_later(tries)
        elif self.is_refused("ACK"):
            self.answer_reset()
        else:
            self.complete_handshake()

    def complete_handshake(self) -> None:
        """The acknowledgement of the SYN-ACK has arrived. Every later packet of the client has it too."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.add_to_backlog(self.sink)

    def _send_syn_ack_later(self, tries: int) -> None:
        self._events.call_at(self._events.now + SYN_ACK_RETRY_DELAY * 2**tries, self._send_syn_ack, tries + 1)

    def _send_syn_ack(self, tries: int) -> None:
        if self._listener is None or self._listener.closed or self.sink.has_no_connection:
            return
        if tries > SYN_ACK_RETRIES:
            self.sink.dead = True
            return
        arrival = self._send_back("SYN-ACK")
        if arrival is None:
            self._send_syn_ack_later(tries)
        else:
            self._events.deliver_at(arrival, self._syn_ack_arrives, tries)

    def _syn_ack_arrives(self, tries: int) -> None:
        source = self.source
        if not self.reaches_source():
            self._send_syn_ack_later(tries)
        elif not source.has_no_connection:
            self._acknowledge_handshake(tries)
        elif source.host_crashed or source.dead:
            self.sink.dead = True  # the client answers with a reset

    # Probes

    def _schedule_probe(self) -> None:
        probe_at = self._events.now + retry_delay(self._probes)
        if probe_at < self._next_probe_at:
            self._next_probe_at = probe_at
            self._events.call_at(probe_at, self._probe_window)

    def _probe_window(self) -> None:
        """The window is still full: ask the receiver for it (RFC 9293, section 3.8.6.1)."""
        if self._events.now < self._next_probe_at:  # an earlier probe took its place
            return
        self._next_probe_at = inf
        if not self.window_full or self.is_stopped():
            return
        if self._unanswered_probes == RETRIES:
            self.time_out()
            return
        self._probes = min(self._probes + 1, RETRIES)
        self._unanswered_probes += 1
        self._schedule_probe()
        self.probe(self._send_window)

    def probe(self, answered: Callable[[], object]) -> None:
        """Ask the receiver whether it still has the connection. Call ``answered`` when the question reaches it."""
        arrival = self.link.send_segment(self._events.now, 0)
        if arrival is not None:
            self._events.call_at(arrival, self._probe_arrives, answered)

    def _probe_arrives(self, answered: Callable[[], object]) -> None:
        if not self.reaches_sink():
            return
        if self.sink.has_no_connection:
            self.answer_reset()
        else:
            self.sink.heard_at = self._events.now
            answered()

    # The end of the receiver

    def reaches_sink(self) -> bool:
        """Whether a packet that arrives now reaches the receiver's host."""
        return self.sink.stack.up and self.link.carries(self._events.now, self.source.host_crashed)

    def reaches_source(self) -> bool:
        """Whether a packet that arrives now reaches the sender's host."""
        return self.source.stack.up and self.reverse_link.carries(self._events.now, self.sink.host_crashed)

    def send_acknowledgement(self) -> float | None:
        """Send an acknowledgement in a packet of its own. Returns its arrival time, or None if it is lost."""
        return self.reverse_link.send_segment(self._events.now, 0)

    def is_refused(self, kind: str) -> bool:
        """Whether the receiver answers a segment with a reset, because it does not know the connection."""
        sink, listener = self.sink, self._listener
        if listener is not None and (listener.closed or listener.host_crashed):
            return True
        if not sink.has_no_connection:
            return False
        return kind == "data" or sink.host_crashed or not sink.closed  # a closed socket still answers a FIN

    def deliver(self, kind: str, data: bytes) -> None:
        """Pass the next segment to the receiver."""
        sink = self.sink
        if sink.has_no_connection:
            return
        sink.heard_at = self._events.now
        if kind == "data":
            sink.receive(data)
        else:
            sink.receive_end(self._closes)

    def answer_reset(self, if_lost: Callable[[], object] | None = None) -> None:
        """Answer with a reset, because the receiver does not know the connection.

        :param if_lost: called if the reset does not reach the sender.
        """
        arrival = self._send_back("RST")
        if arrival is not None:
            self._events.deliver_at(arrival, self._reset_arrives, if_lost)
        elif if_lost is not None:
            if_lost()

    def _send_back(self, kind: str) -> float | None:
        """Send a packet to the sender. Returns its arrival time, or None if it is lost."""
        addresses = (self.sink.local_address[0], self.source.local_address[0])
        return self.sink.stack.send_packet(self.source.stack, kind, self._reverse_ports, b"", addresses)

    def _reset_arrives(self, if_lost: Callable[[], object] | None) -> None:
        source = self.source
        if not source.stack.up or not self.reverse_link.conditions.up:  # the receiver's host may have sent it restarted
            if if_lost is not None:
                if_lost()
            return
        self.drop()
        if not source.closed and not source.host_crashed:
            source.receive_reset()

    def _own_reset_arrives(self) -> None:
        sink = self.sink
        if self.reaches_sink() and not sink.closed and not sink.host_crashed:
            sink.receive_reset()
