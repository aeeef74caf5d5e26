"""Receive and send many datagrams with one system call: recvmmsg(2) and sendmmsg(2).

The structures of a batch are laid out once. A call then costs a few assignments to strided views of them, however many
datagrams there are. Numbers and offsets come from ``ctypes``.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vectors_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [("header", _Header), ("length", ctypes.c_uint32)]


_ControlHeader = struct.Struct("@Nii")  # struct cmsghdr: length, level, type

# The fields as indices of the views of an array of messages, as unsigned longs or integers.
_LONG, _INT = ctypes.sizeof(ctypes.c_ulong), ctypes.sizeof(ctypes.c_uint)
_SIZE = ctypes.sizeof(_Message)
_LONGS, _INTS = _SIZE // _LONG, _SIZE // _INT
_NAME_LENGTH, _LENGTH = _Header.name_length.offset // _INT, _Message.length.offset // _INT
_CONTROL, _CONTROL_LENGTH = _Header.control.offset // _LONG, _Header.control_length.offset // _LONG

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_recvmmsg: Any = getattr(_libc, "recvmmsg", None)
_sendmmsg: Any = getattr(_libc, "sendmmsg", None)


def _works(call: Any) -> bool:
    """Return whether the system has a call and lets this process use it: emulators and filters may not."""
    return call is not None and call(-1, None, 0, 0, None) == -1 and ctypes.get_errno() == errno.EBADF


#: Whether the system has both calls.
AVAILABLE = _works(_recvmmsg) and _works(_sendmmsg)

_RETRY_ERRNOS = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR))
_NOTHING: tuple[tuple[bytes, ...], tuple[bytes, ...]] = ((), ())

ControlMessages = list[tuple[int, int, bytes]]


class MessageReceiver:
    """Receives datagrams from a socket that does not block.

    :param slots: the largest number of datagrams in a batch.
    :param size: bytes of the longest datagram; a longer one is truncated.
    :param name_size: bytes of the socket address of a source.
    :param control_size: bytes of the control messages of a datagram; 0 for none.
    :ivar control_start: where the control messages begin in what :meth:`receive` returns.
    """

    def __init__(self, slots: int, size: int, name_size: int, control_size: int) -> None:
        self._slots = slots
        self._stride = _aligned(size)
        self.control_start = _aligned(name_size) if control_size else name_size
        self._origin_stride = self.control_start + _aligned(control_size)
        self._control_size = control_size
        # Pages that are not used take no memory.
        self._payloads = _memory(slots * self._stride)
        self._origins = _memory(slots * self._origin_stride)
        vectors = (_Vector * slots)()
        messages = (_Message * slots)()
        base, origins = map(_address_of, (self._payloads, self._origins))
        for i in range(slots):
            vectors[i].base, vectors[i].length = base + i * self._stride, size
            message = messages[i].header
            message.name, message.name_length = origins + i * self._origin_stride, name_size
            message.vectors, message.vectors_count = ctypes.addressof(vectors[i]), 1
            message.control, message.control_length = message.name + self.control_start, control_size
        self._vectors = vectors  # keep them
        self._messages = messages
        self._bytes = memoryview(messages).cast("B")
        self._template = memoryview(bytes(messages))
        self._changed = 0
        self._longs, self._ints = self._bytes.cast("L"), self._bytes.cast("I")

    def receive(self, descriptor: int, maximum: int) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Receive the datagrams that have arrived, without waiting.

        :param maximum: how many of them, if that is less than there are slots.
        :return: the payloads, and the origin of each: the socket address of its source, and from ``control_start`` on
            its control messages, both in the layout of the system. They are empty if nothing has arrived.
        :raises OSError: if the system fails.
        """
        changed = self._changed  # the system has changed lengths and flags
        self._bytes[:changed] = self._template[:changed]
        count = _recvmmsg(descriptor, self._messages, min(maximum, self._slots), 0, None)
        if count < 0:
            if ctypes.get_errno() in _RETRY_ERRNOS:
                return _NOTHING
            raise _error()
        self._changed = count * _SIZE
        if count == 0:
            return _NOTHING
        start = self.control_start
        if count == 1:  # the usual case when there is little to do: it takes half the time of the general one
            end = start + self._longs[_CONTROL_LENGTH] if self._control_size else start
            return (self._payloads[: self._ints[_LENGTH]],), (self._origins[:end],)
        payloads = _pieces(self._payloads, self._stride, self._ints[_LENGTH : count * _INTS : _INTS].tolist())
        if not self._control_size:
            return payloads, _slots(count, self._origin_stride, start)(self._origins)
        control_lengths = self._longs[_CONTROL_LENGTH : count * _LONGS : _LONGS].tolist()
        return payloads, _pieces(self._origins, self._origin_stride, control_lengths, start)


