"""Batches of datagrams for a UDP socket, received and sent with one system call each (Linux)."""

from __future__ import annotations

import ctypes
import operator
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from netsvc.linux.mmsg import ControlMessages, MessageReceiver, MessageSender, control_block, parse_control
from netsvc.linux.socket_address import ADDRESS_SIZES, pack_address, unpack_address
from netsvc.wire.datagram import Datagram, SocketAddress

#: The most datagrams in a batch.
BATCH_MAX = 64

#: Local addresses whose forms are kept.
MAX_LOCAL_ADDRESSES = 64

#: Peers whose addresses are kept in both forms.
MAX_PEERS = 4_096

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


class DatagramBatches:
    """Receives and sends batches of datagrams.

    :param bound: a socket that does not block.
    :param max_size: bytes of the longest datagram; a longer one is truncated.
    :param control_size: bytes of the control messages of a datagram.
    :param parse: returns the fields of :class:`Datagram` behind the peer, from its control messages.
    :param is_constant: whether datagrams of one peer have the same control messages, mostly.
    :param source: returns the control messages that make a datagram leave from a local address.
    """

    def __init__(
        self,
        bound: socket.socket,
        max_size: int,
        control_size: int,
        parse: Callable[[ControlMessages], tuple[Any, ...]],
        is_constant: bool,
        source: Callable[[bytes], ControlMessages],
    ) -> None:
        self._socket = bound
        self._parse = parse
        self._is_constant = is_constant
        self._source = source
        self._receiver = MessageReceiver(BATCH_MAX, max_size, control_size)
        self._control_size = len(control_block(source(bytes(4 if bound.family == socket.AF_INET else 16))))
        size = min(max_size + REPLY_MARGIN, 65_535)
        self._sender = MessageSender(BATCH_MAX, size, ADDRESS_SIZES[bound.family], self._control_size)
        self._peers: dict[bytes, _Peer] = {}
        self._fields: dict[bytes, tuple[Any, ...]] = {}  # by control messages
        self._controls_by_local: dict[bytes, _LocalAddressControl] = {}  # by local address

    def receive(self, maximum: int) -> list[Datagram]:
        """Return the datagrams that have arrived, at most ``maximum``; an empty list if there is none.

        :raises OSError: if the system fails.
        """
        payloads, names, controls = self._receiver.receive(self._socket.fileno(), maximum)
        if not payloads:
            return []
        if len(payloads) == 1:
            peer = self._peers.get(names[0]) or self._peer(names[0])
            return [
                _NEW_DATAGRAM((payloads[0], peer, *(self._fields.get(controls[0]) or self._fields_of(controls[0]))))
            ]
        # These calls create no frame for a datagram. A loop would take 1 us more for each.
        peers: list[Any] = list(map(self._peers.get, names))
        if None in peers:
            peers = list(map(self._peer, names))
        fields: list[Any] = list(map(self._fields.get, controls))
        if None in fields:
            fields = list(map(self._fields_of, controls))
        return list(map(_NEW_DATAGRAM, map(operator.add, zip(payloads, peers, strict=True), fields)))

    def send(self, datagrams: Sequence[Datagram]) -> list[Datagram]:
        """Send datagrams, at most ``BATCH_MAX``. Return those that were not sent: another call may tell why."""
        payloads = [datagram[0] for datagram in datagrams]
        names = self._names_of(datagrams)
        locals_ = [datagram[2] for datagram in datagrams]
        by_local = {local: self._control_of(local) for local in set(locals_)}  # keeps them until they are sent
        if names is None or not all(control.size in (0, self._control_size) for control in by_local.values()):
            return list(datagrams)
        if len(by_local) == 1:
            controls = [by_local[locals_[0]].address] * len(locals_)
        else:
            controls = [by_local[local].address for local in locals_]
        failed = self._sender.send(self._socket.fileno(), payloads, names, controls)
        return [datagrams[number] for number in failed]

    def _peer(self, name: bytes) -> _Peer:
        known = self._peers.get(name)
        if known is not None:
            return known
        if len(self._peers) >= MAX_PEERS:
            self._peers.clear()
        peer = self._peers[name] = _Peer(unpack_address(name))
        peer.name = name
        return peer

    def _names_of(self, datagrams: Sequence[Datagram]) -> list[bytes] | None:
        """Return the destinations in the system's layout; None if one has none, such as a host name."""
        try:
            return [cast(_Peer, datagram[1]).name for datagram in datagrams]
        except AttributeError:  # one of them is an address that the application has made
            pass
        try:
            return [self._name_of(datagram[1]) for datagram in datagrams]
        except (OSError, ValueError, TypeError, OverflowError, struct.error):
            return None

    def _name_of(self, peer: SocketAddress) -> bytes:
        return peer.name if isinstance(peer, _Peer) else pack_address(self._socket.family, peer)

    def _fields_of(self, control: bytes) -> tuple[Any, ...]:
        known = self._fields.get(control)
        if known is not None:
            return known
        fields = self._parse(parse_control(control))
        if self._is_constant:
            if len(self._fields) >= MAX_LOCAL_ADDRESSES:
                self._fields.clear()
            self._fields[control] = fields
        return fields

    def _control_of(self, local: bytes | None) -> _LocalAddressControl:
        if not local:
            return _NO_CONTROL
        known = self._controls_by_local.get(local)
        if known is not None:
            return known
        if len(self._controls_by_local) >= MAX_LOCAL_ADDRESSES:
            self._controls_by_local.clear()
        control = self._controls_by_local[local] = _LocalAddressControl(self._source(local))
        return control
