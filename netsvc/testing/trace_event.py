"""One event of the trace of a network."""

from __future__ import annotations

from typing import NamedTuple

#: Payload bytes that are kept of each packet, and that its text shows.
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
    :param data: the first bytes of the payload; all of them if the trace keeps payloads.
    :param outcome: "" if the packet was delivered normally; ``lost``, ``duplicated``, ``reordered``,
        ``reordered and duplicated``, ``no host has the address``, or ``buffer full`` if the receiver dropped it.
    :param addresses: the source and destination IP address of a packet; empty if they are not known.
    :param offset: of a packet of a stream, the bytes of the stream before it.
    """

    time: float
    source: str
    kind: str
    destination: str
    ports: str
    length: int
    data: bytes
    outcome: str
    addresses: tuple[str, str] = ("", "")
    offset: int = 0

    def __str__(self) -> str:
        text = f"{self.time:12.6f}  {self.source}"
        if self.destination:
            text += f" -> {self.destination}"
        return f"{text}  {self.label()}"

    def label(self) -> str:
        """Return the text of the event without its time and hosts."""
        parts = [self.ports, self.kind]
        if self.length:
            ellipsis = "..." if self.length > PREVIEW else ""
            parts += [str(self.length), repr(self.data[:PREVIEW]) + ellipsis]
        if self.outcome:
            parts.append(f"({self.outcome})")
        return " ".join(part for part in parts if part)
