"""The network stack of a simulated host: its addresses, its sockets, and which of them has which port.

It stands where the kernel of a real host stands, and answers as Linux does.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from netsvc.testing.events import Events
from netsvc.testing.link import Conditions, Link
from netsvc.testing.trace import Trace

#: What a socket is ready for, as poll(2) says it.
IN, OUT, ERR, HUP = 1, 4, 8, 16

ANY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
BROADCAST = "255.255.255.255"
MAPPED = "::ffff:"  # before an IPv4 address that an IPv6 socket talks with (RFC 4291)

#: Bytes that a socket holds for sending, and for its reader, unless SO_SNDBUF and SO_RCVBUF say otherwise.
BUFFER = 131_072

#: The least that those can be set to.
SEND_MIN, RECEIVE_MIN = 2_304, 1_152

_FIRST_EPHEMERAL, _LAST_EPHEMERAL = 49_152, 65_535  # RFC 6335, section 6
_FIRST_DESCRIPTOR = 1 << 20  # far from any descriptor that the system gives out


_TEXTS = {number: os.strerror(number) for number in errno.errorcode}


def fail(number: int) -> OSError:
    """Return the error of that number, as a system call raises it."""
    return OSError(number, _TEXTS[number])


class HostDownError(RuntimeError):
    """Something was asked of a host that has crashed."""


class Fabric:
    """How the stacks reach each other: who has which address, and the links between them.

    :param seed: of all chances.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.events = Events()
        self.trace = Trace()
        self.stacks: dict[str, Stack] = {}  # by name
        self.conditions = Conditions()  # of links that nobody has touched
        self._by_address: dict[str, Stack] = {}
        self._links: dict[tuple[str, str], Link] = {}

    def add(self, stack: Stack) -> None:
        """Connect one more stack.

        :raises ValueError: for a name or an address that is taken.
        """
        if stack.name in self.stacks:
            raise ValueError(f"there is a host {stack.name!r} already")
        for address in stack.addresses:
            if address in self._by_address:
                raise ValueError(f"{address} is an address of the host {self._by_address[address].name!r} already")
        self.stacks[stack.name] = stack
        self._by_address.update(dict.fromkeys(stack.addresses, stack))

    def at(self, address: str) -> Stack | None:
        """Return whose address it is."""
        return self._by_address.get(address)

    def link(self, source: str, destination: str) -> Link:
        """Return the link from one host to another, or of a host to itself, which is always perfect."""
        link = self._links.get((source, destination))
        if link is None:
            conditions = Conditions() if source == destination else self.conditions
            link = self._links[source, destination] = Link(f"{self.seed} {source} -> {destination}", conditions)
        return link


