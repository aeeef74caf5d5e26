"""A trace as a capture file for Wireshark and tshark: the packets that a real network would have carried.

The format is that of libpcap with times in nanoseconds (draft-ietf-opsawg-pcap), and the packets begin with their IP
header (LINKTYPE_RAW). The sequence numbers and acknowledgements of TCP are made from the order of the events.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from netsvc.testing.trace_event import TraceEvent

_MAGIC_NANOSECONDS, _LINKTYPE_RAW, _SNAPLEN = 0xA1B23C4D, 101, 262_144

#: Payload bytes of a TCP packet. A segment of the simulated network may be longer.
SEGMENT = 1_460

_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_FLAGS = {"SYN": _SYN, "SYN-ACK": _SYN | _ACK, "ACK": _ACK, "data": _PSH | _ACK, "FIN": _FIN | _ACK, "RST": _RST | _ACK}
_WINDOW = 65_535

_Flow = tuple[str, str, str, str]  # addresses and ports


def capture(events: Iterable[TraceEvent]) -> Iterator[bytes]:
    """Yield the bytes of a capture file. Each packet is in it once, at the time at which it was sent.

    Packets that were lost on the way are in it as well, as in a capture at their senders. Events that are no packets,
    and those of UNIX sockets, are left out.
    """
    yield struct.pack("=IHHiIII", _MAGIC_NANOSECONDS, 2, 4, 0, 0, _SNAPLEN, _LINKTYPE_RAW)
    streams = _Streams()
    for event in events:
        if not all(event.addresses) or ">" not in event.ports:
            continue
        for packet, length in _packets(event, streams):
            nanoseconds = round(event.time * 1_000_000_000)
            yield struct.pack("=IIII", *divmod(nanoseconds, 1_000_000_000), len(packet), length) + packet


class _Streams:
    """The sequence numbers that each direction of each connection has reached."""

    def __init__(self) -> None:
        self._sent: dict[_Flow, int] = {}  # sequence numbers after the last byte

    def numbers(self, flow: _Flow, event: TraceEvent, offset: int, length: int) -> tuple[int, int]:
        """Return the sequence number and the acknowledgement of a packet."""
        back = (flow[1], flow[0], flow[3], flow[2])
        if event.kind == "SYN":
            self._sent.pop(back, None)  # the ports are used again
            self._sent[flow] = 1
            return 0, 0
        acknowledged = self._sent.get(back, 0)
        if event.kind == "SYN-ACK":
            self._sent[flow] = 1
            return 0, acknowledged
        sequence = 1 + offset
        end = sequence + length + (event.kind == "FIN")
        self._sent[flow] = max(self._sent.get(flow, 1), end)
        return sequence, acknowledged


def _packets(event: TraceEvent, streams: _Streams) -> Iterator[tuple[bytes, int]]:
    """Yield each packet of an event, as far as its payload is kept, and its whole length."""
    source, destination = event.addresses
    ports = event.ports.partition(">")
    if event.kind == "datagram":
        header = struct.pack("!HHHH", int(ports[0]), int(ports[2]), 8 + event.length, 0)
        yield _ip(_UDP, source, destination, header, event.data, event.length)
    elif event.kind == "ICMP port unreachable":
        yield _unreachable(source, destination, int(ports[0]), int(ports[2]))
    elif event.kind in _FLAGS:
        flow = (source, destination, ports[0], ports[2])
        for begin in range(0, max(1, event.length), SEGMENT):
            length = min(SEGMENT, event.length - begin)
            sequence, acknowledged = streams.numbers(flow, event, event.offset + begin, length)
            flags = _FLAGS[event.kind]
            header = struct.pack(
                *("!HHIIBBHHH", int(ports[0]), int(ports[2]), sequence % 2**32),
                *((acknowledged if flags & _ACK else 0) % 2**32, 0x50),
                *(flags, _WINDOW, 0, 0),
            )
            yield _ip(_TCP, source, destination, header, event.data[begin : begin + length], length)


def _unreachable(source: str, destination: str, closed: int, port: int) -> tuple[bytes, int]:
    """Return an ICMP message about a datagram from ``destination`` to a closed port."""
    udp = struct.pack("!HHHH", port, closed, 8, 0)
    original, _ = _ip(_UDP, destination, source, udp, b"", 0)
    if ":" in source:
        return _ip(_ICMPV6, source, destination, struct.pack("!BBHI", 1, 4, 0, 0), original, len(original))
    return _ip(_ICMP, source, destination, struct.pack("!BBHI", 3, 3, 0, 0), original, len(original))


def _ip(protocol: int, source: str, destination: str, header: bytes, data: bytes, length: int) -> tuple[bytes, int]:
    """Return a packet with its IP header and checksums, as far as its data is kept, and its whole length.

    :param header: of the layer above IP, with a checksum of 0.
    :param data: as much of the payload as is kept.
    :param length: bytes of the whole payload.
    """
    total = len(header) + length
    ends = ip_address(source).packed + ip_address(destination).packed
    if ":" in source:
        packet = struct.pack("!IHBB", 6 << 28, total, protocol, 64) + ends
        pseudo = ends + struct.pack("!II", total, protocol)
    else:
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + total, 0, 0, 64, protocol, 0) + ends
        packet = packet[:10] + _checksum(packet) + packet[12:]
        pseudo = b"" if protocol == _ICMP else ends + struct.pack("!HH", protocol, total)
    if len(data) == length:  # else the checksum cannot be known
        place = {_TCP: 16, _UDP: 6}.get(protocol, 2)
        header = header[:place] + _checksum(pseudo + header + data) + header[place + 2 :]
    return packet + header + data, len(packet) + total


def _checksum(data: bytes) -> bytes:
    """Return the checksum of the Internet (RFC 1071); 0xFFFF instead of 0, which in UDP means that there is none."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", (~total & 0xFFFF) or 0xFFFF)
