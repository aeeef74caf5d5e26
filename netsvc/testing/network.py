"""A network in memory: hosts, each with a reactor, and what is between them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from ipaddress import ip_address
from itertools import count
from math import inf
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from netsvc.testing.host_reactor import HostReactor
from netsvc.testing.link import Link
from netsvc.testing.stack import BROADCAST, BUFFER, Fabric, HostDownError, Stack
from netsvc.testing.trace import Trace
from netsvc.wire.address import is_ip

T = TypeVar("T")


#: What links count.
COUNTED = ("carried", "lost", "doubled", "late")


class NetworkError(ValueError):
    """The network has no such thing, or cannot do that."""


class Host:
    """One host. Make it with :meth:`Network.host`.

    :ivar name: which is a name on the network, too.
    :ivar addresses: its IPv4 and IPv6 addresses; the first is ``address``.
    """

    def __init__(self, network: Network, stack: Stack) -> None:
        self.name = stack.name
        self.addresses = tuple(stack.addresses)
        self.address = stack.addresses[0]
        self._network = network
        self._stack = stack
        self._start()

    def __repr__(self) -> str:
        return f"<Host {self.name} {' '.join(self.addresses)}{'' if self._stack.up else ', down'}>"

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self._stack.up

    @property
    def reactor(self) -> HostReactor:
        """Its reactor. After a restart it has a new one."""
        if not self._stack.up:
            raise HostDownError(f"the host {self.name!r} has crashed; restart() it before its reactor is used")
        return self._reactor

    def crash(self) -> None:
        """Cut its power: everything on it is gone at once, and nobody is told."""
        if not self._stack.up:
            raise HostDownError(f"the host {self.name!r} has crashed already")
        self._stack.crash()
        self._reactor.power_off()
        self._network.note(self.name, "crashed")

    def restart(self) -> HostReactor:
        """Start it again, with nothing on it. Returns its new reactor."""
        if self._stack.up:
            raise NetworkError(f"the host {self.name!r} runs; crash() it before it is started again")
        self._stack.up = True
        self._start()
        self._network.note(self.name, "restarted")
        return self._reactor

    def _start(self) -> None:
        self._reactor = HostReactor(self._stack, self._network.lookup)
        self._network.call_later(0, self._reactor.begin)


class Links:
    """Links that are changed together. Get them from :meth:`Network.link`, ``link_from`` or ``links``."""

    def __init__(self, network: Network, ends: Sequence[tuple[str, str]], everywhere: bool = False) -> None:
        self._network = network
        self._fabric = network._fabric
        self._ends = ends
        self._everywhere = everywhere

    def set(self, **conditions: Any) -> None:
        """Change what they are like, from now on; what is not named stays. See :class:`~netsvc.testing.Conditions`.

        :raises LinkError: for a condition that there is not, or a value that it cannot have.
        """
        changed = [(link, link.conditions.but(**conditions)) for link in self._all()]
        if self._everywhere:
            self._fabric.conditions = self._fabric.conditions.but(**conditions)
        for link, new in changed:
            link.conditions = new
        shown = " ".join(f"{name}={_shown(value)}" for name, value in conditions.items())
        self._network.note(self._name(), shown)

    def partition(self) -> None:
        """Lose whatever is sent, and what is under way."""
        self.set(up=False)

    def heal(self) -> None:
        """End a partition."""
        self.set(up=True)

    def count(self, what: str) -> int:
        """Return how many datagrams were ``carried``, ``lost``, ``doubled`` or ``late`` so far, together."""
        if what not in COUNTED:
            raise NetworkError(f"counted is what was {', '.join(COUNTED)}, and not {what!r}")
        return sum(link.counts[what] for link in self._all())

    def _all(self) -> list[Link]:
        ends = self._ends
        if self._everywhere:
            names = list(self._fabric.stacks)
            ends = [(one, other) for one in names for other in names if one != other]
        return [self._fabric.link(*pair) for pair in ends]

    def _name(self) -> str:
        if self._everywhere:
            return "all links"
        source, destination = self._ends[0]
        return f"{source} {'->' if len(self._ends) == 1 else '<->'} {destination}"


class Network:
    """Hosts, the links between them, and one clock that drives all.

    Nothing sleeps, and nothing happens but in :meth:`advance`, :meth:`run` and :meth:`settle`. The same seed and the
    same calls give the same :attr:`trace`, byte for byte.

    :param seed: of every chance: what is lost, late, doubled, and where streams are cut.
    :ivar trace: what happened so far.
    :ivar hosts: by name.
    """

    def __init__(self, seed: int = 0) -> None:
        if not isinstance(seed, int):
            raise NetworkError(f"a seed is a whole number, not {seed!r}")
        self.seed = seed
        self._fabric = Fabric(seed)
        self._events = self._fabric.events
        self.trace: Trace = self._fabric.trace
        self.hosts: dict[str, Host] = {}
        self._names: dict[str, tuple[Sequence[str], float]] = {"localhost": (("127.0.0.1", "::1"), 0.0)}

    def __repr__(self) -> str:
        return f"<Network seed={self.seed} at {self.now:g} s: {', '.join(self.hosts) or 'no hosts'}>"

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self._events.now

    def host(self, name: str, *addresses: str, buffer: int = BUFFER, refuses_when_full: bool = False) -> Host:
        """Add a host.

        :param addresses: its own; by default an IPv4 address in 10.0.0.0/8 and an IPv6 address in fd00::/8.
        :param buffer: bytes that each of its sockets holds for sending, and as many for reading.
        :param refuses_when_full: whether a port whose backlog is full refuses, as on BSD and Windows; or else it does
            not answer, and the client tries again, as on Linux.
        :raises NetworkError: for a name or an address that is taken or is none.
        """
        if not name or not isinstance(name, str):
            raise NetworkError(f"a host has a name, not {name!r}")
        if name.lower() in self._names:
            raise NetworkError(f"the name {name!r} is taken already")
        if not isinstance(buffer, int) or buffer < 1:
            raise NetworkError(f"a buffer holds so many bytes, and at least one, not {buffer!r}")
        chosen = [_address(address) for address in addresses] or self._free_addresses()
        stack = Stack(self._fabric, name, chosen, buffer, refuses_when_full)
        try:
            self._fabric.add(stack)
        except ValueError as e:
            raise NetworkError(str(e)) from None
        self._names[name.lower()] = (chosen, 0.0)
        host = self.hosts[name] = Host(self, stack)
        return host

    def name(self, name: str, *where: str, delay: float = 0.0) -> None:
        """Give hosts or addresses one more name, or a name that is not a host's other addresses.

        :param where: names of hosts, and addresses, in the order in which they are found; none if it has none.
        :param delay: seconds that it takes to look the name up.
        """
        if not isinstance(name, str) or any(name.lower() == host.lower() for host in (*self.hosts, "localhost")):
            raise NetworkError(f"the name {name!r} cannot be given away")
        _seconds("a delay", delay)
        addresses = [address for one in where for address in ([one] if is_ip(one) else self._host(one).addresses)]
        self._names[name.lower()] = (addresses, delay)

    def lookup(self, name: str) -> tuple[Sequence[str], float]:
        """Return the addresses of a name, which may be none, and the seconds that it takes to find them."""
        return self._names.get(name.lower().rstrip("."), ((), 0.0))

    def link(self, one: str, other: str) -> Links:
        """Return the links between two hosts, in both directions."""
        self._pair(one, other)
        return Links(self, [(one, other), (other, one)])

    def link_from(self, source: str, destination: str) -> Links:
        """Return the link in one direction."""
        self._pair(source, destination)
        return Links(self, [(source, destination)])

    def links(self) -> Links:
        """Return all links, including those of hosts that are added later."""
        return Links(self, [], everywhere=True)

    def advance(self, seconds: float) -> None:
        """Let everything happen that is due within so many seconds."""
        _seconds("time", seconds)
        self._events.run_until(self._events.now + seconds)

    def settle(self) -> None:
        """Let everything arrive that is under way, and everything happen that follows at once.

        Timers that are due meanwhile are called; those that are due later are not waited for, and what was lost and is
        to be sent again later is not, either.
        """
        events = self._events
        with events.driven():
            while events.moving or events.due_now:
                events.step()

    def call_later(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        """Call in so many seconds, on no host: to let a test change a link, or a host, meanwhile."""
        _seconds("time", seconds)
        self._events.wait(self._events.now + seconds, call, *args)

    def run(self, what: Deferred[T] | Coroutine[Any, Any, T], timeout: float = 3600.0) -> T:
        """Let everything happen until ``what`` has a result, and return it, or raise its exception.

        :param what: a Deferred, or a coroutine that awaits some.
        :param timeout: seconds of virtual time.
        :raises NetworkError: when nothing is left that could happen, or the time is over.
        """
        awaited = what if isinstance(what, Deferred) else Deferred.fromCoroutine(what)
        results: list[Any] = []
        awaited.addBoth(results.append)
        events = self._events
        deadline = events.now + timeout
        with events.driven():
            while not results:
                due = events.due()
                if due is None:
                    raise NetworkError(f"nothing is left that could happen at {self.now:g} s, and there is no result")
                if due > deadline:
                    raise NetworkError(f"there is no result after {timeout:g} s")
                events.step()
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: T = results[0]
        return result

    def note(self, who: str, what: str) -> None:
        """Write into the trace what happened to a host or a link, or what a test did."""
        self.trace.add(self.now, who, what)

    def _free_addresses(self) -> list[str]:
        for number in count(1):
            chosen = [f"10.0.{number >> 8}.{number & 255}", f"fd00::{number:x}"]
            if not any(self._fabric.at(address) for address in chosen):
                return chosen
        raise AssertionError

    def _host(self, name: str) -> Host:
        if name not in self.hosts:
            raise NetworkError(f"no host is called {name!r}; there are {', '.join(self.hosts) or 'none'}")
        return self.hosts[name]

    def _pair(self, one: str, other: str) -> None:
        self._host(one)
        self._host(other)
        if one == other:
            raise NetworkError(f"a host's way to itself is always perfect: {one!r}")


def _seconds(what: str, value: float) -> None:
    if not isinstance(value, int | float) or not 0 <= value < inf:
        raise NetworkError(f"{what} is in seconds, and 0 or more: {value!r}")


def _address(text: str) -> str:
    """Return an address as it is written as a rule."""
    if not isinstance(text, str) or not is_ip(text):
        raise NetworkError(f"not an IPv4 or IPv6 address: {text!r}")
    address = ip_address(text)
    if address.is_unspecified or address.is_multicast or text == BROADCAST:
        raise NetworkError(f"not an address that a host can have: {text!r}")
    return str(address)


def _shown(value: object) -> str:
    """Show a condition so that it looks the same each time."""
    return getattr(value, "__name__", None) or (type(value).__name__ if callable(value) else str(value))
