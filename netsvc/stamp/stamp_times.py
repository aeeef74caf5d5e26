"""The times of STAMP packets: 64-bit timestamps in two formats, and the error estimate that goes with them.

RFC 8762, section 4.2.1: the format is that of NTP, or the truncated one of PTP version 2 (IEEE 1588). The Z bit of the
error estimate tells which (RFC 8186, section 2.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from struct import Struct

#: Nanoseconds in a second.
SECOND = 1_000_000_000

#: Seconds from the epoch of NTP (1900) to that of Unix (1970).
NTP_EPOCH = 2_208_988_800

#: The seconds of a timestamp are counted modulo 2**32. NTP's wrap in February 2036, those of PTP in February 2106.
SECONDS_MASK = 0xFFFFFFFF

_PERIOD = (SECONDS_MASK + 1) * SECOND
_HALF_PERIOD = _PERIOD // 2
_PAIR = Struct("!LL")


class TimeFormat(Enum):
    """The format of a timestamp. The value is the Z bit of the error estimate."""

    #: Seconds since 1900 and a fraction of a second, 32 bits each (RFC 5905, section 6).
    NTP = 0

    #: Seconds since 1970 and nanoseconds, 32 bits each: PTP version 2, truncated (RFC 8877, section 4.3). netsvc writes
    #: and reads seconds of UTC, which the clock of the host counts. IEEE 1588 counts those of TAI, 37 more since 2017.
    PTP = 1


def encode_time(time: int, time_format: TimeFormat) -> bytes:
    """Return the 8 octets of a time in nanoseconds since the Unix epoch. :func:`decode_time` returns it exactly."""
    seconds, rest = divmod(time, SECOND)
    if time_format is TimeFormat.PTP:
        return _PAIR.pack(seconds & SECONDS_MASK, rest)
    return _PAIR.pack((seconds + NTP_EPOCH) & SECONDS_MASK, (rest << 32) // SECOND)


def decode_time(data: bytes, time_format: TimeFormat, *, near: int) -> int:
    """Return the time of 8 octets, in nanoseconds since the Unix epoch.

    :param near: a time in nanoseconds since the Unix epoch. Of all the times that the octets can mean, which are 136
        years apart, the nearest one is returned.
    """
    return decode_time_bits(int.from_bytes(data), time_format, near)


def decode_time_bits(bits: int, time_format: TimeFormat, near: int) -> int:
    """Do what :func:`decode_time` does, for octets that were read as a number."""
    seconds, rest = bits >> 32, bits & SECONDS_MASK
    if time_format is TimeFormat.PTP:
        time = seconds * SECOND + rest
    else:
        time = (seconds - NTP_EPOCH) * SECOND + ((rest * SECOND + (1 << 31)) >> 32)
    return time + (near - time + _HALF_PERIOD) // _PERIOD * _PERIOD


@dataclass(frozen=True, slots=True)
class ErrorEstimate:
    """How far the clock of a timestamp may be from UTC (RFC 4656, section 4.1.2).

    :param synchronized: the S bit: whether an external source synchronizes the clock.
    :param time_format: the Z bit: the format of the timestamps.
    :param error: seconds; ``inf`` if the estimate says nothing.
    """

    synchronized: bool
    time_format: TimeFormat
    error: float

    def encode(self) -> int:
        """Return the 16 bits. The error is rounded up to one that can be written, which is at least 2**-32 seconds.

        The largest is 255 * 2**31 seconds. It stands for ``inf``, too.
        """
        scale, multiplier = _scaled(self.error)
        return self.synchronized << 15 | self.time_format.value << 14 | scale << 8 | multiplier


def decode_error_estimate(bits: int) -> ErrorEstimate:
    """Return the error estimate of 16 bits.

    A multiplier of 0 has no meaning: RFC 4656, section 4.1.2, says to treat the packet as invalid. But a reflector only
    repeats the estimate of the sender. So it raises nothing and makes the error ``inf``.
    """
    multiplier = bits & 0xFF
    error = math.ldexp(multiplier, (bits >> 8 & 0x3F) - 32) if multiplier else math.inf
    return ErrorEstimate(bool(bits & 0x8000), TimeFormat(bits >> 14 & 1), error)


def _scaled(error: float) -> tuple[int, int]:
    """Return the scale and the multiplier: error = multiplier * 2**scale * 2**-32 seconds."""
    if not error <= 255 * 2.0**31:  # so is NaN
        return 63, 255
    units = max(1, math.ceil(math.ldexp(max(0.0, error), 32)))
    scale = max(0, units.bit_length() - 8)
    multiplier = -(-units >> scale)
    return (scale, multiplier) if multiplier <= 0xFF else (scale + 1, -(-units >> scale + 1))
