"""The datagram sockets (UDP) of a simulated host."""

from __future__ import annotations

import errno
import socket
from collections import deque
from functools import partial
from ipaddress import ip_address
from typing import Any

from netsvc.testing.link import DATAGRAM_HEADERS, Link
from netsvc.testing.stack import BROADCAST, ERR, IN, OUT, WILDCARD, HostDownError, Socket, Stack, is_multicast, os_error

#: The maximum payload of a datagram, in bytes. The limit of 65,535 bytes includes the IPv4 header, but not the IPv6
#: header.
MAX_PAYLOAD = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}

#: Bytes that each datagram uses in the receive buffer in addition to its payload, so that empty datagrams fill it too.
DATAGRAM_OVERHEAD = 768

_JOIN = {(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP): 4, (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP): 16}
_LEAVE = {(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP): 4, (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP): 16}
_LOOP = ((socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP), (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP))

#: IP_MTU_DISCOVER and IPV6_MTU_DISCOVER of Linux, which the module ``socket`` does not have, and the values that forbid
#: fragments: IP_PMTUDISC_DO and IP_PMTUDISC_PROBE.
_MTU_DISCOVER = ((socket.IPPROTO_IP, 10), (socket.IPPROTO_IPV6, 23))
_DONT_FRAGMENT = (2, 3)


