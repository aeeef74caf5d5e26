"""How right the system's clock is, as the kernel tells: adjtimex(2)."""

from __future__ import annotations

import ctypes
import math
import struct
import sys
from dataclasses import dataclass
from typing import Any

#: The beginning of struct timex: modes, offset, frequency, largest error, estimated error, status.
_TIMEX = struct.Struct("@Illlli")
_TIMEX_SPACE = 1024  # more than all of it
_UNSYNCHRONIZED = 0x40  # STA_UNSYNC of <linux/timex.h>
_adjtimex: Any = getattr(ctypes.CDLL(None), "adjtimex", None) if sys.platform == "linux" else None
_ERROR = 5  # TIME_ERROR: what adjtimex returns if the clock is not synchronized


@dataclass(frozen=True, slots=True)
class ClockState:
    """The state of the system's clock.

    :ivar synchronized: whether a program such as chronyd, ntpd or ptp4l keeps it right.
    :ivar error: the seconds by which it differs from the true time at most, as that program has told the kernel.
        Without such a program ``inf``: the kernel then tells 16 s, whatever the clock shows.
    """

    synchronized: bool
    error: float


def parse_timex(returned: int, timex: bytes) -> ClockState:
    """Return the state that adjtimex has told: its return value, and its structure."""
    _modes, _offset, _frequency, largest_error, _estimated_error, status = _TIMEX.unpack_from(timex)
    synchronized = returned != _ERROR and not status & _UNSYNCHRONIZED
    return ClockState(synchronized, largest_error / 1e6 if synchronized else math.inf)


def read_clock_state() -> ClockState | None:
    """Ask the kernel. It needs no privileges and changes nothing. Return None if the system does not tell."""
    if _adjtimex is None:
        return None
    timex = ctypes.create_string_buffer(_TIMEX_SPACE)
    returned = _adjtimex(timex)
    return None if returned < 0 else parse_timex(returned, timex.raw)  # a filter of system calls may forbid it
