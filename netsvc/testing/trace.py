"""The trace of a network: every packet, crash and change, with time, source and destination."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator
from typing import NamedTuple

#: The maximum number of events that a trace keeps. Older events are dropped.
TRACE_MAX = 100_000

#: The first bytes of TLS (RFC 8446, section 5.1) and of SSH (RFC 4253, section 4.2), and the remark that precedes them.
_ENCRYPTED = (b"\x16\x03", b"SSH-")
ENCRYPTION_BEGINS = "encryption begins: OpenSSL's random numbers do not follow the seed"

#: The events that a chart draws unless another number is given, and the maximum number of its columns.
CHART_EVENTS, CHART_HOSTS = 500, 12

#: Payload bytes that are kept of each packet.
PREVIEW = 24


class TraceEvent(NamedTuple):
    """One packet that was sent, or one change of a host or a link.

    :param time: virtual seconds since the beginning.
    :param source: the host that sent the packet, or the host or link that changed.
    :param kind: ``SYN``, ``SYN-ACK``, ``ACK``, ``data``, ``FIN``, ``RST``, ``connect`` (of a UNIX socket),
        ``datagram``, ``ICMP port unreachable`` or ``ICMP host unreachable``. For a host: ``crashed`` or ``restarted``.
        For links: the conditions that were set, such as ``latency=0.1``; a partition is ``up=False``. For a remark
        (:meth:`netsvc.testing.Network.note`): its text.
    :param destination: the host that the packet was sent to, or "".
    :param ports: the source and destination port, such as ``49152>1314``, or the path of a UNIX socket, or "".
    :param length: payload bytes.
    :param data: the first bytes of the payload.
    :param outcome: "" if the packet was delivered normally; ``lost``, ``duplicated``, ``reordered``,
        ``reordered and duplicated``, ``no host has the address``, or ``buffer full`` if the receiver dropped it.
    """

    time: float
    source: str
    kind: str
    destination: str
    ports: str
    length: int
    data: bytes
    outcome: str

    def __str__(self) -> str:
        text = f"{self.time:12.6f}  {self.source}"
        if self.destination:
            text += f" -> {self.destination}"
        return f"{text}  {self.label()}"

    def label(self) -> str:
        """Return the text of the event without its time and hosts."""
        parts = [self.ports, self.kind]
        if self.length:
            ellipsis = "..." if self.length > len(self.data) else ""
            parts += [str(self.length), repr(self.data) + ellipsis]
        if self.outcome:
            parts.append(f"({self.outcome})")
        return " ".join(part for part in parts if part)


class Trace:
    """The history of a network, oldest event first. It keeps the last 100,000 events.

    Iterating over a trace yields its events, ``str`` returns one line for each event, and :meth:`chart` draws them.

    :ivar dropped: the number of events that are no longer kept.
    """

    def __init__(self) -> None:
        self._events: deque[TraceEvent] = deque(maxlen=TRACE_MAX)
        self._recorded = 0
        self._encryption_seen = False

    @property
    def dropped(self) -> int:
        return self._recorded - len(self._events)

    def add(
        self,
        time: float,
        source: str,
        kind: str,
        destination: str = "",
        ports: str = "",
        *,
        data: bytes = b"",
        outcome: str = "",
    ) -> None:
        """Record one event. A remark precedes the first packet that begins with TLS or SSH."""
        if not self._encryption_seen and data.startswith(_ENCRYPTED):
            self._encryption_seen = True
            self.add(time, source, ENCRYPTION_BEGINS)
        self._recorded += 1
        self._events.append(TraceEvent(time, source, kind, destination, ports, len(data), data[:PREVIEW], outcome))

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __str__(self) -> str:
        lines = [str(event) for event in self._events]
        if self.dropped:
            lines.insert(0, f"({self.dropped:,} earlier events)")
        return "\n".join(lines)

    def chart(self, last: int = CHART_EVENTS, hosts: Collection[str] = ()) -> str:
        """Return a sequence chart in text: a column for each host, an arrow for each packet, time from top to bottom.

        The arrow of a packet is in the line of the time at which it was sent. The arrow of a lost packet ends in ``x``.
        The chart has at most 12 columns: those of the hosts with the most events. It says how much it leaves out.

        :param last: the number of events to draw, counted from the end; 0 for all.
        :param hosts: draw the events between these hosts only, and their own; by default, those of all hosts.
        """
        chosen = [
            event
            for event in self._events
            if not hosts or {event.source, event.destination or event.source} <= {*hosts}
        ]
        counts = Counter(
            name for event in chosen if event.destination for name in dict.fromkeys((event.source, event.destination))
        )
        left_out = [name for name, _ in counts.most_common()[CHART_HOSTS:]]
        if left_out:
            chosen = [event for event in chosen if event.source not in left_out and event.destination not in left_out]
        events = chosen[-last:] if last else chosen
        notes = []
        if len(events) < len(chosen):
            notes.append(f"({len(chosen) - len(events):,} earlier events)")
        if left_out:
            notes.append(f"({len(left_out)} more hosts, which hosts=[...] can choose: {', '.join(left_out[:3])}, ...)")
        return "\n".join([*notes, self._draw(events)])

    def _draw(self, events: list[TraceEvent]) -> str:
        hosts = list(dict.fromkeys(name for event in events if event.destination for name in event[1:4:2]))
        column = {host: index for index, host in enumerate(hosts)}
        widest = max((len(event.label()) for event in events if event.destination), default=0)
        width = max([20, min(widest, 60) + 7, *(len(host) + 2 for host in hosts)])
        lines = [" " * 12 + "".join(host.center(width) for host in hosts).rstrip()]
        for event in events:
            line = [" "] * (width * len(hosts))
            for index in range(len(hosts)):
                line[index * width + width // 2] = "|"
            if event.destination and event.destination != event.source:
                self._draw_arrow(line, column[event.source], column[event.destination], width, event)
                drawn = "".join(line).rstrip()
            else:
                drawn = "".join(line).rstrip() + f"  {event.source}: {event.label()}"
            lines.append(f"{event.time:10.6f}  {drawn}")
        return "\n".join(lines)

    def _draw_arrow(self, line: list[str], source: int, destination: int, width: int, event: TraceEvent) -> None:
        first, last = sorted((source, destination))
        left, right = first * width + width // 2 + 1, last * width + width // 2
        length = right - left
        label = event.label().removesuffix(" (lost)")
        if len(label) > length - 4:
            label = label[: length - 7] + "..."
        arrow = list(f" {label} ".center(length, "-"))
        head = "x" if event.outcome == "lost" else ("<" if destination < source else ">")
        arrow[0 if destination < source else -1] = head
        line[left:right] = arrow
