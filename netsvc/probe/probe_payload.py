"""The datagram of a probe for responders that send back what they receive: echo, and timestamps (``[ctime] payload``).

=====  ======  ===============================================================
bytes  offset  content (big-endian)
=====  ======  ===============================================================
8      0       ``nsvprobe``
8      8       run: random, the same for all probes of one run to one target
8      16      sequence number
8      24      time of the send, in nanoseconds on a monotonic clock
2      32      bytes of padding
4      34      CRC-32 (zlib) of all other bytes, padding included
any    38      padding, zeros
=====  ======  ===============================================================
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import Enum

from netsvc.errors import NetsvcError

MAGIC = b"nsvprobe"

_HEAD = struct.Struct("!8s8sQqH")
_CHECK = struct.Struct("!I")

#: Bytes of the random identifier of a run.
RUN_SIZE = 8

#: The sizes of a probe's datagram. The largest is the largest payload of UDP over IPv4.
PROBE_SIZE_MIN = _HEAD.size + _CHECK.size
PROBE_SIZE_MAX = 65_507

#: The longest thing that a responder may put before the payload: ``[Sat Nov 21 00:33:33 2026] ``.
_PREFIX_MAX = 64


class PayloadError(NetsvcError, ValueError):
    """The probe cannot be made; the message says why."""


class PayloadKind(Enum):
    """The kinds of datagrams that arrive at a prober."""

    OURS = "ours"
    OTHER_RUN = "other run"
    CORRUPTED = "corrupted"
    NOT_A_PROBE = "not a probe"


@dataclass(frozen=True, slots=True)
class ParsedPayload:
    """A datagram that arrived.

    :ivar kind: the other fields have a meaning only if it is ``OURS`` or ``OTHER_RUN``; else they are zero.
    :ivar sequence: the sequence number.
    :ivar sent: nanoseconds, as the sender wrote them.
    """

    kind: PayloadKind
    sequence: int = 0
    sent: int = 0


_CORRUPTED = ParsedPayload(PayloadKind.CORRUPTED)
_NOT_A_PROBE = ParsedPayload(PayloadKind.NOT_A_PROBE)


class ProbePayload:
    """Makes and recognises the probes of one run.

    :param run: 8 random bytes.
    :param size: bytes of each datagram, 38 to 65,507.
    :raises PayloadError: if a size is out of its range.
    """

    def __init__(self, run: bytes, size: int = PROBE_SIZE_MIN) -> None:
        if len(run) != RUN_SIZE:
            raise PayloadError(f"a run of {len(run)} bytes: it has {RUN_SIZE}")
        if not PROBE_SIZE_MIN <= size <= PROBE_SIZE_MAX:
            raise PayloadError(f"a size of {size} bytes: choose {PROBE_SIZE_MIN} to {PROBE_SIZE_MAX}")
        self._run = run
        self._padding = bytes(size - PROBE_SIZE_MIN)

    def encode(self, sequence: int, sent: int) -> bytes:
        """Return the datagram of a probe.

        :param sequence: 0 to 2**64 - 1.
        :param sent: nanoseconds on a monotonic clock.
        """
        head = _HEAD.pack(MAGIC, self._run, sequence, sent, len(self._padding))
        check = zlib.crc32(self._padding, zlib.crc32(head))
        return head + _CHECK.pack(check) + self._padding

    def parse(self, datagram: bytes) -> ParsedPayload:
        """Recognise an answer: the probe itself, or the probe after the timestamp of a responder.

        A datagram that is cut, extended or altered is corrupted. If its first 8 bytes are altered too, it still counts
        as corrupted if it contains the run of this sender.
        """
        start = 0 if datagram.startswith(MAGIC) else datagram.find(MAGIC, 0, _PREFIX_MAX + len(MAGIC))
        if start < 0:
            return _CORRUPTED if self._run in datagram else _NOT_A_PROBE
        if start and not datagram.startswith(b"["):
            return _CORRUPTED
        if len(datagram) < start + PROBE_SIZE_MIN:
            return _CORRUPTED
        _, run, sequence, sent, padding = _HEAD.unpack_from(datagram, start)
        if len(datagram) != start + PROBE_SIZE_MIN + padding:
            return _CORRUPTED
        head_end = start + _HEAD.size
        check = zlib.crc32(datagram[head_end + _CHECK.size :], zlib.crc32(datagram[start:head_end]))
        if check != _CHECK.unpack_from(datagram, head_end)[0]:
            return _CORRUPTED
        return ParsedPayload(PayloadKind.OURS if run == self._run else PayloadKind.OTHER_RUN, sequence, sent)
