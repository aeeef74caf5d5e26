"""The kernel's time of arrival of a datagram, in a control message: SO_TIMESTAMPNS of socket(7)."""

from __future__ import annotations

import socket
import struct

_SO_TIMESTAMPNS = 35  # of <asm-generic/socket.h>; Python 3.11 does not name it

#: The level and the number of the option, and of the control message.
KERNEL_TIME = (socket.SOL_SOCKET, _SO_TIMESTAMPNS)

_TIMESPEC = struct.Struct("@ll")
_HEADER = struct.pack("@Nii", socket.CMSG_LEN(_TIMESPEC.size), *KERNEL_TIME)  # struct cmsghdr
_MESSAGE = struct.Struct(f"@{socket.CMSG_LEN(0)}sll")

#: Bytes of the control message. Linux puts it in front of those that tell addresses, TTL and traffic class.
KERNEL_TIME_SPACE = socket.CMSG_SPACE(_TIMESPEC.size)


def nanoseconds(timespec: bytes) -> int:
    """Return a time of the kernel, a struct timespec, in nanoseconds since the epoch."""
    seconds, rest = _TIMESPEC.unpack(timespec)
    return int(seconds * 1_000_000_000 + rest)


def parse_kernel_time(message: bytes) -> int | None:
    """Return the nanoseconds since the epoch; None if ``message`` is another control message, or is cut short."""
    if not message.startswith(_HEADER) or len(message) < _MESSAGE.size:
        return None
    _, seconds, rest = _MESSAGE.unpack_from(message)
    return int(seconds * 1_000_000_000 + rest)
