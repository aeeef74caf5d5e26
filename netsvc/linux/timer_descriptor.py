"""A timer as a descriptor: timerfd_create(2). It is right to some 50 us, where a reactor's timers have milliseconds."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from typing import Any

_NONBLOCK_AND_CLOEXEC = 0o4000 | 0o2000000
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_ITIMERSPEC = struct.Struct("@llll")  # interval and first time, seconds and nanoseconds each
_LONGEST = 1 << 62  # nanoseconds: for ever

_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

#: Whether the system has such timers.
AVAILABLE = hasattr(_libc, "timerfd_create")


class TimerDescriptor:
    """A descriptor that becomes readable at a time of the monotonic clock.

    :raises OSError: if the system refuses one more descriptor.
    """

    def __init__(self) -> None:
        self._fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK_AND_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def set(self, at: int) -> None:
        """Let it become readable at ``at``, nanoseconds of ``time.monotonic_ns``; at once if that is over."""
        seconds, nanoseconds = divmod(min(max(at, 1), _LONGEST), 1_000_000_000)  # 0 would disarm it
        _libc.timerfd_settime(self._fd, _ABSOLUTE, _ITIMERSPEC.pack(0, 0, seconds, nanoseconds), None)

    def clear(self) -> None:
        """Do not let it become readable. If it is, it is not any more."""
        _libc.timerfd_settime(self._fd, 0, _ITIMERSPEC.pack(0, 0, 0, 0), None)

    def fileno(self) -> int:
        """Return the descriptor to wait for; -1 after :meth:`close`."""
        return self._fd

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
