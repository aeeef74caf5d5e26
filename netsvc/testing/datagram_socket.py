"""The datagram sockets (UDP) of a simulated host."""

from __future__ import annotations

import errno
import socket
from collections import deque
from functools import partial
from ipaddress import ip_address
from typing import Any, NamedTuple

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


#: The options of a socket that set the fields below: for IPv4 and for IPv6.
_TTL = ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS))
_TRAFFIC_CLASS = ((socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS))


class IpHeader(NamedTuple):
    """The fields of the IP header of a datagram that a receiver can ask for.

    :ivar ttl: the time to live or hop limit. Links have no routers in between, so it arrives as it was sent.
    :ivar traffic_class: DSCP and ECN.
    """

    ttl: int = 64
    traffic_class: int = 0


_USUAL_HEADER = IpHeader()


class ReceivedDatagram(NamedTuple):
    """A datagram in the receive buffer of a socket.

    :ivar wall_time: when it arrived, by the clock of the host.
    """

    data: bytes
    source: tuple[str, int]
    destination: str
    header: IpHeader
    wall_time: float


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
        self._received: deque[ReceivedDatagram] = deque()
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
        received = self.next_datagram()
        return received.data[:size], self.as_sockaddr(received.source)

    def next_datagram(self) -> ReceivedDatagram:
        """Return the next datagram and remove it from the receive buffer."""
        self.check_open()
        self.raise_pending_error()
        if not self._received:
            raise os_error(errno.EAGAIN)
        received = self._received.popleft()
        self._buffered_bytes -= len(received.data) + DATAGRAM_OVERHEAD
        return received

    def send_with(self, local: str | None, traffic_class: int | None, data: bytes, address: Any) -> int:
        """Send a datagram with fields of its own.

        :param local: the address of this host that it leaves from; None for that of the socket.
        :param traffic_class: its DSCP and ECN; None for that of the socket.
        """
        self.check_open()
        self.raise_pending_error()
        if local is not None and not self.stack.is_local(local):
            raise os_error(errno.EINVAL)
        return self._send(data, self.destination(address[0]), address[1], local, traffic_class)

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

    def _send(
        self, data: bytes, host: str, port: int, local: str | None = None, traffic_class: int | None = None
    ) -> int:
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
        header = self._header_for(host, traffic_class)
        route = self._routes.get(host)
        if route is not None:
            self._send_on(route, data, (host, port), local, header)
        elif host == BROADCAST:
            if not self.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST):
                raise os_error(errno.EACCES)
            self._send_to_each_host(data, host, port, local, header)
        elif is_multicast(host):
            self._send_to_each_host(data, host, port, local, header)
        else:
            route = self._find_route(host)
            if route is not None:
                self._send_on(route, data, (host, port), local, header)
            else:
                unreachable = partial(self._report, (host, port), errno.EHOSTUNREACH)
                self.stack.send_to_no_host("datagram", self.local_address[1], port, unreachable, data)
        return len(data)

    def _header_for(self, host: str, traffic_class: int | None) -> IpHeader:
        if not self.options and traffic_class is None:
            return _USUAL_HEADER
        of_ipv6 = ":" in host
        default = self.options.get(_TRAFFIC_CLASS[of_ipv6], 0) if traffic_class is None else traffic_class
        return IpHeader(self.options.get(_TTL[of_ipv6], _USUAL_HEADER.ttl), default)

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

    def _send_to_each_host(self, data: bytes, host: str, port: int, local: str | None, header: IpHeader) -> None:
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
                self._send_on((remote, link, source), data, (host, port), local, header)

    def _send_on(
        self,
        route: tuple[Stack, Link, str],
        data: bytes,
        destination: tuple[str, int],
        local: str | None,
        header: IpHeader,
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
        addresses = (local or source, host)
        trace = stack.fabric.trace
        trace.add(now, stack.name, "datagram", remote.name, ports, data=data, outcome=outcome, addresses=addresses)
        for arrival in arrivals:
            sender = (local or source, self.local_address[1])
            stack.events.deliver_at(arrival, self._datagram_arrives, data, sender, destination, header, remote, link)

    @property
    def _forbids_fragments(self) -> bool:
        """Whether datagrams are sent with DF ("don't fragment")."""
        return self.options.get(_MTU_DISCOVER[self.family == socket.AF_INET6]) in _DONT_FRAGMENT

    # Receiving

    def _datagram_arrives(
        self,
        data: bytes,
        source: tuple[str, int],
        destination: tuple[str, int],
        header: IpHeader,
        remote: Stack,
        link: Link,
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
            receivers[0].receive(data, source, destination[0], header)
        else:
            # A multicast datagram is passed to each member of the group. Any other datagram is passed to one socket,
            # preferably to one that is connected to the source.
            multicast = any(destination[0] in receiver.groups for receiver in receivers)
            receivers.sort(key=lambda receiver: receiver.peer is None)
            for receiver in receivers if multicast else receivers[:1]:
                receiver.receive(data, source, destination[0], header)

    def receive(self, data: bytes, source: tuple[str, int], destination: str, header: IpHeader = _USUAL_HEADER) -> None:
        """Add a datagram to the receive buffer, or drop it if the buffer is full."""
        if self._buffered_bytes + len(data) + DATAGRAM_OVERHEAD > 2 * self.receive_limit:
            trace, now = self.stack.fabric.trace, self.stack.events.now
            ports = f"{source[1]}>{self.local_address[1]}"
            self.dropped += 1
            trace.add(now, self.stack.name, "datagram", ports=ports, data=data, outcome="buffer full")
            return
        self._buffered_bytes += len(data) + DATAGRAM_OVERHEAD
        self._received.append(ReceivedDatagram(data, source, destination, header, self.stack.wall_time()))
        self.readiness_changed()

    def _answer_port_unreachable(self, destination: tuple[str, int], remote: Stack) -> None:
        """Send an ICMP "port unreachable" back: no socket is bound to the port (RFC 1122, section 3.2.2.1)."""
        if not remote.is_local(destination[0]):
            return  # broadcast and multicast datagrams are never answered
        ports = f"{destination[1]}>{self.local_address[1]}"
        addresses = (destination[0], self.local_address[0])
        if addresses[1] in WILDCARD.values():
            addresses = (destination[0], self.stack.source_address(destination[0]))
        arrival = remote.send_packet(self.stack, "ICMP port unreachable", ports, b"", addresses)
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
