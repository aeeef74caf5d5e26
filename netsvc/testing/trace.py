"""What happened on a network: who, when, what, to whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

#: Events that are kept; of a longer history, the end.
TRACE_MAX = 100_000

#: Bytes of a payload that are kept.
PREVIEW = 24


class Event(NamedTuple):
    """One packet that was sent, or one thing that happened to a host.

    :param time: seconds since the beginning.
    :param source: the host that sent it.
    :param what: ``SYN``, ``SYN-ACK``, ``ACK``, ``data``, ``FIN``, ``RST``, ``datagram`` or ``ICMP refused``; for a host
        ``crashed`` or ``restarted``; for links ``partition`` or ``heal`` or ``conditions``.
    :param destination: the host that it was sent to, or "".
    :param ports: the ports or paths at both ends, as ``49152>1314``, or "".
    :param length: payload bytes.
    :param data: the first of them.
    :param fate: "" if it went its way; ``lost``, ``doubled``, ``late``, ``late and doubled``, or ``no room`` if the
        receiver's buffer was full.
    """

    time: float
    source: str
    what: str
    destination: str
    ports: str
    length: int
    data: bytes
    fate: str

    def __str__(self) -> str:
        shown = f"{self.time:12.6f}  {self.source}"
        if self.destination:
            shown += f" -> {self.destination}"
        return f"{shown}  {self.label()}"

    def label(self) -> str:
        """Say what it is, without when and who."""
        parts = [self.ports, self.what]
        if self.length:
            more = "..." if self.length > len(self.data) else ""
            parts += [str(self.length), repr(self.data) + more]
        if self.fate:
            parts.append(f"({self.fate})")
        return " ".join(part for part in parts if part)


class Trace:
    """The history of a network, oldest event first. Of a long one only the end is kept.

    It iterates over its events, ``str`` shows one on each line, and :meth:`chart` draws them.

    :ivar dropped: how many events were too long ago to be kept.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=TRACE_MAX)
        self._recorded = 0

    @property
    def dropped(self) -> int:
        return self._recorded - len(self._events)

    def add(
        self,
        time: float,
        source: str,
        what: str,
        destination: str = "",
        ports: str = "",
        *,
        data: bytes = b"",
        fate: str = "",
    ) -> None:
        """Note one event."""
        self._recorded += 1
        self._events.append(Event(time, source, what, destination, ports, len(data), data[:PREVIEW], fate))

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __str__(self) -> str:
        lines = [str(event) for event in self._events]
        if self.dropped:
            lines.insert(0, f"({self.dropped:,} events before)")
        return "\n".join(lines)

    def chart(self, last: int = 0) -> str:
        """Draw a sequence chart in text: a column for each host, an arrow for each packet, time from top to bottom.

        A packet is drawn where it was sent. One that was lost has an ``x`` for a head.

        :param last: draw only so many events from the end; 0 for all.
        """
        events = list(self._events)[-last:] if last else list(self._events)
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
                self._arrow(line, column[event.source], column[event.destination], width, event)
                drawn = "".join(line).rstrip()
            else:
                drawn = "".join(line).rstrip() + f"  {event.source}: {event.label()}"
            lines.append(f"{event.time:10.6f}  {drawn}")
        return "\n".join(lines)

    def _arrow(self, line: list[str], source: int, destination: int, width: int, event: Event) -> None:
        first, last = sorted((source, destination))
        left, right = first * width + width // 2 + 1, last * width + width // 2
        room = right - left
        label = event.label().removesuffix(" (lost)")
        if len(label) > room - 4:
            label = label[: room - 7] + "..."
        arrow = list(f" {label} ".center(room, "-"))
        head = "x" if event.fate == "lost" else ("<" if destination < source else ">")
        arrow[0 if destination < source else -1] = head
        line[left:right] = arrow
