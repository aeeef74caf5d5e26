"""Datagram sockets of a simulated host: UDP."""

from __future__ import annotations

import errno
import socket
from collections import deque
from ipaddress import ip_address
from typing import Any

from netsvc.testing.link import DATAGRAM_HEADERS, Link
from netsvc.testing.stack import ANY, BROADCAST, ERR, IN, OUT, HostDownError, Socket, Stack, fail, is_group

#: Payload bytes of the longest datagram: over IPv4 the packet, over IPv6 its payload, is at most 65,535 bytes.
LONGEST = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}

#: Bytes that a datagram takes in the receiver's buffer besides its own, so that empty ones fill it too.
OVERHEAD = 768

_JOIN = {(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP): 4, (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP): 16}
_LEAVE = {(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP): 4, (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP): 16}
_LOOP = ((socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP), (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP))


class DatagramSocket(Socket):
    """A UDP socket. Once connected it takes only what comes from its peer, and hears when nobody listens there."""

    type = socket.SOCK_DGRAM

    def __init__(self, stack: Stack, family: int) -> None:
        super().__init__(stack, family)
        self.peer: tuple[str, int] | None = None
        self.groups: set[str] = set()
        self._received: deque[tuple[bytes, tuple[str, int]]] = deque()
        self._held = 0
        self._reached: dict[str, tuple[Stack, Link, str]] = {}

    def connect(self, address: Any) -> None:
        self._check()
        if not 0 <= address[1] <= 65_535:
            raise OverflowError("connect(): port must be 0-65535.")
        host = self._destination(address[0])
        self.stack.route(host)
        self._bind_for(host)
        self.peer = (host, address[1])

    def send(self, data: bytes) -> int:
        self._check()
        self._take_error()
        if self.peer is None:
            raise fail(errno.EDESTADDRREQ)
        return self._send(data, *self.peer)

    def sendto(self, data: bytes, address: Any) -> int:
        self._check()
        self._take_error()
        return self._send(data, self._destination(address[0]), address[1])

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        self._check()
        self._take_error()
        if not self._received:
            raise fail(errno.EAGAIN)
        data, source = self._received.popleft()
        self._held -= len(data) + OVERHEAD
        return data[:size], self._shown(source)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        super().setsockopt(level, option, value)
        for options, change in ((_JOIN, self.groups.add), (_LEAVE, self.groups.discard)):
            length = options.get((level, option))
            if length:
                change(str(ip_address(bytes(value)[:length])))

    def getsockopt(self, level: int, option: int) -> int:
        if (level, option) in _LOOP and (level, option) not in self._options:
            return 1
        return super().getsockopt(level, option)

    def poll(self, interest: int) -> int:
        ready = OUT | IN if self._received else OUT
        return (ready & interest) | (ERR if self.error else 0)

    def takes(self, address: str) -> bool:
        if address == self.name[0]:
            return True
        if address == BROADCAST:
            return bool(self.name[0] == "0.0.0.0")
        if is_group(address):
            return address in self.groups
        return super().takes(address)

    # Sending

    def _send(self, data: bytes, host: str, port: int) -> int:
        if self.forgotten:
            raise HostDownError(f"the host {self.stack.name!r} has crashed, and this port with it")
        if not 0 <= port <= 65_535:
            raise OverflowError("sendto(): port must be 0-65535.")
        if not port:
            raise fail(errno.EINVAL)
        if not self._bound:
            self._bind_for(host)
        if len(data) > LONGEST[socket.AF_INET6 if ":" in host else socket.AF_INET]:
            raise fail(errno.EMSGSIZE)
        reached = self._reached.get(host)
        if reached is not None:
            self._send_to(data, (host, port), reached)
        elif host == BROADCAST:
            if not self.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST):
                raise fail(errno.EACCES)
            self._send_to_all(data, host, port)
        elif is_group(host):
            self._send_to_all(data, host, port)
        else:
            self._send_to(data, (host, port), self._reach(host))
        return len(data)

    def _reach(self, host: str) -> tuple[Stack, Link, str]:
        """Find who has the address, the link that leads there, and the address that this is sent from."""
        there = self.stack.route(host)
        source = self.name[0]
        if source in ANY.values():
            source = self.stack.source_for(host)
        reached = self._reached[host] = (there, self.stack.fabric.link(self.stack.name, there.name), source)
        return reached

    def _send_to_all(self, data: bytes, host: str, port: int) -> None:
        """Send to every host that has a socket for it: a broadcast, or a group's."""
        source = self.name[0]
        if source in ANY.values():
            source = next((one for one in self.stack.addresses if (":" in one) == (":" in host)), source)
        loop = self.getsockopt(*_LOOP[":" in host])
        for there in self.stack.fabric.stacks.values():
            if there is self.stack and not loop:
                continue
            if there.bound(self.type, host, port):
                self._send_to(data, (host, port), (there, self.stack.fabric.link(self.stack.name, there.name), source))

    def _send_to(self, data: bytes, destination: tuple[str, int], way: tuple[Stack, Link, str]) -> None:
        host, port = destination
        there, link, source = way
        stack = self.stack
        if len(data) + DATAGRAM_HEADERS + (20 if ":" in host else 0) > link.conditions.mtu:
            raise fail(errno.EMSGSIZE)
        now = stack.events.now
        arrivals, fate = link.datagram(now, len(data))
        stack.fabric.trace.add(now, stack.name, "datagram", there.name, f"{self.name[1]}>{port}", data=data, fate=fate)
        for arrival in arrivals:
            stack.events.move(arrival, self._arrive, data, (source, self.name[1]), destination, there, link)

    # Receiving

    def _arrive(
        self, data: bytes, source: tuple[str, int], destination: tuple[str, int], there: Stack, link: Link
    ) -> None:
        """A datagram of this socket arrives."""
        if not there.up or not link.conditions.up:
            link.counts["carried"] -= 1
            link.counts["lost"] += 1
            return
        listening = [
            one
            for one in there.bound(self.type, *destination)
            if isinstance(one, DatagramSocket) and one.peer in (None, source)
        ]
        if not listening:
            self._answer_refused(destination, there)
        elif len(listening) == 1:
            listening[0].take(data, source)
        else:
            # Each member of a group takes it; else one socket does, at best one that is connected to the source.
            group = any(destination[0] in one.groups for one in listening)
            listening.sort(key=lambda one: one.peer is None)
            for one in listening if group else listening[:1]:
                one.take(data, source)

    def take(self, data: bytes, source: tuple[str, int]) -> None:
        """Take one datagram, if there is room for it."""
        if self._held + len(data) + OVERHEAD > 2 * self.receive_limit:
            trace, now = self.stack.fabric.trace, self.stack.events.now
            trace.add(now, self.stack.name, "datagram", ports=f"{source[1]}>{self.name[1]}", data=data, fate="no room")
            return
        self._held += len(data) + OVERHEAD
        self._received.append((data, source))
        self.changed()

    def _answer_refused(self, destination: tuple[str, int], there: Stack) -> None:
        """Nobody has the port: answer by ICMP (RFC 1122, section 3.2.2.1)."""
        if not there.is_local(destination[0]):
            return  # nobody answers a broadcast, or a group
        link = there.fabric.link(there.name, self.stack.name)
        now = there.events.now
        arrival = link.segment(now, 0)
        fate = "lost" if arrival is None else ""
        there.fabric.trace.add(
            now, there.name, "ICMP refused", self.stack.name, f"{destination[1]}>{self.name[1]}", fate=fate
        )
        if arrival is not None:
            there.events.move(arrival, self._refused, destination, link)

    def _refused(self, destination: tuple[str, int], link: Link) -> None:
        if self.peer == destination and not self.closed and not self.forgotten and link.conditions.up:
            self.error = errno.ECONNREFUSED
            self.changed()
