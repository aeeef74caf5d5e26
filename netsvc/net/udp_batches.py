"""Batches of datagrams for a UDP socket, received and sent with one system call each (Linux)."""

from __future__ import annotations

import ctypes
import operator
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from netsvc.linux.kernel_time import KERNEL_TIME_HEADER, kernel_time_layout
from netsvc.linux.mmsg import ControlMessages, MessageReceiver, MessageSender, control_block, parse_control
from netsvc.linux.socket_address import ADDRESS_SIZES, pack_address, unpack_address
from netsvc.wire.bounded_cache import BoundedCache
from netsvc.wire.datagram import Datagram, SocketAddress

#: The most datagrams in a batch.
BATCH_MAX = 64

#: Local addresses whose forms are kept.
MAX_LOCAL_ADDRESSES = 64

#: Peers whose addresses are kept in both forms.
MAX_PEERS = 4_096

#: Lengths of the control messages of a datagram whose layouts are kept. There are few.
MAX_LAYOUTS = 16

#: Bytes by which a reply may be longer than the longest datagram that is received, and is still sent in a batch.
REPLY_MARGIN = 64


class _LocalAddressControl:
    """Control messages in memory, which make a datagram leave from a local address.

    :ivar size: their bytes; 0 for none.
    :ivar address: where they are; 0 for none.
    """

    def __init__(self, messages: ControlMessages) -> None:
        self._block = control_block(messages)
        self.size = len(self._block) if messages else 0
        self.address = ctypes.addressof(self._block) if messages else 0


_NO_CONTROL = _LocalAddressControl([])

_NEW_DATAGRAM = partial(tuple.__new__, Datagram)


class _Peer(tuple[Any, ...]):
    """An address as Python's sockets give it, which knows its form in the system's layout."""

    name: bytes


def _new_peer(name: bytes) -> _Peer:
    peer = _Peer(unpack_address(name))
    peer.name = name
    return peer


_name_of_peer = operator.attrgetter("name")


class DatagramBatches:
    """Receives and sends batches of datagrams. It sends none that has a traffic class of its own.

    :param bound: a socket that does not block.
    :param max_size: bytes of the longest datagram; a longer one is truncated.
    :param control_size: bytes of the control messages of a datagram.
    :param parse: returns the fields of :class:`Datagram` behind the peer, without the kernel time, from its control
        messages.
    :param source: returns the control messages that make a datagram leave from a local address.
    :param timed: whether the system was asked for the kernel time of each datagram.
    """

    def __init__(
        self,
        bound: socket.socket,
        max_size: int,
        control_size: int,
        parse: Callable[[ControlMessages], tuple[Any, ...]],
        source: Callable[[bytes], ControlMessages],
        *,
        timed: bool,
    ) -> None:
        self._socket = bound
        self._parse = parse
        self._source = source
        self._name_size = ADDRESS_SIZES[bound.family]
        self._receiver = MessageReceiver(BATCH_MAX, max_size, self._name_size, control_size)
        self._control_size = len(control_block(source(bytes(4 if bound.family == socket.AF_INET else 16))))
        size = min(max_size + REPLY_MARGIN, 65_535)
        self._sender = MessageSender(BATCH_MAX, size, self._name_size, self._control_size)
        self._fields = BoundedCache(self._parsed_fields, MAX_LOCAL_ADDRESSES)
        # Datagrams of one peer to one local address have the same control messages, except for the time.
        self._origins = BoundedCache(self._parsed_origin, MAX_PEERS)
        self._layouts = BoundedCache(partial(kernel_time_layout, self._receiver.control_start), MAX_LAYOUTS)
        self._origin_of: Callable[[bytes], tuple[Any, ...]] = self._timed_origin
        if not timed:
            self._origin_of = BoundedCache(self._untimed_origin, MAX_PEERS).__getitem__
        self._controls_by_local = BoundedCache(self._new_control, MAX_LOCAL_ADDRESSES)

    def receive(self, maximum: int) -> list[Datagram]:
        """Return the datagrams that have arrived, at most ``maximum``; an empty list if there is none.

        :raises OSError: if the system fails.
        """
        payloads, origins = self._receiver.receive(self._socket.fileno(), maximum)
        # These calls create no frame for a datagram. A loop would take 1 us more for each.
        return list(map(_NEW_DATAGRAM, map(operator.add, zip(payloads), map(self._origin_of, origins))))

    def send(self, datagrams: Sequence[Datagram]) -> list[Datagram]:
        """Send datagrams, at most ``BATCH_MAX``. Return those that were not sent: another call may tell why."""
        payloads, peers, locals_, _, _, traffic_classes, _ = zip(*datagrams, strict=True)
        if traffic_classes.count(None) != len(traffic_classes):  # a call for each is good enough for these
            return list(datagrams)
        names = self._names_of(peers)
        # This list keeps the blocks until they are sent. Replies to one batch mostly leave from one address.
        if locals_.count(locals_[0]) == len(locals_):
            blocks = [self._control_of(locals_[0])] * len(locals_)
        else:
            blocks = [self._control_of(local) for local in locals_]
        if names is None or None in blocks:
            return list(datagrams)
        controls = [block.address for block in blocks if block is not None]
        failed = self._sender.send(self._socket.fileno(), payloads, names, controls)
        return [datagrams[number] for number in failed]

    def _names_of(self, peers: Sequence[SocketAddress]) -> list[bytes] | None:
        """Return the destinations in the system's layout; None if one has none, such as a host name."""
        try:
            return list(map(_name_of_peer, peers))
        except AttributeError:  # one of them is an address that the application has made
            pass
        try:
            return [self._name_of(peer) for peer in peers]
        except (OSError, ValueError, TypeError, OverflowError, struct.error):
            return None

    def _name_of(self, peer: SocketAddress) -> bytes:
        return peer.name if isinstance(peer, _Peer) else pack_address(self._socket.family, peer)

    def _timed_origin(self, origin: bytes) -> tuple[Any, ...]:
        """Return the fields of :class:`Datagram` behind the payload. The time is in the first control message."""
        name, header, seconds, nanoseconds, behind = self._layouts[len(origin)](origin)
        if header != KERNEL_TIME_HEADER:
            return self._untimed_origin(origin)
        return (*self._origins[name + behind], seconds * 1_000_000_000 + nanoseconds)

    def _untimed_origin(self, origin: bytes) -> tuple[Any, ...]:
        """Return the fields of :class:`Datagram` behind the payload."""
        return (*self._parsed_origin(origin), None)

    def _parsed_origin(self, origin: bytes) -> tuple[Any, ...]:
        """Return those fields without the kernel time."""
        control = origin[self._receiver.control_start :]
        return (_new_peer(origin[: self._name_size]), *self._fields[control])

    def _parsed_fields(self, control: bytes) -> tuple[Any, ...]:
        return self._parse(parse_control(control))

    def _control_of(self, local: bytes | None) -> _LocalAddressControl | None:
        """Return the block for a local address; None if it has another size than the sender expects."""
        return self._controls_by_local[local] if local else _NO_CONTROL

    def _new_control(self, local: bytes) -> _LocalAddressControl | None:
        control = _LocalAddressControl(self._source(local))
        return control if control.size == self._control_size else None
