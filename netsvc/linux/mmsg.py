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

#: Bytes of the longest socket address: struct sockaddr_in6.
NAME_MAX = 28


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
_NOTHING: tuple[tuple[bytes, ...], ...] = ((), (), ())

ControlMessages = list[tuple[int, int, bytes]]


class MessageReceiver:
    """Receives datagrams from a socket that does not block.

    :param slots: the largest number of datagrams in a batch.
    :param size: bytes of the longest datagram; a longer one is truncated.
    :param control_size: bytes of the control messages of a datagram; 0 for none.
    """

    def __init__(self, slots: int, size: int, control_size: int) -> None:
        self._slots = slots
        self._stride = _aligned(size)
        self._control_stride = _aligned(control_size)
        # Pages that are not used take no memory.
        self._payloads = _memory(slots * self._stride)
        self._names = _memory(slots * NAME_MAX)
        self._controls = _memory(slots * self._control_stride)
        vectors = (_Vector * slots)()
        messages = (_Message * slots)()
        base, names, controls = map(_address_of, (self._payloads, self._names, self._controls))
        for i in range(slots):
            vectors[i].base, vectors[i].length = base + i * self._stride, size
            message = messages[i].header
            message.name, message.name_length = names + i * NAME_MAX, NAME_MAX
            message.vectors, message.vectors_count = ctypes.addressof(vectors[i]), 1
            message.control, message.control_length = controls + i * self._control_stride, control_size
        self._vectors = vectors  # keep them
        self._messages = messages
        self._bytes = memoryview(messages).cast("B")
        self._template = bytes(messages)
        self._longs, self._ints = self._bytes.cast("L"), self._bytes.cast("I")

    def receive(self, descriptor: int, maximum: int) -> tuple[Sequence[bytes], ...]:
        """Receive the datagrams that have arrived, without waiting.

        :param maximum: how many of them, if that is less than there are slots.
        :return: the payloads, the socket addresses of their sources, and their control messages, all in the layout of
            the system. They are empty if nothing has arrived.
        :raises OSError: if the system fails.
        """
        self._bytes[:] = self._template  # the system has changed lengths and flags
        count = _recvmmsg(descriptor, self._messages, min(maximum, self._slots), 0, None)
        if count < 0:
            if ctypes.get_errno() in _RETRY_ERRNOS:
                return _NOTHING
            raise _error()
        if count == 0:
            return _NOTHING
        if count == 1:  # the usual case when there is little to do: it takes half the time of the general one
            ints = self._ints
            length, name_length, control_length = ints[_LENGTH], ints[_NAME_LENGTH], self._longs[_CONTROL_LENGTH]
            return (self._payloads[:length],), (self._names[:name_length],), (self._controls[:control_length],)
        lengths = self._ints[_LENGTH : count * _INTS : _INTS].tolist()
        payloads = _pieces(self._payloads, self._stride, lengths)
        names = _pieces(self._names, NAME_MAX, self._ints[_NAME_LENGTH : count * _INTS : _INTS].tolist())
        controls: Sequence[bytes] = [b""] * count
        if self._control_stride:
            control_lengths = self._longs[_CONTROL_LENGTH : count * _LONGS : _LONGS].tolist()
            controls = _pieces(self._controls, self._control_stride, control_lengths)
        return payloads, names, controls


class MessageSender:
    """Sends datagrams from a socket that does not block.

    :param slots: the largest number of datagrams in a batch.
    :param size: bytes of a datagram, on average; a batch can have ``slots`` times as many.
    :param name_size: bytes of the socket address of a destination.
    :param control_size: bytes of a control block, which a datagram may have.
    """

    def __init__(self, slots: int, size: int, name_size: int, control_size: int) -> None:
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
        lengths = array("L", map(len, payloads))
        starts = array("L", accumulate(lengths[:-1], initial=self._base))
        self._vectors[: 2 * count : 2] = memoryview(starts)
        self._vectors[1 : 2 * count : 2] = memoryview(lengths)
        self._names[: count * self._name_size] = b"".join(names)
        longs, size = self._longs, self._control_size
        longs[_CONTROL : count * _LONGS : _LONGS] = memoryview(array("L", controls))
        sizes = [size if control else 0 for control in controls] if 0 in controls else [size] * count
        longs[_CONTROL_LENGTH : count * _LONGS : _LONGS] = memoryview(array("L", sizes))
        failed = []
        done = 0
        while done < count:
            sent = _sendmmsg(descriptor, ctypes.byref(self._messages, done * _SIZE), count - done, 0)
            if sent < 0:  # the error is that of the first message
                failed.append(done)
                sent = 1
            done += sent
        return failed


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


def _pieces(buffer: mmap.mmap, stride: int, lengths: list[int]) -> Sequence[bytes]:
    """Return the first bytes of each slot."""
    count, length = len(lengths), lengths[0]
    if lengths.count(length) == count:
        return _slots(count, stride, length)(buffer)
    return [buffer[i * stride : i * stride + length] for i, length in enumerate(lengths)]


@lru_cache(1_024)
def _slots(count: int, stride: int, length: int) -> Callable[[mmap.mmap], tuple[bytes, ...]]:
    """Return a function that returns the first ``length`` bytes of each of ``count`` slots."""
    return struct.Struct(f"{length}s{stride - length}x" * count).unpack_from
