"""A simulated network: hosts, each with a reactor, and the links between them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import combinations
from math import inf, isfinite
from typing import Any, ParamSpec, TypeVar, Unpack

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from netsvc.errors import NetsvcError
from netsvc.testing.diagnosis import LoggedFailures, call_text, known_facts
from netsvc.testing.host_clock import HostClock
from netsvc.testing.host_reactor import HostReactor
from netsvc.testing.link import Bottleneck, ConditionChanges, Link
from netsvc.testing.stack import BROADCAST, BUFFER, Fabric, HostDownError, Stack, is_ip_address
from netsvc.testing.trace import Trace
from netsvc.testing.trial_tests import run_in_virtual_time

P = ParamSpec("P")
T = TypeVar("T")


#: The outcomes of datagrams that links count.
COUNTED = ("delivered", "lost", "duplicated", "reordered")


class NetworkError(NetsvcError, ValueError):
    """The simulated network has no such thing, or it cannot do this."""


class NoResultError(NetworkError):
    """A run has no result: no event is scheduled any more, or its time is over. The message says what is known."""


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
        self._starts: list[Callable[[HostReactor], object]] = []
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
        for start in self._starts:
            self.run(start, self._reactor)
        return self._reactor

    def on_start(self, start: Callable[[HostReactor], object]) -> None:
        """Call a function with the reactor of the host now, and with the new one at each restart.

        It starts the services of the host. The function runs as code of the host.
        """
        self._starts.append(start)
        self.run(start, self.reactor)

    def pause(self, seconds: float) -> None:
        """Run no code of the host for these virtual seconds, as after SIGSTOP or during a garbage collection.

        Its kernel goes on: packets arrive, buffers fill and overflow, connections are established. Afterwards the
        delayed calls that became due run first, as in Twisted's reactors, and then what has arrived is read.
        A second pause begins when the first one ends.

        :raises HostDownError: if the host has crashed.
        """
        _check_seconds("pause", seconds)
        self.reactor.pause(seconds)
        self._network.note(self.name, f"paused for {seconds:g} s")

    def cost(self, seconds: float) -> None:
        """Let each callback of the host take virtual time from now on: a slow processor.

        A callback is a delayed call, or one event of one socket. The time passes after it. Meanwhile no other code of
        the host runs.
        """
        _check_seconds("cost", seconds)
        self._stack.callback_cost = float(seconds)
        self._network.note(self.name, f"cost={seconds:g}")

    def clock(self, *, skew: float | None = None, drift: float | None = None) -> None:
        """Set the clock of the host, or let it run too fast or too slow from now on.

        ``time.time`` and ``reactor.seconds`` follow it, and so do delayed calls: if the clock is set forward by an
        hour, the calls of the next hour are due, as on Twisted's reactors, whose time is ``time.time``. The time of
        ``time.monotonic`` drifts, and does not jump.

        :param skew: seconds by which the clock is ahead of the virtual time from now on. By default it is not set.
        :param drift: seconds that it gains in a second from now on, such as ``100e-6``. By default the rate stays.
        """
        if skew is not None and not (_is_finite(skew)):
            raise NetworkError(f"skew must be a number of seconds: {skew!r}")
        if drift is not None and not (_is_finite(drift) and -1 < drift <= 1):
            raise NetworkError(f"drift must be more than -1 and at most 1: {drift!r}")
        stack = self._stack
        if stack.clock is None:
            stack.clock = HostClock()
        stack.clock.change(self._network.now, skew=skew, drift=drift)
        self._reactor.clock_changed()
        changes = {"skew": skew, "drift": drift}
        text = " ".join(f"{name}={value:g}" for name, value in changes.items() if value is not None)
        self._network.note(self.name, f"clock {text}")

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
        changed = [(link, link.conditions_set.replace(**conditions)) for link in self._links()]
        if self._all_links:  # those that exist, and those that are created when they are first used
            self._fabric.conditions = self._fabric.conditions.replace(**conditions)
            if "latency" in conditions:
                self._fabric.regions.clear()
        for link, new in changed:
            link.change(self._network.now, new)
            if not new.held:
                self._network._events.release(link.kept)
        text = " ".join(f"{name}={_condition_text(value)}" for name, value in conditions.items())
        self._network.note(self._name(), text)

    def partition(self) -> None:
        """Begin a partition: all packets are lost, including those in flight."""
        self.set(up=False)

    def heal(self) -> None:
        """End a partition."""
        self.set(up=True)

    def cut(self, seconds: float) -> None:
        """Begin a partition by a fault, which ends by itself. It hides one of :meth:`partition`, and heals none."""
        for link in self._links():
            link.cut(self._network.now, 1)
        self._network.note(self._name(), "up=False")
        self._network.call_later(seconds, self._end_cut)

    def _end_cut(self) -> None:
        links = list(self._links())
        for link in links:
            link.cut(self._network.now, -1)
        if not any(link.cuts for link in links):
            self._network.note(self._name(), "up=True")

    def hold(self) -> None:
        """Keep all packets that are sent from now on, until :meth:`release`. Those in flight arrive."""
        self.set(held=True)

    def release(self) -> None:
        """Let the packets that were kept arrive now, or after the latency of the link, in their order."""
        self.set(held=False)

    def flap(self, down: float, up: float, times: int) -> None:
        """Begin a partition now and heal it after ``down`` seconds; ``up`` seconds later again, ``times`` times.

        :raises NetworkError: for impossible numbers.
        """
        _check_seconds("down", down)
        _check_seconds("up", up)
        if not isinstance(times, int) or times < 1:
            raise NetworkError(f"times must be a number, 1 or more: {times!r}")
        for number in range(times):
            begin = number * (down + up)
            self._network.call_later(begin, self.partition)
            self._network.call_later(begin + down, self.heal)

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
        more = f" and {len(self._ends) // 2 - 1} more" if len(self._ends) > 2 else ""
        return f"{source} {'->' if len(self._ends) == 1 else '<->'} {destination}{more}"


class Network:
    """A network of hosts and links, with one virtual clock.

    Events run in :meth:`advance`, :meth:`run` and :meth:`settle` only, and never sleep. The same seed and the same
    calls give the same :attr:`trace`, byte for byte. Meanwhile, the module ``random``, ``os.urandom`` and the clocks of
    the module ``time`` follow the seed and the virtual time (:mod:`netsvc.testing.determinism`).

    :param seed: the seed of all random numbers: for loss, jitter, reordering, duplication and splits, and of those that
        the programs use.
    :param payloads: whether the trace keeps the payloads of packets; else 24 bytes of each.
    :ivar trace: the history of the network.
    :ivar hosts: the hosts by name.
    """

    def __init__(self, seed: int = 0, *, payloads: bool = False) -> None:
        if not isinstance(seed, int):
            raise NetworkError(f"the seed must be an integer, not {seed!r}")
        self.seed = seed
        self._fabric = Fabric(seed, payloads)
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

    def between(self, *groups: Iterable[str]) -> Links:
        """Return the links between hosts of different groups, in both directions. Those within a group are left out.

        :param groups: two or more groups of names of hosts.
        :raises NetworkError: for an unknown host, a host in two groups, or fewer than two groups.
        """
        members = [self._members(group) for group in groups]
        if len(members) < 2 or not all(members):
            raise NetworkError("two or more groups of hosts are needed, and none may be empty")
        names = [name for group in members for name in group]
        twice = next((name for name, number in Counter(names).items() if number > 1), None)
        if twice is not None:
            raise NetworkError(f"the host {twice!r} is in two groups")
        return Links(
            self,
            [
                pair
                for one, other in combinations(members, 2)
                for source in one
                for destination in other
                for pair in ((source, destination), (destination, source))
            ],
        )

    def partition(self, *groups: Iterable[str]) -> Links:
        """Begin a partition between groups of hosts, and return the links between them, whose ``heal`` ends it."""
        links = self.between(*groups)
        links.partition()
        return links

    def regions(self, members: Mapping[str, Iterable[str]], latencies: Mapping[tuple[str, str], float]) -> None:
        """Place hosts in regions, and set the latencies of the links between them from now on.

        :param members: the names of the hosts of each region.
        :param latencies: seconds in one direction, by two regions in any order. Two times the same region stands for
            the links within it; if it is missing, these are left as they are.
        :raises NetworkError: for an unknown host or region, a host in two regions, a missing or an impossible latency.
        """
        region_of: dict[str, str] = {}
        for region, hosts in members.items():
            for host in self._members(hosts):
                if host in region_of:
                    raise NetworkError(f"the host {host!r} is in two regions")
                region_of[host] = region
        found: dict[tuple[str, str], float] = {}
        for pair, latency in latencies.items():
            unknown = next((region for region in pair if region not in members), None)
            if unknown is not None:
                raise NetworkError(f"no region is called {unknown!r}; the regions are {', '.join(members)}")
            _check_seconds("latency", latency)
            found[pair] = latency
            found.setdefault((pair[1], pair[0]), latency)
        missing = next((pair for pair in combinations(members, 2) if pair not in found), None)
        if missing is not None:
            raise NetworkError(f"the latency between {missing[0]!r} and {missing[1]!r} is missing")
        self._fabric.place(region_of, found)
        text = " ".join(f"{one}-{other}={latency:g}" for (one, other), latency in latencies.items())
        self.note("regions", text)

    def bottleneck(self, one: Iterable[str], other: Iterable[str], *, bandwidth: float, queue: float = inf) -> Links:
        """Let all packets between two groups of hosts pass one line, in each direction. Returns the links.

        Packets take it in the order in which they are sent. So give the links no ``bandwidth`` of their own: a packet
        would keep its place on the line while it waits for its link. Streams that begin from now on are sent packet by
        packet, as on a link with a bandwidth; ``tcp="reno"`` adds congestion control.

        :param bandwidth: bits per second of the line, in each direction.
        :param queue: bytes that may wait for the line. A packet that finds it full is lost.
        :raises NetworkError: as :meth:`between`, and for impossible numbers.
        """
        if not _is_finite(bandwidth) or bandwidth <= 0:
            raise NetworkError(f"bandwidth must be a number of bits per second, more than 0: {bandwidth!r}")
        if not isinstance(queue, int | float) or not queue > 0:
            raise NetworkError(f"queue must be a number of bytes, more than 0: {queue!r}")
        links = self.between(one, other)
        lines = (Bottleneck(bandwidth, queue), Bottleneck(bandwidth, queue))
        for number, (source, destination) in enumerate(links._ends):
            self._fabric.link(source, destination).bottleneck = lines[number % 2]
        self.note(links._name(), f"bottleneck={bandwidth:g}")
        return links

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
        :raises NoResultError: when no event is scheduled any more, or after the timeout. It says what is known: the
            line at which each coroutine waits, failures, hosts that are down, partitions, and what waits in real time.
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
                    raise NoResultError(text + self._known_facts(deferred, logged))
                if next_time > deadline:
                    raise NoResultError(f"there is no result after {timeout:g} s{self._known_facts(deferred, logged)}")
                events.step()
        if isinstance(results[0], Failure):
            _raise(results[0])
        result: T = results[0]
        return result

    def observe(self, after_event: Callable[[int], object], *, endless_loop: int) -> None:
        """Call a function after each event, with the number of events so far.

        :param endless_loop: the number of events at one time that is taken as an endless loop.
        """
        self._events.standstill = endless_loop
        self._events.observe(after_event)

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
            held=self._fabric.held(),
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

    def _members(self, names: Iterable[str]) -> list[str]:
        if isinstance(names, str):
            raise NetworkError(f"a group of hosts is needed, not {names!r}; write {{{names!r}}}")
        # A set has another order in each process.
        return sorted({self._host(name).name for name in names}, key=list(self.hosts).index)

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


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


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