class DatagramSocket(Socket):
    """A UDP socket.

    A connected socket receives datagrams from its peer only. It reports ECONNREFUSED when no socket at the peer's
    address is bound to the peer's port.
    """

    type = socket.SOCK_DGRAM

    def __init__(self, stack: Stack, family: int) -> None:
        super().__init__(stack, family)
        self.peer: tuple[str, int] | None = None
        self.groups: set[str] = set()
        # payload, source, destination address, time of arrival
        self._received: deque[tuple[bytes, tuple[str, int], str, float]] = deque()
        self._buffered_bytes = 0
        self.dropped = 0  # datagrams for which the buffer had no room
        self._routes: dict[str, tuple[Stack, Link, str]] = {}  # by destination address

    def connect(self, address: Any) -> None:
        self.check_open()
        if not 0 <= address[1] <= 65_535:
            raise OverflowError("connect(): port must be 0-65535.")
        host = self.destination(address[0])
        self.stack.route(host)  # it raises an error if this host cannot reach addresses of this IP version
        self.bind_for(host)
        self._routes.clear()  # the source address may be another one now
        self.peer = (host, address[1])

    def send(self, data: bytes) -> int:
        self.check_open()
        self.raise_pending_error()
        if self.peer is None:
            raise os_error(errno.EDESTADDRREQ)
        return self._send(data, *self.peer)

    def sendto(self, data: bytes, address: Any) -> int:
        self.check_open()
        self.raise_pending_error()
        return self._send(data, self.destination(address[0]), address[1])

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        data, source, _, _ = self.receive_with_metadata()
        return data[:size], source

    def receive_with_metadata(self) -> tuple[bytes, Any, str, float]:
        """Return the next datagram: payload, source, destination address, and the time at which it arrived."""
        self.check_open()
        self.raise_pending_error()
        if not self._received:
            raise os_error(errno.EAGAIN)
        data, source, destination, time = self._received.popleft()
        self._buffered_bytes -= len(data) + DATAGRAM_OVERHEAD
        return data, self.as_sockaddr(source), destination, time

    def send_from(self, local: str, data: bytes, address: Any) -> int:
        """Send a datagram from ``local``, an address of this host, whatever address the socket is bound to."""
        self.check_open()
        self.raise_pending_error()
        if not self.stack.is_local(local):
            raise os_error(errno.EINVAL)
        return self._send(data, self.destination(address[0]), address[1], local)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        super().setsockopt(level, option, value)
        for options, change in ((_JOIN, self.groups.add), (_LEAVE, self.groups.discard)):
            length = options.get((level, option))
            if length:
                change(str(ip_address(bytes(value)[:length])))

    def getsockopt(self, level: int, option: int) -> int:
        if (level, option) in _LOOP and (level, option) not in self.options:
            return 1
        return super().getsockopt(level, option)

    def poll(self, interest: int) -> int:
        ready = OUT | IN if self._received else OUT
        return (ready & interest) | (ERR if self.error else 0)

    def matches(self, address: str) -> bool:
        if address == self.local_address[0]:
            return True
        if address == BROADCAST:
            return bool(self.local_address[0] == "0.0.0.0")
        if is_multicast(address):
            return address in self.groups
        return super().matches(address)

    # Sending

    def _send(self, data: bytes, host: str, port: int, local: str | None = None) -> int:
        if self.host_crashed:
            raise HostDownError(f"the host {self.stack.name!r} has crashed, and this port no longer exists")
        if not 0 <= port <= 65_535:
            raise OverflowError("sendto(): port must be 0-65535.")
        if not port:
            raise os_error(errno.EINVAL)
        if not self.is_bound:
            self.bind_for(host)
        if len(data) > MAX_PAYLOAD[socket.AF_INET6 if ":" in host else socket.AF_INET]:
            raise os_error(errno.EMSGSIZE)
        route = self._routes.get(host)
        if route is not None:
            self._send_on(route, data, (host, port), local)
        elif host == BROADCAST:
            if not self.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST):
                raise os_error(errno.EACCES)
            self._send_to_each_host(data, host, port, local)
        elif is_multicast(host):
            self._send_to_each_host(data, host, port, local)
        else:
            route = self._find_route(host)
            if route is not None:
                self._send_on(route, data, (host, port), local)
            else:
                unreachable = partial(self._report, (host, port), errno.EHOSTUNREACH)
                self.stack.send_to_no_host("datagram", self.local_address[1], port, unreachable, data)
        return len(data)

    def _find_route(self, host: str) -> tuple[Stack, Link, str] | None:
        """Return the destination's stack, the link to it, and the source address. Remember them for later datagrams.

        None: no host has the address.
        """
        remote = self.stack.route(host)
        if remote is None:
            return None
        source = self.local_address[0]
        if source in WILDCARD.values():
            source = self.stack.source_address(host)
        route = self._routes[host] = (remote, self.stack.fabric.link(self.stack.name, remote.name), source)
        return route

    def _send_to_each_host(self, data: bytes, host: str, port: int, local: str | None) -> None:
        """Send a broadcast or multicast datagram to each host that has a matching socket."""
        source = self.local_address[0]
        if source in WILDCARD.values():
            source = next((own for own in self.stack.addresses if (":" in own) == (":" in host)), source)
        loop = self.getsockopt(*_LOOP[":" in host])
        for remote in self.stack.fabric.stacks.values():
            if remote is self.stack and not loop:
                continue
            if remote.sockets_for(self.type, host, port):
                link = self.stack.fabric.link(self.stack.name, remote.name)
                self._send_on((remote, link, source), data, (host, port), local)

    def _send_on(
        self, route: tuple[Stack, Link, str], data: bytes, destination: tuple[str, int], local: str | None = None
    ) -> None:
        host, port = destination
        remote, link, source = route
        stack = self.stack
        headers = DATAGRAM_HEADERS + (20 if ":" in host else 0)
        if len(data) + headers > link.conditions.mtu and self._forbids_fragments:
            raise os_error(errno.EMSGSIZE)
        now = stack.events.now
        arrivals, outcome = link.send_datagram(now, len(data), headers)
        ports = f"{self.local_address[1]}>{port}"
        stack.fabric.trace.add(now, stack.name, "datagram", remote.name, ports, data=data, outcome=outcome)
        for arrival in arrivals:
            sender = (local or source, self.local_address[1])
            stack.events.deliver_at(arrival, self._datagram_arrives, data, sender, destination, remote, link)

    @property
    def _forbids_fragments(self) -> bool:
        """Whether datagrams are sent with DF ("don't fragment")."""
        return self.options.get(_MTU_DISCOVER[self.family == socket.AF_INET6]) in _DONT_FRAGMENT

    # Receiving

    def _datagram_arrives(
        self, data: bytes, source: tuple[str, int], destination: tuple[str, int], remote: Stack, link: Link
    ) -> None:
        """Pass a datagram that this socket sent to the sockets at its destination."""
        if not remote.up or not link.carries(self.stack.events.now, self.host_crashed):
            link.counts["delivered"] -= 1
            link.counts["lost"] += 1
            return
        receivers = [
            receiver
            for receiver in remote.sockets_for(self.type, *destination)
            if isinstance(receiver, DatagramSocket) and receiver.peer in (None, source)
        ]
        if not receivers:
            self._answer_port_unreachable(destination, remote)
        elif len(receivers) == 1:
            receivers[0].receive(data, source, destination[0])
        else:
            # A multicast datagram is passed to each member of the group. Any other datagram is passed to one socket,
            # preferably to one that is connected to the source.
            multicast = any(destination[0] in receiver.groups for receiver in receivers)
            receivers.sort(key=lambda receiver: receiver.peer is None)
            for receiver in receivers if multicast else receivers[:1]:
                receiver.receive(data, source, destination[0])

    def receive(self, data: bytes, source: tuple[str, int], destination: str) -> None:
        """Add a datagram to the receive buffer, or drop it if the buffer is full."""
        if self._buffered_bytes + len(data) + DATAGRAM_OVERHEAD > 2 * self.receive_limit:
            trace, now = self.stack.fabric.trace, self.stack.events.now
            ports = f"{source[1]}>{self.local_address[1]}"
            self.dropped += 1
            trace.add(now, self.stack.name, "datagram", ports=ports, data=data, outcome="buffer full")
            return
        self._buffered_bytes += len(data) + DATAGRAM_OVERHEAD
        self._received.append((data, source, destination, self.stack.events.now))
        self.readiness_changed()

    def _answer_port_unreachable(self, destination: tuple[str, int], remote: Stack) -> None:
        """Send an ICMP "port unreachable" back: no socket is bound to the port (RFC 1122, section 3.2.2.1)."""
        if not remote.is_local(destination[0]):
            return  # broadcast and multicast datagrams are never answered
        ports = f"{destination[1]}>{self.local_address[1]}"
        arrival = remote.send_packet(self.stack, "ICMP port unreachable", ports)
        if arrival is not None:
            link = remote.fabric.link(remote.name, self.stack.name)
            remote.events.deliver_at(arrival, self._port_unreachable_arrives, destination, link)

    def _port_unreachable_arrives(self, destination: tuple[str, int], link: Link) -> None:
        if link.conditions.up:
            self._report(destination, errno.ECONNREFUSED)

    def _report(self, destination: tuple[str, int], number: int) -> None:
        """A datagram could not be delivered. Only a socket that is connected to its destination is told."""
        if self.peer == destination and not self.closed and not self.host_crashed:
            self.error = number
            self.readiness_changed()