class Stack:
    """One host's side of the network.

    :param name: of the host.
    :param addresses: its IPv4 and IPv6 addresses.
    :param buffer: bytes that its sockets hold for sending, and as much for reading.
    :param refuses: whether a port whose backlog is full refuses, as BSD and Windows do, and not leaves unanswered.
    """

    def __init__(self, fabric: Fabric, name: str, addresses: list[str], buffer: int, refuses: bool) -> None:
        self.fabric = fabric
        self.events = fabric.events
        self.name = name
        self.addresses = addresses
        self.buffer = buffer
        self.refuses = refuses
        self.up = True
        self.starts = 1  # how often it was started; what an earlier start knew is forgotten
        self._bound: dict[tuple[int, int], list[Socket]] = {}  # by kind and port
        self.paths: dict[str, Socket] = {}  # UNIX sockets
        self.sockets: dict[int, Socket] = {}  # by descriptor
        self._descriptor = _FIRST_DESCRIPTOR
        # Each host begins elsewhere, as real ones do: netsvc's guard, for one, mistrusts equal ports at both ends.
        self._ephemeral = _FIRST_EPHEMERAL + 1000 * len(fabric.stacks) % 16_000 - 1

    def descriptor(self, opened: Socket) -> int:
        """Give a socket its number."""
        self._descriptor += 1
        self.sockets[self._descriptor] = opened
        return self._descriptor

    def crash(self) -> None:
        """Lose every socket without a word to anybody: the power is gone."""
        self.up = False
        self.starts += 1
        self._bound.clear()
        self.paths.clear()
        self.sockets.clear()

    def is_local(self, address: str) -> bool:
        return address in self.addresses or address == "::1" or address.startswith("127.")

    def source_for(self, destination: str) -> str:
        """Return the address from which ``destination`` is reached."""
        if self.is_local(destination):
            return destination
        for address in self.addresses:
            if (":" in address) == (":" in destination):
                return address
        raise fail(errno.ENETUNREACH)

    def route(self, destination: str) -> Stack:
        """Return whose address ``destination`` is.

        :raises OSError: nobody's, or nobody's who could be reached in its family.
        """
        found = self if self.is_local(destination) else self.fabric.at(destination)
        if found is None:
            raise fail(errno.ENETUNREACH)
        return found

    def take_port(self, taker: Socket, address: str, port: int) -> int:
        """Bind ``taker``; to a free port if ``port`` is 0. Returns the port."""
        if not 0 <= port <= 65_535:
            raise OverflowError("bind(): port must be 0-65535.")
        if address not in ("0.0.0.0", "::") and not self.is_local(address) and not is_group(address):
            raise fail(errno.EADDRNOTAVAIL)
        if port:
            if self._taken(taker, address, port):
                raise fail(errno.EADDRINUSE)
        else:
            port = self._free_port(taker)
        self._bound.setdefault((taker.type, port), []).append(taker)
        return port

    def give_port_back(self, taker: Socket, port: int) -> None:
        bound = self._bound.get((taker.type, port), [])
        if taker in bound:
            bound.remove(taker)
            if not bound:
                del self._bound[taker.type, port]

    def bound(self, kind: int, address: str, port: int) -> list[Socket]:
        """Return the sockets that take what comes for an address and a port, those bound to just that address first."""
        found = [one for one in self._bound.get((kind, port), ()) if one.takes(address)]
        if len(found) > 1:
            found.sort(key=lambda one: one.name[0] in ANY.values())
        return found

    def _free_port(self, taker: Socket) -> int:
        for _ in range(_FIRST_EPHEMERAL, _LAST_EPHEMERAL + 1):
            self._ephemeral += 1
            if self._ephemeral > _LAST_EPHEMERAL:
                self._ephemeral = _FIRST_EPHEMERAL
            if (taker.type, self._ephemeral) not in self._bound:
                return self._ephemeral
        raise fail(errno.EADDRINUSE)

    def _taken(self, taker: Socket, address: str, port: int) -> bool:
        for other in self._bound.get((taker.type, port), ()):
            if taker.shares_port and other.shares_port:
                continue
            if not other.takes(address) and not (address == ANY[taker.family] and taker.would_take(other.name[0])):
                continue
            return True
        return False


