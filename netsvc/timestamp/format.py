"""Timestamp replies, ``[Sat Nov 21 00:33:33 2026] payload``: make one, recognise one, parse one.

The time is C's ``ctime``: the server's local time without a zone, as in the classic socket tutorials.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime

from netsvc.errors import NetsvcError

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_STAMP = re.compile(
    rb"\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (%s) ([ 0123]\d) (\d\d):(\d\d):(\d\d) (\d{4})\]" % b"|".join(_MONTHS)
)


class TimestampFormatError(NetsvcError, ValueError):
    """The datagram is not a timestamp reply; the message says why."""


@dataclass(frozen=True, slots=True)
class TimestampReply:
    """A parsed reply.

    :param time: the server's local time, to the second and without a zone.
    :param payload: the bytes of the request.
    """

    time: datetime
    payload: bytes


class TimestampFormatter:
    """Makes replies. It formats the time once a second, not once for each datagram."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = b""

    def prefix(self, now: float) -> bytes:
        """Return what a reply at ``now``, in seconds since the epoch, begins with. The bytes of the request follow."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = b"[%s] " % time.ctime(second).encode("ascii")
        return self._prefix


def is_timestamp_reply(datagram: bytes) -> bool:
    """Whether ``datagram`` begins as a reply does.

    A server must not answer such a datagram. It comes from another timestamp server or from an echo server, and the two
    would answer each other for ever (CVE-2024-2169).
    """
    return datagram.startswith(b"[") and _STAMP.match(datagram) is not None


def parse_timestamp_reply(datagram: bytes) -> TimestampReply:
    """Parse a reply.

    :raises TimestampFormatError: and nothing else, whatever the bytes.
    """
    match = _STAMP.match(datagram)
    if match is None or datagram[match.end() : match.end() + 1] != b" ":
        raise TimestampFormatError("the datagram does not begin with a timestamp such as [Sat Nov 21 00:33:33 2026]")
    month, *numbers = match.groups()
    day, hour, minute, second, year = map(int, numbers)
    try:
        # datetime has no leap seconds.
        stamp = datetime(year, _MONTHS.index(month) + 1, day, hour, minute, min(second, 59))
    except ValueError as e:
        raise TimestampFormatError(f"the timestamp is not a date: {e}") from None
    return TimestampReply(stamp, datagram[match.end() + 1 :])
