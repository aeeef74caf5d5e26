"""Timestamp datagrams, ``[Sat Nov 21 00:33:33 2026] payload``: make one, recognise one, parse one.

The stamp is C's ``ctime`` in the server's local time, without the zone: a classic of the socket tutorials.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_STAMP = re.compile(
    rb"\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (%s) ([ 0123]\d) (\d\d):(\d\d):(\d\d) (\d{4})\]" % b"|".join(_MONTHS)
)


class StampError(ValueError):
    """The datagram is not a timestamp answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """A timestamp answer: the server's local time, to the second and without a zone, and the payload's bytes."""

    time: datetime
    payload: bytes


class Stamper:
    """Makes answers, and formats the time once a second instead of once a datagram."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = b""

    def answer(self, payload: bytes, now: float) -> bytes:
        """Return the answer to ``payload`` at ``now``, in seconds since the epoch."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = b"[%s] " % time.ctime(second).encode("ascii")
        return self._prefix + payload


def is_stamped(datagram: bytes) -> bool:
    """Whether ``datagram`` begins as an answer does.

    Such a datagram is never answered: it comes from another timestamp server or an echo server, and
    answering is how two of them talk for ever (CVE-2024-2169).
    """
    return datagram.startswith(b"[") and _STAMP.match(datagram) is not None


def parse(datagram: bytes) -> Stamped:
    """Parse an answer.

    :raises StampError: and nothing else, whatever the bytes.
    """
    match = _STAMP.match(datagram)
    if match is None or datagram[match.end() : match.end() + 1] != b" ":
        raise StampError("the datagram does not begin with a timestamp such as [Sat Nov 21 00:33:33 2026]")
    month, *numbers = match.groups()
    day, hour, minute, second, year = map(int, numbers)
    try:
        # A leap second is a second that datetime does not know.
        stamp = datetime(year, _MONTHS.index(month) + 1, day, hour, minute, min(second, 59))
    except ValueError as e:
        raise StampError(f"the timestamp is no date: {e}") from None
    return Stamped(stamp, datagram[match.end() + 1 :])