class MessageSender:
    """Sends datagrams from a socket that does not block.

    :param slots: the largest number of datagrams in a batch.
    :param size: bytes of a datagram, on average; a batch can have ``slots`` times as many.
    :param name_size: bytes of the socket address of a destination.
    :param control_size: bytes of a control block, which a datagram may have.
    """

    def __init__(self, slots: int, size: int, name_size: int, control_size: int) -> None:
        self._slots = slots
        self._payloads = _memory(slots * size)
        self._names = _memory(slots * name_size)
        self._name_size = name_size
        self._control_size = control_size
        vectors = (_Vector * slots)()
        messages = (_Message * slots)()
        self._base, names = _address_of(self._payloads), _address_of(self._names)
        for i in range(slots):
            message = messages[i].header
            message.name, message.name_length = names + i * name_size, name_size
            message.vectors, message.vectors_count = ctypes.addressof(vectors[i]), 1
        self._messages = messages
        self._vectors = memoryview(vectors).cast("B").cast("L")
        self._longs = memoryview(messages).cast("B").cast("L")
        self._uniform: tuple[int, int] | None = None  # the length and the control block of all slots

    def send(
        self, descriptor: int, payloads: Sequence[bytes], names: Sequence[bytes], controls: Sequence[int]
    ) -> list[int]:
        """Send datagrams, at most ``slots``.

        :param names: the socket addresses of their destinations, in the layout of the system.
        :param controls: the address of a control block for each datagram; 0 for none.
        :return: the numbers of those that were not sent. All of them, if they are longer than there is space for, or if
            a destination has another address family.
        """
        count = len(payloads)
        joined = b"".join(payloads)
        if len(joined) > len(self._payloads) or set(map(len, names)) != {self._name_size}:
            return list(range(count))
        self._payloads[: len(joined)] = joined
        self._names[: count * self._name_size] = b"".join(names)
        self._lay_out(list(map(len, payloads)), controls)
        failed = []
        done = 0
        while done < count:
            sent = _sendmmsg(descriptor, ctypes.byref(self._messages, done * _SIZE), count - done, 0)
            if sent < 0:  # the error is that of the first message
                failed.append(done)
                sent = 1
            done += sent
        return failed

    def _lay_out(self, lengths: list[int], controls: Sequence[int]) -> None:
        """Set where the payload and the control block of each message are.

        Most batches are like the one before: all payloads have one length, and all leave from one address. Then nothing
        changes, which saves 4 us.
        """
        count = len(lengths)
        uniform = (lengths[0], controls[0])
        if lengths.count(uniform[0]) != count or controls.count(uniform[1]) != count:
            self._uniform = None
        elif uniform == self._uniform:
            return
        elif uniform[0] * self._slots <= len(self._payloads):
            self._uniform = uniform
            count = self._slots
            lengths, controls = [uniform[0]] * count, [uniform[1]] * count
        else:
            self._uniform = None
        sizes = array("L", lengths)
        self._vectors[: 2 * count : 2] = memoryview(array("L", accumulate(sizes[:-1], initial=self._base)))
        self._vectors[1 : 2 * count : 2] = memoryview(sizes)
        longs, size = self._longs, self._control_size
        longs[_CONTROL : count * _LONGS : _LONGS] = memoryview(array("L", controls))
        control_sizes = array("L", [size if control else 0 for control in controls])
        longs[_CONTROL_LENGTH : count * _LONGS : _LONGS] = memoryview(control_sizes)


def control_block(messages: ControlMessages) -> ctypes.Array[ctypes.c_char]:
    """Lay out control messages in memory, for :meth:`MessageSender.send`."""
    data = b"".join(
        (_ControlHeader.pack(socket.CMSG_LEN(len(data)), level, kind) + data).ljust(socket.CMSG_SPACE(len(data)), b"\0")
        for level, kind, data in messages
    )
    return ctypes.create_string_buffer(data, len(data))


def parse_control(data: bytes) -> ControlMessages:
    """Return the control messages that a datagram came with, as ``socket.recvmsg`` does."""
    messages = []
    start = 0
    while start + _ControlHeader.size <= len(data):
        length, level, kind = _ControlHeader.unpack_from(data, start)
        if length < _ControlHeader.size:
            break
        messages.append((level, kind, data[start + socket.CMSG_LEN(0) : start + length]))
        start += _aligned(length)
    return messages


def _memory(size: int) -> mmap.mmap:
    """Return memory whose slices are bytes objects. A child process that is forked gets a copy."""
    return mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _aligned(size: int) -> int:
    return (size + _LONG - 1) // _LONG * _LONG


def _address_of(buffer: Any) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if len(buffer) else 0


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _pieces(buffer: mmap.mmap, stride: int, lengths: list[int], start: int = 0) -> Sequence[bytes]:
    """Return the first bytes of each slot, ``start`` more than its length."""
    count, length = len(lengths), lengths[0]
    if lengths.count(length) == count:
        return _slots(count, stride, start + length)(buffer)
    return [buffer[i * stride : i * stride + start + length] for i, length in enumerate(lengths)]


@lru_cache(1_024)
def _slots(count: int, stride: int, length: int) -> Callable[[mmap.mmap], tuple[bytes, ...]]:
    """Return a function that returns the first ``length`` bytes of each of ``count`` slots."""
    return struct.Struct(f"{length}s{stride - length}x" * count).unpack_from