class Socket:
    """What every simulated socket has: a number, a name, options, and somebody who wants to know when it is ready.

    It has the methods of ``socket.socket`` that Twisted's transports call.
    """

    type: int = 0

    def __init__(self, stack: Stack, family: int) -> None:
        self.stack = stack
        self.family = family
        self.name: tuple[Any, ...] = (ANY.get(family, ""), 0)  # as bound
        self.error = 0  # SO_ERROR
        self.closed = False
        self.descriptor = stack.descriptor(self)
        self.ready: Callable[[int], object] | None = None  # is told the descriptor, when that may be ready
        self.send_limit = self.receive_limit = stack.buffer
        self._start = stack.starts
        self._bound = False
        self._options: dict[tuple[int, int], int] = {}

    # What Twisted calls

    def fileno(self) -> int:
        return -1 if self.closed else self.descriptor

    def setblocking(self, flag: bool) -> None:
        """Never blocks."""

    def bind(self, address: Any) -> None:
        self._check()
        if self._bound:
            raise fail(errno.EINVAL)
        host = self._host(address[0])
        self.name = (host, 0)
        self.name = (host, self.stack.take_port(self, host, address[1]))
        self._bound = True

    def getsockname(self) -> Any:
        self._check()
        return self._shown(self.name)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self._check()
        if level == socket.SOL_SOCKET and option == socket.SO_SNDBUF:
            self.send_limit = max(value, SEND_MIN)
        elif level == socket.SOL_SOCKET and option == socket.SO_RCVBUF:
            self.receive_limit = max(value, RECEIVE_MIN)
        elif isinstance(value, int):
            self._options[level, option] = value

    def getsockopt(self, level: int, option: int) -> int:
        self._check()
        if level == socket.SOL_SOCKET:
            if option == socket.SO_ERROR:
                number, self.error = self.error, 0
                return number
            if option == socket.SO_SNDBUF:
                return 2 * self.send_limit  # as Linux shows it: with its own overhead
            if option == socket.SO_RCVBUF:
                return 2 * self.receive_limit
        return int(self._options.get((level, option), 0))

    def close(self) -> None:
        if not self.closed:
            if not self.forgotten:  # or else there is nobody any more who could say so
                self._release()
            self.closed = True
            self.ready = None
            self.stack.sockets.pop(self.descriptor, None)

    # What the stack and the reactor ask

    @property
    def forgotten(self) -> bool:
        """Whether its host has lost its power since."""
        return self._start != self.stack.starts

    def poll(self, interest: int) -> int:
        """Return what the socket is ready for, of what is of interest; an error and a hang-up always are."""
        raise NotImplementedError

    def takes(self, address: str) -> bool:
        """Whether it is bound so that it takes what comes for ``address``."""
        return self.name[0] == address or self.would_take(address)

    def would_take(self, address: str) -> bool:
        """Whether a wildcard address that it is bound to includes ``address``."""
        if self.name[0] == "::":
            return ":" in address or not self._options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        return bool(self.name[0] == "0.0.0.0") and ":" not in address

    @property
    def shares_port(self) -> bool:
        return bool(self._options.get((socket.SOL_SOCKET, socket.SO_REUSEPORT)))

    def changed(self) -> None:
        """Something about it has changed, for which somebody may wait."""
        if self.ready is not None:
            self.ready(self.descriptor)

    # The rest is for the kinds of sockets

    def _check(self) -> None:
        if self.closed:
            raise fail(errno.EBADF)

    def _release(self) -> None:
        if self._bound:
            self.stack.give_port_back(self, self.name[1])

    def _take_error(self) -> None:
        if self.error:
            number, self.error = self.error, 0
            raise fail(number)

    def _bind_for(self, destination: str) -> None:
        """Give it an address and a port of its own, if it has none, for talking with ``destination``."""
        host = self.name[0]
        if host == ANY[self.family]:
            host = self.stack.source_for(destination)
        if not self._bound:
            port = self.stack.take_port(self, host, 0)
            self._bound = True
        else:
            port = self.name[1]
        self.name = (host, port)

    def _host(self, host: str) -> str:
        """Return the address that was given, without zone and without the IPv6 form of an IPv4 address."""
        if not host:
            return ANY[self.family]
        host = host.partition("%")[0]
        if host == "<broadcast>":
            return BROADCAST
        try:
            address = ip_address(host)
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        mapped = getattr(address, "ipv4_mapped", None)
        return str(mapped or address)

    def _destination(self, host: str) -> str:
        """Return the address that is reached by an address: a wildcard is this host itself."""
        host = self._host(host)
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)

    def _shown(self, name: tuple[Any, ...]) -> Any:
        """Return a name as this family of sockets shows it."""
        host, port = name
        if self.family == socket.AF_INET6:
            return (host if ":" in host else MAPPED + host, port, 0, 0)
        return (host, port)


def is_group(address: str) -> bool:
    """Whether it is a multicast address (RFC 5771, RFC 4291)."""
    return address.startswith("ff") if ":" in address else 224 <= int(address.partition(".")[0]) < 240
