"""The trace of a network: every packet, crash and change, with time, source and destination."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator
from pathlib import Path

from netsvc.testing.trace_event import PREVIEW, TraceEvent
from netsvc.testing.trace_page import page
from netsvc.testing.trace_pcap import capture

#: The maximum number of events that a trace keeps. Older events are dropped.
TRACE_MAX = 100_000

#: The first bytes of TLS (RFC 8446, section 5.1) and of SSH (RFC 4253, section 4.2), and the remark that precedes them.
_ENCRYPTED = (b"\x16\x03", b"SSH-")
ENCRYPTION_BEGINS = "encryption begins: OpenSSL's random numbers do not follow the seed"

#: The events that a chart draws unless another number is given, and the maximum number of its columns.
CHART_EVENTS, CHART_HOSTS = 500, 12

#: Bytes of all payloads together, if they are kept.
PAYLOADS_MAX = 64 * 1024 * 1024


class Trace:
    """The history of a network, oldest event first. It keeps the last 100,000 events, and 64 MiB of payloads.

    :meth:`pcap` writes it for Wireshark, and :meth:`html` as a page.

    Iterating over a trace yields its events, ``str`` returns one line for each event, and :meth:`chart` draws them.

    :param payloads: whether to keep the payloads of packets; else 24 bytes of each.
    :ivar dropped: the number of events that are no longer kept.
    """

    def __init__(self, payloads: bool = False) -> None:
        self.keeps_payloads = payloads
        self._payload_bytes = 0
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
        addresses: tuple[str, str] = ("", ""),
        offset: int = 0,
    ) -> None:
        """Record one event. A remark precedes the first packet that begins with TLS or SSH."""
        if not self._encryption_seen and data.startswith(_ENCRYPTED):
            self._encryption_seen = True
            self.add(time, source, ENCRYPTION_BEGINS)
        self._recorded += 1
        kept = data if self.keeps_payloads else data[:PREVIEW]
        event = TraceEvent(time, source, kind, destination, ports, len(data), kept, outcome, addresses, offset)
        if self.keeps_payloads:
            self._make_room(len(kept))
        self._events.append(event)

    def _make_room(self, length: int) -> None:
        """Drop the oldest events if the payloads would take too much memory."""
        if len(self._events) == TRACE_MAX:
            self._payload_bytes -= len(self._events[0].data)
        self._payload_bytes += length
        while self._payload_bytes > PAYLOADS_MAX and self._events:
            self._payload_bytes -= len(self._events.popleft().data)

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __str__(self) -> str:
        lines = [str(event) for event in self._events]
        if self.dropped:
            lines.insert(0, f"({self.dropped:,} earlier events)")
        return "\n".join(lines)

    def pcap(self, path: str | Path, hosts: Collection[str] = ()) -> None:
        """Write the packets to a capture file, for Wireshark. Lost packets are in it, as in a capture at the sender.

        :param path: the file, which is replaced.
        :param hosts: write the packets between these hosts only; by default, those of all hosts.
        """
        with Path(path).open("wb") as file:
            file.writelines(capture(self._between(hosts)))

    def html(self, path: str | Path, title: str = "Trace", hosts: Collection[str] = ()) -> None:
        """Write a page with a sequence chart, filters and zoom. It is one file, and loads nothing else.

        :param path: the file, which is replaced.
        :param title: the heading of the page.
        :param hosts: as in :meth:`pcap`.
        """
        Path(path).write_text(page(self._between(hosts), title), "utf-8")

    def _between(self, hosts: Collection[str]) -> list[TraceEvent]:
        return [
            event
            for event in self._events
            if not hosts or {event.source, event.destination or event.source} <= {*hosts}
        ]

    def chart(self, last: int = CHART_EVENTS, hosts: Collection[str] = ()) -> str:
        """Return a sequence chart in text: a column for each host, an arrow for each packet, time from top to bottom.

        The arrow of a packet is in the line of the time at which it was sent. The arrow of a lost packet ends in ``x``.
        The chart has at most 12 columns: those of the hosts with the most events. It says how much it leaves out.

        :param last: the number of events to draw, counted from the end; 0 for all.
        :param hosts: draw the events between these hosts only, and their own; by default, those of all hosts.
        """
        chosen = self._between(hosts)
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
