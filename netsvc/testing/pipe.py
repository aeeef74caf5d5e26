"""One direction of a simulated connection.

A pipe delivers in order and whole. What its link loses it sends again, as TCP does, and it holds a bounded amount at
both ends, so that a reader who stops fills the writer.
"""

from __future__ import annotations

import errno
from bisect import insort
from collections import deque

from netsvc.testing.stack import Socket

#: Seconds after which a lost segment is sent again, doubled each time up to the most; after so many times the
#: connection has timed out, 924.6 s after the first. Linux: TCP_RTO_MIN, TCP_RTO_MAX and tcp_retries2.
RETRY, RETRY_MAX, RETRIES = 0.2, 120.0, 15

#: A segment's number, from 1 on, what it is and its payload. A reset has the number 0, and no place in the order.
Segment = tuple[int, str, bytes]


class End(Socket):
    """A socket that pipes lead from and to."""

    unread = 0  # bytes that have arrived and were not read
    dead = False  # reset or timed out

    @property
    def gone(self) -> bool:
        """Whether nobody here knows of this connection any more."""
        return self.closed or self.dead or self.forgotten

    def take(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        raise NotImplementedError

    def take_end(self, closed: bool) -> None:
        """The peer says no more; if ``closed``, it does not listen either."""
        raise NotImplementedError

    def take_reset(self, number: int = errno.ECONNRESET) -> None:
        """The connection is gone."""
        raise NotImplementedError

    def admit(self, connection: End) -> None:
        """Of what listens: let a connection be accepted."""
        raise NotImplementedError


class Pipe:
    """One direction of a connection.

    :ivar choked: whether the receiver's buffer was full when more was to be sent.
    """

    def __init__(self, source: End, sink: End) -> None:
        self.source = source
        self.sink = sink
        self.choked = False
        fabric = source.stack.fabric
        self.link = fabric.link(source.stack.name, sink.stack.name)
        self._back = fabric.link(sink.stack.name, source.stack.name)
        self._events = source.stack.events
        self._trace = fabric.trace
        self._ports = f"{source.name[-1]}>{sink.name[-1]}"
        self._unsent: deque[bytes] = deque()
        self._owed = 0  # bytes that were accepted and not acknowledged
        self._flying = 0  # bytes that were sent and have not arrived
        self._acknowledged: deque[tuple[float, int]] = deque()  # when the sender learns of it, and how many bytes
        self._blocked = False  # the sender waits for space
        self._last_arrival = 0.0
        self._sent = 0  # the number of the last segment
        self._expected = 1  # the number of the next one that the receiver takes
        self._held: list[Segment] = []  # to be sent again, in order; nothing new is sent before them
        self._waiting = False  # for the time to do so
        self._tries = 0
        self._probes = 0  # since the receiver had no room
        self._probing = False
        self._finished = False  # the sender has said all
        self._finishing = False  # and the end is to be sent
        self._closes = False  # and it does not read either
        self._over = False  # nothing more is sent

        self._listener: End | None = None

    # The sender's end

    def space(self) -> int:
        """Return how many bytes the sender may still add."""
        acknowledged = self._acknowledged
        if acknowledged:
            now = self._events.now
            while acknowledged and acknowledged[0][0] <= now:
                self._owed -= acknowledged.popleft()[1]
        return self.source.send_limit - self._owed

    def writable(self) -> bool:
        """Whether a third of the buffer is free, as Linux counts. If it is not, the sender is told when it is."""
        if self.space() * 3 >= self.source.send_limit:
            return True
        if not self._blocked:
            self._blocked = True
            for when, _ in self._acknowledged:
                self._events.move(when, self._unblock)
        return False

    def accept(self, data: bytes) -> None:
        """Take bytes that there is space for."""
        self._unsent.append(data)
        self._owed += len(data)
        if not self._held:
            self._push()

    def finish(self, closes: bool = False) -> None:
        """End this direction after what was accepted."""
        self._closes = self._closes or closes
        if not self._finished:
            self._finished = self._finishing = True
            if not self._held:
                self._push()

    def establish(self, listener: End) -> None:
        """Finish the handshake: let the connection be accepted at the other end."""
        self._listener = listener
        self._send("ACK", b"")

    def reset(self) -> None:
        """End the connection now. What was not sent is dropped; what is under way arrives before the end of it."""
        self.drop()
        self._transmit((0, "RST", b""))

    def drop(self) -> None:
        """Send nothing more."""
        self._over = True
        self._unsent.clear()
        self._held.clear()
        self._acknowledged.clear()

    def offer_window(self) -> None:
        """The receiver has read: let the sender know, once there is room for half a buffer."""
        if not self.choked or 2 * self.sink.unread > self.sink.receive_limit or self._over:
            return
        if self._back.conditions.up:  # or else a probe of the sender finds out
            self.choked = False
            self._events.move(self._events.now + self._back.conditions.latency, self._push_again)

    def _push_again(self) -> None:
        if not self._held and not self.source.forgotten:
            self._push()

    def _push(self) -> None:
        """Send what the receiver has room for."""
        unsent = self._unsent
        while unsent and not self._held:
            room = self.sink.receive_limit - self.sink.unread - self._flying
            if room <= 0:
                self.choked = True
                self._probes = 0
                self._wait_for_probe()
                return
            size = min(room, self.link.segment_max)
            data = unsent[0]
            if len(data) <= size:
                unsent.popleft()
            else:
                unsent[0] = data[size:]
                data = data[:size]
            self._send("data", data)
        if self._finishing and not unsent and not self._held:
            self._finishing = False
            self._send("FIN", b"")

    def _send(self, what: str, data: bytes) -> None:
        """Send one more segment."""
        self._sent += 1
        self._transmit((self._sent, what, data))

    def _transmit(self, segment: Segment) -> None:
        """Send a segment, for the first time or again."""
        _, what, data = segment
        now = self._events.now
        arrival = self.link.segment(now, len(data))
        fate = "lost" if arrival is None else ""
        self._trace.add(now, self.source.stack.name, what, self.sink.stack.name, self._ports, data=data, fate=fate)
        if arrival is None:
            self._hold(segment)
            return
        self._flying += len(data)
        arrival = max(arrival, self._last_arrival)
        self._last_arrival = arrival
        self._events.move(arrival, self._arrive, segment)

    # Between

    def _hold(self, segment: Segment) -> None:
        """A segment is lost, or its acknowledgement: send it again later, and what follows it after it."""
        if self._over:  # only its end was lost, which nobody sends again
            return
        insort(self._held, segment)
        if not self._waiting:
            self._waiting = True
            events = self._events
            events.wait(events.now + min(RETRY_MAX, RETRY * 2**self._tries), self._retry)

    def _retry(self) -> None:
        self._waiting = False
        if not self._held or self.source.forgotten:
            return
        self._tries += 1
        if self._tries > RETRIES:
            self.source.take_reset(errno.ETIMEDOUT)
            return
        held, self._held = self._held, []
        for number, segment in enumerate(held):
            self._transmit(segment)
            if self._held:  # it went wrong again, and what is behind it waits behind it
                self._held.extend(held[number + 1 :])
                return
        self._push()

    def _wait_for_probe(self) -> None:
        if not self._probing:
            self._probing = True
            events = self._events
            events.wait(events.now + min(RETRY_MAX, RETRY * 2**self._probes), self._probe)

    def _probe(self) -> None:
        """The receiver has had no room for long: ask whether it is still there (RFC 9293, section 3.8.6.1)."""
        self._probing = False
        if not self.choked or self._over or self.source.forgotten:
            return
        if self._probes == RETRIES:
            self.source.take_reset(errno.ETIMEDOUT)
            return
        self._probes += 1
        self._wait_for_probe()
        arrival = self.link.segment(self._events.now, 0)
        if arrival is not None:
            self._events.wait(arrival, self._probed)

    def _probed(self) -> None:
        sink = self.sink
        if not sink.stack.up or not self.link.conditions.up or not self._back.conditions.up:
            return
        self._probes = min(self._probes, RETRIES - 1)  # it was answered, so it may be asked for ever
        if sink.gone:
            self._refuse((0, "probe", b""))
        else:
            self.offer_window()

    # The receiver's end

    def _arrive(self, segment: Segment) -> None:
        number, what, data = segment
        sink = self.sink
        self._flying -= len(data)
        if not sink.stack.up or not self.link.conditions.up or number > self._expected:
            self._hold(segment)  # or it came before what was sent before it, which was lost
        elif what == "RST":
            if not sink.closed and not sink.forgotten:
                sink.take_reset()
        elif sink.gone or (self._listener is not None and (self._listener.closed or self._listener.forgotten)):
            if what == "data" or sink.forgotten or not sink.closed:
                self._refuse(segment)
        else:
            if number == self._expected:
                self._expected += 1
                self._deliver(what, data)
            self._acknowledge(segment)

    def _deliver(self, what: str, data: bytes) -> None:
        if what == "data":
            self.sink.take(data)
        elif what == "FIN":
            self.sink.take_end(self._closes)
        elif self._listener is not None:
            self._listener.admit(self.sink)
            self._listener = None

    def _acknowledge(self, segment: Segment) -> None:
        """Let the sender know, after the way back, that this has arrived."""
        if not self._back.conditions.up:
            self._hold(segment)
            return
        self._tries = 0
        if segment[2]:
            when = self._events.now + self._back.conditions.latency
            self._acknowledged.append((when, len(segment[2])))
            if self._blocked:
                self._events.move(when, self._unblock)

    def _refuse(self, segment: Segment) -> None:
        """Nobody knows the connection here: say so."""
        now = self._events.now
        arrival = self._back.segment(now, 0)
        source, sink = self.source, self.sink
        ports = f"{sink.name[-1]}>{source.name[-1]}"
        fate = "lost" if arrival is None else ""
        self._trace.add(now, sink.stack.name, "RST", source.stack.name, ports, fate=fate)
        if arrival is not None:
            self._events.move(arrival, self._refused, segment)
        elif segment[2]:  # by which it is found out again
            self._hold(segment)

    def _refused(self, segment: Segment) -> None:
        source = self.source
        if not source.stack.up or not self._back.conditions.up:
            if segment[2]:
                self._hold(segment)
            return
        self.drop()
        if not source.closed and not source.forgotten:
            source.take_reset()

    def _unblock(self) -> None:
        if self._blocked and self.space() * 3 >= self.source.send_limit:
            self._blocked = False
            self.source.changed()
