"""A simulated network: hosts, each with a reactor, and the links between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import ip_address
from math import inf
from typing import Any, ParamSpec, TypeVar, Unpack

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from netsvc.errors import NetsvcError
from netsvc.testing.diagnosis import LoggedFailures, call_text, known_facts
from netsvc.testing.host_reactor import HostReactor
from netsvc.testing.link import ConditionChanges, Link
from netsvc.testing.stack import BROADCAST, BUFFER, Fabric, HostDownError, Stack, is_ip_address
from netsvc.testing.trace import Trace
from netsvc.testing.trial_tests import run_in_virtual_time

P = ParamSpec("P")
T = TypeVar("T")


#: The outcomes of datagrams that links count.
COUNTED = ("delivered", "lost", "duplicated", "reordered")


class NetworkError(NetsvcError, ValueError):
    """The simulated network has no such thing, or it cannot do this."""


class Host:
    """A host. Create it with :meth:`Network.host`.

    :ivar name: its name, which the other hosts can resolve.
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
        """Whether the host runs."""
        return self._stack.up

    @property
    def reactor(self) -> HostReactor:
        """The reactor of the host. A restart replaces it.

        :raises HostDownError: if the host has crashed.
        """
        if not self._stack.up:
            raise HostDownError(f"the host {self.name!r} has crashed; call restart() before you use its reactor")
        return self._reactor

    def __enter__(self) -> Host:
        """Run a block as code of this host. After :func:`netsvc.testing.install`, the global reactor is its own."""
        self.reactor.active.__enter__()
        self._network._fabric.determinism.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._network._fabric.determinism.__exit__(*exception)
        self._reactor.active.__exit__(*exception)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function as code of this host, and return its result."""
        with self:
            return function(*args, **kwargs)

    def crash(self) -> None:
        """Crash, as in a power failure: all sockets and timers are dropped, and no peer is notified.

        :raises HostDownError: if the host has crashed already.
        """
        if not self._stack.up:
            raise HostDownError(f"the host {self.name!r} has crashed already")
        self._stack.crash()
        self._reactor.power_off()
        self._network.note(self.name, "crashed")

    def restart(self) -> HostReactor:
        """Start the host again, without sockets and timers. Returns its new reactor.

        :raises NetworkError: if the host runs.
        """
        if self._stack.up:
            raise NetworkError(f"the host {self.name!r} runs; call crash() before restart()")
        self._stack.up = True
        self._start()
        self._network.note(self.name, "restarted")
        return self._reactor

    def _start(self) -> None:
        self._reactor = HostReactor(self._stack, self._network.lookup)
        self._network.call_later(0, self._reactor.begin)


class Links:
    """A group of links that are changed together. Get it from :meth:`Network.link`, ``link_from`` or ``links``."""

    def __init__(self, network: Network, ends: Sequence[tuple[str, str]], all_links: bool = False) -> None:
        self._network = network
        self._fabric = network._fabric
        self._ends = ends
        self._all_links = all_links

    def set(self, **conditions: Unpack[ConditionChanges]) -> None:
        """Change conditions from now on. The other conditions stay. See :class:`~netsvc.testing.Conditions`.

        :raises LinkError: for an unknown condition or an impossible value.
        """
        changed = [(link, link.conditions.replace(**conditions)) for link in self._links()]
        if self._all_links:  # those that exist, and those that are created when they are first used
            self._fabric.conditions = self._fabric.conditions.replace(**conditions)
        for link, new in changed:
            link.change(self._network.now, new)
        text = " ".join(f"{name}={_condition_text(value)}" for name, value in conditions.items())
        self._network.note(self._name(), text)

    def partition(self) -> None:
        """Begin a partition: all packets are lost, including those in flight."""
        self.set(up=False)

    def heal(self) -> None:
        """End a partition."""
        self.set(up=True)

    def count(self, outcome: str) -> int:
        """Return how many datagrams were ``delivered``, ``lost``, ``duplicated`` or ``reordered`` so far, in total.

        :raises NetworkError: for any other outcome.
        """
        if outcome not in COUNTED:
            raise NetworkError(f"no outcome is called {outcome!r}; links count {', '.join(COUNTED)}")
        return sum(link.counts[outcome] for link in self._links())

    def _links(self) -> list[Link]:
        return self._fabric.links() if self._all_links else [self._fabric.link(*pair) for pair in self._ends]

    def _name(self) -> str:
        if self._all_links:
            return "all links"
        source, destination = self._ends[0]
        return f"{source} {'->' if len(self._ends) == 1 else '<->'} {destination}"


class Network:
    """A network of hosts and links, with one virtual clock.

    Events run in :meth:`advance`, :meth:`run` and :meth:`settle` only, and never sleep. The same seed and the same
    calls give the same :attr:`trace`, byte for byte. Meanwhile, the module ``random``, ``os.urandom`` and the clocks of
    the module ``time`` follow the seed and the virtual time (:mod:`netsvc.testing.determinism`).

    :param seed: the seed of all random numbers: for loss, jitter, reordering, duplication and splits, and of those that
        the programs use.
    :ivar trace: the history of the network.
    :ivar hosts: the hosts by name.
    """

    def __init__(self, seed: int = 0) -> None:
        if not isinstance(seed, int):
            raise NetworkError(f"the seed must be an integer, not {seed!r}")
        self.seed = seed
        self._fabric = Fabric(seed)
        self._events = self._fabric.events
        self.trace: Trace = self._fabric.trace
        self.hosts: dict[str, Host] = {}
        self._last_number = 0  # of the addresses that hosts have by default
        self._names: dict[str, tuple[Sequence[str], float]] = {"localhost": (("127.0.0.1", "::1"), 0.0)}
        self._threads = threading.enumerate()  # those that are not the network's
        run_in_virtual_time(self.run)

    def __repr__(self) -> str:
        return f"<Network seed={self.seed} at {self.now:g} s: {', '.join(self.hosts) or 'no hosts'}>"

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self._events.now

    def host(self, name: str, *addresses: str, buffer: int = BUFFER, refuses_when_full: bool = False) -> Host:
        """Add a host.

        :param addresses: its addresses; by default an IPv4 address in 10.0.0.0/8 and an IPv6 address in fd00::/8.
        :param buffer: bytes of each socket's send buffer, and of its receive buffer.
        :param refuses_when_full: whether a port with a full backlog refuses connections, as on BSD and Windows. By
            default it does not answer, and the client tries again, as on Linux.
        :raises NetworkError: for a name or an address that is in use or invalid.
        """
        if not name or not isinstance(name, str):
            raise NetworkError(f"the name of a host must be a text that is not empty, not {name!r}")
        if name.lower() in self._names:
            raise NetworkError(f"the name {name!r} is in use already")
        if not isinstance(buffer, int) or buffer < 1:
            raise NetworkError(f"buffer must be a number of bytes, 1 or more: {buffer!r}")
        own_addresses = [_parse_host_address(address) for address in addresses] or self._free_addresses()
        stack = Stack(self._fabric, name, own_addresses, buffer, refuses_when_full)
        try:
            self._fabric.add(stack)
        except ValueError as e:
            raise NetworkError(str(e)) from None
        self._names[name.lower()] = (own_addresses, 0.0)
        host = self.hosts[name] = Host(self, stack)
        return host

    def name(self, name: str, *targets: str, delay: float = 0.0) -> None:
        """Add a name for hosts or addresses, or replace the addresses of an added name.

        :param targets: names of hosts, and addresses, in the order in which a lookup returns them. A lookup of a name
            without targets finds no address.
        :param delay: virtual seconds that a lookup takes.
        :raises NetworkError: for the name of a host, an unknown target or an impossible delay.
        """
        if not isinstance(name, str) or any(name.lower() == host.lower() for host in (*self.hosts, "localhost")):
            raise NetworkError(f"the name {name!r} cannot be changed")
        _check_seconds("delay", delay)
        addresses = [
            address
            for target in targets
            for address in ([target] if is_ip_address(target) else self._host(target).addresses)
        ]
        self._names[name.lower()] = (addresses, delay)

    def lookup(self, name: str) -> tuple[Sequence[str], float]:
        """Return the addresses of a name (none if it is unknown), and the seconds that the lookup takes."""
        return self._names.get(name.lower().rstrip("."), ((), 0.0))

    def link(self, one: str, other: str) -> Links:
        """Return the links between two hosts, in both directions."""
        self._check_pair(one, other)
        return Links(self, [(one, other), (other, one)])

    def link_from(self, source: str, destination: str) -> Links:
        """Return the link from one host to another, in this direction only."""
        self._check_pair(source, destination)
        return Links(self, [(source, destination)])

    def links(self) -> Links:
        """Return all links, including those of hosts that are added later."""
        return Links(self, [], all_links=True)

    def advance(self, seconds: float) -> None:
        """Advance the virtual time by this many seconds, and run all events up to then."""
        _check_seconds("time", seconds)
        self._events.run_until(self._events.now + seconds)

    def settle(self) -> None:
        """Run events until no packet is in flight and no event is scheduled for the present time.

        Timers whose time comes meanwhile are run. It does not wait for later timers, nor for retransmissions.
        """
        events = self._events
        with events.running():
            while events.in_flight or events.has_event_now:
                events.step()

    def call_later(self, seconds: float, call: Callable[..., object], *args: Any) -> None:
        """Schedule a call of the test itself, for example to change a link or to crash a host."""
        _check_seconds("time", seconds)
        self._events.call_at(self._events.now + seconds, call, *args)

    def run(self, awaitable: Deferred[T] | Coroutine[Any, Any, T], timeout: float = 3600.0) -> T:
        """Run events until a Deferred or coroutine has a result. Returns the result, or raises its exception.

        :param timeout: virtual seconds.
        :raises NetworkError: when no event is scheduled any more, or after the timeout. It says what is known: the line
            at which each coroutine waits, failures, hosts that are down, partitions, and what waits in real time.
        """
        results: list[Any] = []
        events = self._events
        deadline = events.now + timeout
        with events.running(), LoggedFailures() as logged:
            deferred = awaitable if isinstance(awaitable, Deferred) else Deferred.fromCoroutine(awaitable)
            deferred.addBoth(results.append)
            while not results:
                next_time = events.next_time()
                if next_time is None:
                    text = f"no event is scheduled any more at {self.now:g} s, and there is no result"
                    raise NetworkError(text + self._known_facts(deferred, logged))
                if next_time > deadline:
                    raise NetworkError(f"there is no result after {timeout:g} s{self._known_facts(deferred, logged)}")
                events.step()
        if isinstance(results[0], Failure):
            _raise(results[0])
        result: T = results[0]
        return result

    def note(self, subject: str, text: str) -> None:
        """Record a remark in the trace.

        :param subject: the host, the link or the test that it is about.
        """
        self.trace.add(self.now, subject, text)

    def _known_facts(self, deferred: Deferred[Any], logged: LoggedFailures) -> str:
        running = [host for host in self.hosts.values() if host.up]
        calls = [(call, host) for host in running for call in host.reactor.getDelayedCalls()]
        calls.sort(key=lambda each: each[0].getTime())
        return known_facts(
            deferred,
            down=[host.name for host in self.hosts.values() if not host.up],
            partitions=self._fabric.partitions(),
            calls=[f"{call_text(call)} on {host.name}" for call, host in calls],
            logged=logged.failures,
            threads=[thread.name for thread in threading.enumerate() if thread not in self._threads],
        )

    def _free_addresses(self) -> list[str]:
        while True:
            self._last_number += 1
            number = self._last_number
            addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", f"fd00::{number:x}"]
            if not any(self._fabric.stack_at(address) for address in addresses):
                return addresses

    def _host(self, name: str) -> Host:
        if name not in self.hosts:
            raise NetworkError(f"no host is called {name!r}; the hosts are {', '.join(self.hosts) or 'none'}")
        return self.hosts[name]

    def _check_pair(self, one: str, other: str) -> None:
        self._host(one)
        self._host(other)
        if one == other:
            raise NetworkError(f"the link from a host to itself is always perfect and cannot be changed: {one!r}")


def _raise(failure: Failure) -> None:
    """Raise the exception of a failure as ``await`` does. Perspective broker has failures that do not raise theirs."""
    waiting = (_ for _ in [None])
    next(waiting)
    failure.throwExceptionIntoGenerator(waiting)


def _check_seconds(name: str, value: float) -> None:
    if not isinstance(value, int | float) or not 0 <= value < inf:
        raise NetworkError(f"{name} must be a number of seconds, 0 or more: {value!r}")


def _parse_host_address(text: str) -> str:
    """Return an address in its canonical form."""
    if not isinstance(text, str) or not is_ip_address(text):
        raise NetworkError(f"not an IPv4 or IPv6 address: {text!r}")
    address = ip_address(text)
    if address.is_unspecified or address.is_multicast or text == BROADCAST:
        raise NetworkError(f"a host cannot have this address: {text!r}")
    return str(address)


def _condition_text(value: object) -> str:
    """Return the text of a condition for the trace. It is the same in every process."""
    return getattr(value, "__name__", None) or (type(value).__name__ if callable(value) else str(value))
