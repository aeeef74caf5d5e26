"""The network stack of a simulated host: its addresses, its sockets and their ports.

It takes the place of the kernel of a real host, and behaves as Linux does.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from itertools import combinations
from typing import Any

from netsvc.errors import NetsvcError
from netsvc.testing.determinism import Determinism
from netsvc.testing.events import EventQueue
from netsvc.testing.host_clock import HostClock
from netsvc.testing.link import Conditions, Link
from netsvc.testing.running_host import running_reactor
from netsvc.testing.trace import Trace

#: The readiness of a socket, with the values of poll(2).
IN, OUT, ERR, HUP = 1, 4, 8, 16

WILDCARD: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
BROADCAST = "255.255.255.255"
MAPPED = "::ffff:"  # the prefix of an IPv4 address on an IPv6 socket (RFC 4291)

#: Bytes of a socket's send buffer, and of its receive buffer, unless SO_SNDBUF and SO_RCVBUF are set.
BUFFER = 131_072

#: The minimum of SO_SNDBUF and of SO_RCVBUF.
SEND_BUFFER_MIN, RECEIVE_BUFFER_MIN = 2_304, 1_152

#: Seconds after which a router answers that it cannot find a host: three ARP requests, one a second. Linux:
#: mcast_solicit and retrans_time_ms.
HOST_UNREACHABLE_DELAY = 3.0

_FIRST_EPHEMERAL, _LAST_EPHEMERAL = 49_152, 65_535  # RFC 6335, section 6
_FIRST_DESCRIPTOR = 1 << 20  # far above every real descriptor of this process


_TEXTS = {number: os.strerror(number) for number in errno.errorcode}


def os_error(number: int) -> OSError:
    """Return the exception that a system call raises for an errno."""
    return OSError(number, _TEXTS[number])


class HostDownError(NetsvcError, RuntimeError):
    """The host has crashed, so it cannot do this."""


class Fabric:
    """The connection between the stacks: the owner of each address, and the links.

    :param seed: the seed of all random numbers.
    :param payloads: whether the trace keeps the payloads of packets.
    """

    def __init__(self, seed: int, payloads: bool) -> None:
        self.seed = seed
        self.events = EventQueue()
        self.determinism = self.events.surroundings = Determinism(seed, self._wall_time, self._monotonic_time)
        self.trace = Trace(payloads)
        self.stacks: dict[str, Stack] = {}  # by name
        self.conditions = Conditions()  # of links that are created later, when they are first used or changed
        #: The regions of hosts with the latencies between these, the latest first.
        self.regions: list[tuple[dict[str, str], dict[tuple[str, str], float]]] = []
        self._by_address: dict[str, Stack] = {}
        self._links: dict[tuple[str, str], Link] = {}

    def _wall_time(self) -> float:
        """Return the wall time of the host whose code runs; outside of hosts, the virtual time."""
        running = running_reactor()
        return self.events.now if running is None else float(running.stack.wall_time())

    def _monotonic_time(self) -> float:
        running = running_reactor()
        return self.events.now if running is None else float(running.stack.monotonic_time())

    def add(self, stack: Stack) -> None:
        """Add a stack.

        :raises ValueError: if its name or one of its addresses is in use.
        """
        if stack.name in self.stacks:
            raise ValueError(f"a host {stack.name!r} exists already")
        for address in stack.addresses:
            if address in self._by_address:
                raise ValueError(f"the host {self._by_address[address].name!r} has the address {address} already")
        self.stacks[stack.name] = stack
        self._by_address.update(dict.fromkeys(stack.addresses, stack))

    def stack_at(self, address: str) -> Stack | None:
        """Return the stack that has an address."""
        return self._by_address.get(address)

    def link(self, source: str, destination: str) -> Link:
        """Return the link from one host to another. The link from a host to itself is always perfect."""
        link = self._links.get((source, destination))
        if link is None:
            conditions = Conditions() if source == destination else self.conditions
            latency = self._latency(source, destination)
            if latency is not None:
                conditions = conditions.replace(latency=latency)
            link = self._links[source, destination] = Link(f"{self.seed} {source} -> {destination}", conditions)
        return link

    def place(self, region_of: dict[str, str], latencies: dict[tuple[str, str], float]) -> None:
        """Set the latencies between hosts by their regions, of the links that exist and of later ones."""
        self.regions.insert(0, (region_of, latencies))
        for (source, destination), link in self._links.items():
            latency = self._latency(source, destination)
            if latency is not None:
                link.change(self.events.now, link.conditions_set.replace(latency=latency))

    def _latency(self, source: str, destination: str) -> float | None:
        """Return the latency by the regions of two hosts; None if it does not follow from them."""
        if source != destination:
            for region_of, latencies in self.regions:
                latency = latencies.get((region_of.get(source, ""), region_of.get(destination, "")))
                if latency is not None:
                    return latency
        return None

    def held(self) -> list[str]:
        """Return the names of the links that keep their packets."""
        return [f"{ends[0]} -> {ends[1]}" for ends, link in self._links.items() if link.conditions.held]

    def partitions(self) -> list[str]:
        """Return the names of the links that are in a partition."""
        if self.conditions.up and all(link.conditions.up for link in self.links()):
            return []
        pairs = [(pair, self._is_up(*pair), self._is_up(*reversed(pair))) for pair in combinations(self.stacks, 2)]
        if not self.conditions.up and not any(there or back for _, there, back in pairs):
            return ["all links"]
        return [
            f"{one} <-> {other}" if there == back else f"{other} -> {one}" if there else f"{one} -> {other}"
            for (one, other), there, back in pairs
            if not (there and back)
        ]

    def _is_up(self, source: str, destination: str) -> bool:
        link = self._links.get((source, destination))
        return (self.conditions if link is None else link.conditions).up

    def clear_queues_of(self, source: str) -> None:
        """A host crashes: what has not left the queues of its links is lost."""
        for ends, link in self._links.items():
            if ends[0] == source:
                link.clear_queue(self.events.now)

    def links(self) -> list[Link]:
        """Return the links between two hosts that have been used or changed. The others have :attr:`conditions`."""
        return [link for (source, destination), link in self._links.items() if source != destination]


class Stack:
    """The network stack of one host.

    :param name: the name of the host.
    :param addresses: its IPv4 and IPv6 addresses.
    :param buffer: bytes of each socket's send buffer, and of its receive buffer.
    :param refuses: whether a port with a full backlog refuses connections, as on BSD and Windows. Otherwise it does not
        answer, as on Linux.
    """

    def __init__(self, fabric: Fabric, name: str, addresses: list[str], buffer: int, refuses: bool) -> None:
        self.fabric = fabric
        self.events = fabric.events
        self.name = name
        self.addresses = addresses
        self.buffer = buffer
        self.refuses = refuses
        self.up = True
        self.clock: HostClock | None = None  # unless it was changed, that of the network
        self.callback_cost = 0.0
        self.boot_count = 1  # sockets, timers and reactors with an earlier count no longer exist
        self._bound: dict[tuple[int, int], list[Socket]] = {}  # by socket type and port
        self.paths: dict[str, Socket] = {}  # UNIX sockets
        self.sockets: dict[int, Socket] = {}  # by descriptor
        self._last_descriptor = _FIRST_DESCRIPTOR
        # The range of ephemeral ports begins at a different port on each host, as on real hosts. netsvc's datagram
        # guard, for example, refuses datagrams whose two ports are equal.
        self._last_ephemeral = _FIRST_EPHEMERAL + 1000 * len(fabric.stacks) % 16_000 - 1

    def new_descriptor(self, opened: Socket) -> int:
        """Assign a descriptor to a socket."""
        self._last_descriptor += 1
        self.sockets[self._last_descriptor] = opened
        return self._last_descriptor

    def wall_time(self) -> float:
        """Return what the wall clock of the host tells."""
        return self.events.now if self.clock is None else self.clock.wall(self.events.now)

    def monotonic_time(self) -> float:
        """Return what its monotonic clock tells."""
        return self.events.now if self.clock is None else self.clock.monotonic(self.events.now)

    def crash(self) -> None:
        """Drop every socket and send nothing, as in a power failure."""
        self.up = False
        self.boot_count += 1
        self.fabric.clear_queues_of(self.name)
        self._bound.clear()
        self.paths.clear()
        self.sockets.clear()

    def is_local(self, address: str) -> bool:
        return address in self.addresses or address == "::1" or address.startswith("127.")

    def source_address(self, destination: str) -> str:
        """Return the source address of packets to ``destination``."""
        if self.is_local(destination):
            return destination
        for address in self.addresses:
            if (":" in address) == (":" in destination):
                return address
        raise os_error(errno.ENETUNREACH)

    def route(self, destination: str) -> Stack | None:
        """Return the stack that has the address ``destination``. None: no host has it, see :meth:`send_to_no_host`.

        :raises OSError: if this host has no address of the same IP version.
        """
        if self.is_local(destination):
            return self
        self.source_address(destination)
        return self.fabric.stack_at(destination)

    def send_packet(
        self,
        remote: Stack,
        kind: str,
        ports: str,
        data: bytes = b"",
        addresses: tuple[str, str] = ("", ""),
        offset: int = 0,
    ) -> float | None:
        """Send a packet of a stream, or of ICMP, and record it. Returns its arrival time, or None if it is lost."""
        now = self.events.now
        arrival = self.fabric.link(self.name, remote.name).send_segment(now, len(data))
        outcome = "lost" if arrival is None else ""
        trace = self.fabric.trace
        trace.add(
            now, self.name, kind, remote.name, ports, data=data, outcome=outcome, addresses=addresses, offset=offset
        )
        return arrival

    def send_to_no_host(
        self, kind: str, local_port: int, port: int, unreachable: Callable[[], object], data: bytes = b""
    ) -> None:
        """Send a packet to an address that no host has.

        The last router searches the host, and then answers "host unreachable" (RFC 1812, section 5.2.7.1).

        :param unreachable: called when this answer arrives.
        """
        now, ports = self.events.now, f"{local_port}>{port}"
        self.fabric.trace.add(now, self.name, kind, "", ports, data=data, outcome="no host has the address")
        answer = f"{port}>{local_port}"
        self.events.call_at(now + HOST_UNREACHABLE_DELAY, self._host_unreachable_arrives, answer, unreachable)

    def _host_unreachable_arrives(self, ports: str, unreachable: Callable[[], object]) -> None:
        self.fabric.trace.add(self.events.now, "(router)", "ICMP host unreachable", self.name, ports)
        unreachable()

    def bind_port(self, owner: Socket, address: str, port: int) -> int:
        """Bind a socket to an address and a port, or to a free port if ``port`` is 0. Returns the port."""
        if not 0 <= port <= 65_535:
            raise OverflowError("bind(): port must be 0-65535.")
        if address not in ("0.0.0.0", "::") and not self.is_local(address) and not is_multicast(address):
            raise os_error(errno.EADDRNOTAVAIL)
        if port:
            if self._is_in_use(owner, address, port):
                raise os_error(errno.EADDRINUSE)
        else:
            port = self._free_port(owner)
        self._bound.setdefault((owner.type, port), []).append(owner)
        return port

    def release_port(self, owner: Socket, port: int) -> None:
        bound = self._bound.get((owner.type, port), [])
        if owner in bound:
            bound.remove(owner)
            if not bound:
                del self._bound[owner.type, port]

    def sockets_for(self, kind: int, address: str, port: int) -> list[Socket]:
        """Return the sockets that receive packets to an address and port; those bound to this very address first."""
        found = [bound for bound in self._bound.get((kind, port), ()) if bound.matches(address)]
        if len(found) > 1:
            found.sort(key=lambda bound: bound.local_address[0] in WILDCARD.values())
        return found

    def _free_port(self, owner: Socket) -> int:
        for _ in range(_FIRST_EPHEMERAL, _LAST_EPHEMERAL + 1):
            self._last_ephemeral += 1
            if self._last_ephemeral > _LAST_EPHEMERAL:
                self._last_ephemeral = _FIRST_EPHEMERAL
            if (owner.type, self._last_ephemeral) not in self._bound:
                return self._last_ephemeral
        raise os_error(errno.EADDRINUSE)

    def _is_in_use(self, owner: Socket, address: str, port: int) -> bool:
        for other in self._bound.get((owner.type, port), ()):
            if owner.shares_port and other.shares_port:
                continue
            covers_other = address == WILDCARD[owner.family] and owner.wildcard_matches(other.local_address[0])
            if other.matches(address) or covers_other:
                return True
        return False


class Socket:
    """The base of all simulated sockets: a descriptor, a local address, options, and a callback for readiness.

    It has the methods of ``socket.socket`` that Twisted's transports call.
    """

    type: int = 0

    def __init__(self, stack: Stack, family: int) -> None:
        self.stack = stack
        self.family = family
        self.local_address: tuple[Any, ...] = (WILDCARD.get(family, ""), 0)  # host and port, or the path
        self.error = 0  # SO_ERROR
        self.closed = False
        self.descriptor = stack.new_descriptor(self)
        self.on_readiness: Callable[[int], object] | None = None  # called with the descriptor
        self.send_limit = self.receive_limit = stack.buffer
        self.boot = stack.boot_count
        self.is_bound = False
        self.options: dict[tuple[int, int], int] = {}

    # The methods that Twisted calls

    def fileno(self) -> int:
        return -1 if self.closed else self.descriptor

    def setblocking(self, flag: bool) -> None:
        """Ignored: a simulated socket never blocks."""

    def bind(self, address: Any) -> None:
        self.check_open()
        if self.is_bound:
            raise os_error(errno.EINVAL)
        host = self._parse_host(address[0])
        self.local_address = (host, 0)
        self.local_address = (host, self.stack.bind_port(self, host, address[1]))
        self.is_bound = True

    def getsockname(self) -> Any:
        self.check_open()
        return self.as_sockaddr(self.local_address)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self.check_open()
        if level == socket.SOL_SOCKET and option == socket.SO_SNDBUF:
            self.send_limit = max(value, SEND_BUFFER_MIN)
        elif level == socket.SOL_SOCKET and option == socket.SO_RCVBUF:
            self.receive_limit = max(value, RECEIVE_BUFFER_MIN)
        elif isinstance(value, int):
            self.options[level, option] = value

    def getsockopt(self, level: int, option: int) -> int:
        self.check_open()
        if level == socket.SOL_SOCKET:
            if option == socket.SO_ERROR:
                number, self.error = self.error, 0
                return number
            if option == socket.SO_SNDBUF:
                return 2 * self.send_limit  # Linux adds its own overhead
            if option == socket.SO_RCVBUF:
                return 2 * self.receive_limit
        return int(self.options.get((level, option), 0))

    def close(self) -> None:
        if not self.closed:
            if not self.host_crashed:  # a crashed host sends no FIN or RST
                self._release()
            self.closed = True
            self.on_readiness = None
            self.stack.sockets.pop(self.descriptor, None)

    # The methods that the stack and the reactor call

    @property
    def host_crashed(self) -> bool:
        """Whether the host has crashed since the socket was created."""
        return self.boot != self.stack.boot_count

    def poll(self, interest: int) -> int:
        """Return the readiness of the socket, limited to ``interest``. ERR and HUP are always reported."""
        raise NotImplementedError

    def matches(self, address: str) -> bool:
        """Whether the socket receives packets to ``address``."""
        return self.local_address[0] == address or self.wildcard_matches(address)

    def wildcard_matches(self, address: str) -> bool:
        """Whether the socket is bound to a wildcard address that includes ``address``."""
        if self.local_address[0] == "::":
            return ":" in address or not self.options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        return bool(self.local_address[0] == "0.0.0.0") and ":" not in address

    @property
    def shares_port(self) -> bool:
        return bool(self.options.get((socket.SOL_SOCKET, socket.SO_REUSEPORT)))

    def readiness_changed(self) -> None:
        """Tell the reactor that the readiness may have changed."""
        if self.on_readiness is not None:
            self.on_readiness(self.descriptor)

    # The methods that subclasses use

    def check_open(self) -> None:
        if self.closed:
            raise os_error(errno.EBADF)

    def _release(self) -> None:
        if self.is_bound:
            self.stack.release_port(self, self.local_address[1])

    def raise_pending_error(self) -> None:
        if self.error:
            number, self.error = self.error, 0
            raise os_error(number)

    def bind_for(self, destination: str) -> None:
        """Choose the local address, and a port if there is none, for sending to ``destination``."""
        host = self.local_address[0]
        if host == WILDCARD[self.family]:
            host = self.stack.source_address(destination)
        if not self.is_bound:
            port = self.stack.bind_port(self, host, 0)
            self.is_bound = True
        else:
            port = self.local_address[1]
        self.local_address = (host, port)

    def _parse_host(self, host: str) -> str:
        """Return an address without its zone. An IPv4-mapped IPv6 address becomes an IPv4 address."""
        if not host:
            return WILDCARD[self.family]
        host = host.partition("%")[0]
        if host == "<broadcast>":
            return BROADCAST
        try:
            return _canonical_address(host)
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None

    def destination(self, host: str) -> str:
        """Return the destination address that ``host`` stands for. A wildcard address stands for this host."""
        host = self._parse_host(host)
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)

    def as_sockaddr(self, address: tuple[Any, ...]) -> Any:
        """Return an address in the format of this address family."""
        host, port = address
        if self.family == socket.AF_INET6:
            return (host if ":" in host else MAPPED + host, port, 0, 0)
        return (host, port)


@lru_cache(maxsize=4_096)
def _canonical_address(text: str) -> str:
    """Return an address in its canonical form; that of an IPv4-mapped IPv6 address is IPv4.

    :raises ValueError: if it is not an address.
    """
    address = ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def is_multicast(address: str) -> bool:
    """Whether it is a multicast address (RFC 5771, RFC 4291)."""
    return address.startswith("ff") if ":" in address else 224 <= int(address.partition(".")[0]) < 240


def is_ip_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address. An IPv6 address may have a zone such as ``%eth0``."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
