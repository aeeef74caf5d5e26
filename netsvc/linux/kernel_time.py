"""The kernel's time of arrival of a datagram, in a control message: SO_TIMESTAMPNS of socket(7)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

_SO_TIMESTAMPNS = 35  # of <asm-generic/socket.h>; Python 3.11 does not name it

#: The level and the number of the option, and of the control message.
KERNEL_TIME = (socket.SOL_SOCKET, _SO_TIMESTAMPNS)

_TIMESPEC = struct.Struct("@ll")

#: The header of the control message (struct cmsghdr).
KERNEL_TIME_HEADER = struct.pack("@Nii", socket.CMSG_LEN(_TIMESPEC.size), *KERNEL_TIME).ljust(socket.CMSG_LEN(0), b"\0")

#: Bytes of the control message. Linux puts it in front of those that tell addresses, TTL and traffic class.
KERNEL_TIME_SPACE = socket.CMSG_SPACE(_TIMESPEC.size)


def nanoseconds(timespec: bytes) -> int:
    """Return a time of the kernel, a struct timespec, in nanoseconds since the epoch."""
    seconds, rest = _TIMESPEC.unpack(timespec)
    return int(seconds * 1_000_000_000 + rest)


def kernel_time_layout(start: int, length: int) -> Callable[[bytes], tuple[Any, ...]]:
    """Return a function that divides ``length`` bytes whose first control message is that of the time.

    It returns what is before ``start``, the header of the control message, which may be that of another one, seconds,
    nanoseconds, and what is behind.
    """
    behind = length - start - KERNEL_TIME_SPACE
    if behind < 0:  # the control messages are cut short
        return lambda data: (data[:start], b"", 0, 0, data[start:])
    return struct.Struct(f"@{start}s{socket.CMSG_LEN(0)}sll{behind}s").unpack
