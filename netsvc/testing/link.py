"""One direction of the path between two hosts: its conditions, and the outcome of each packet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf, isnan
from random import Random
from typing import Literal, TypedDict, Unpack

from netsvc.errors import NetsvcError
from netsvc.testing.events import KeptTime, ScheduledEvent
from netsvc.testing.splits import SplitPolicy, nowhere

#: Bytes of the IPv4 and UDP headers of a datagram, of the UDP header alone, and of the IPv4 and TCP headers of a
#: segment.
DATAGRAM_HEADERS, UDP_HEADER = 28, 8
SEGMENT_HEADERS = 40

#: Payload bytes of a segment on a link without a bandwidth limit. Linux passes segments of this size to network cards.
SEGMENT_MAX = 65_536

#: Maximum bytes of a packet of a stream on a link with a bandwidth limit, unless its MTU is less. With larger packets,
#: one segment would block all others for a long time.
ETHERNET_MTU = 1_500

#: The least extra delay of a reordered datagram, in seconds.
REORDERING_DELAY_MIN = 0.001


class LinkError(NetsvcError, ValueError):
    """A link cannot have this condition."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of a link. The defaults are a perfect link.

    ``loss``, ``duplication`` and ``reordering`` are shares of the datagrams, between 0 and 1. A lost segment of a
    stream is retransmitted, as by TCP; loss on a stream is therefore a delay.

    :param latency: seconds from sending to arrival.
    :param jitter: maximum seconds that are added to the latency, uniformly distributed. It can reorder datagrams.
    :param bandwidth: bits per second. Packets wait in a queue of unlimited length.
    :param loss: the share that is lost.
    :param burst: the mean number of consecutive losses (the Gilbert model); 1 for independent losses.
    :param duplication: the share that arrives twice.
    :param reordering: the share that is delayed by one more latency and jitter, so that later datagrams overtake it.
    :param mtu: maximum bytes of a packet, including its headers. A longer datagram is sent in fragments, each of which
        can be lost.
    :param splits: the offsets at which streams are split into reads; see :mod:`netsvc.testing.splits`.
    :param tcp: ``"reno"`` for the congestion control of RFC 5681 and RFC 6582 in connections that are made from now
        on. With ``"simple"``, streams on a link with a bandwidth have no congestion control.
    :param up: False for a partition: every packet is lost.
    :param held: whether packets are kept until it is False again.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float = inf
    loss: float = 0.0
    burst: float = 1.0
    duplication: float = 0.0
    reordering: float = 0.0
    mtu: int = 65_575  # the maximum for UDP, which is reached over IPv6
    splits: SplitPolicy = nowhere
    tcp: Literal["simple", "reno"] = "simple"
    up: bool = True
    held: bool = False

    def __post_init__(self) -> None:
        for name in ("latency", "jitter"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < inf:
                raise LinkError(f"{name} must be a number of seconds, 0 or more: {value!r}")
        for name in ("loss", "duplication", "reordering"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= 1:
                raise LinkError(f"{name} must be a share between 0 and 1: {value!r}")
        if not _is_number(self.bandwidth) or not self.bandwidth > 0:
            raise LinkError(f"bandwidth must be a number of bits per second, more than 0: {self.bandwidth!r}")
        if not _is_number(self.burst) or not 1 <= self.burst < inf:
            raise LinkError(f"burst must be a mean number of consecutive losses, 1 or more: {self.burst!r}")
        if self.burst > 1 and self.loss / (self.burst * (1 - self.loss) or 1) > 1:
            raise LinkError(f"a loss of {self.loss} is too high for bursts of {self.burst}: the bursts would overlap")
        if not isinstance(self.mtu, int) or self.mtu < 68:  # RFC 791
            raise LinkError(f"mtu must be a number of bytes, 68 or more: {self.mtu!r}")
        if self.tcp not in ("simple", "reno"):
            raise LinkError(f'tcp must be "simple" or "reno": {self.tcp!r}')
        for name in ("up", "held"):
            if not isinstance(getattr(self, name), bool):
                raise LinkError(f"{name} must be True or False: {getattr(self, name)!r}")
        if not callable(self.splits):
            raise LinkError(f"splits must be a policy such as netsvc.testing.splits.at_random: {self.splits!r}")

    def replace(self, **changes: Unpack[ConditionChanges]) -> Conditions:
        """Return a copy with these changes.

        :raises LinkError: for an unknown condition or an impossible value.
        """
        known = [field.name for field in fields(self)]
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise LinkError(f"a link has no condition {unknown[0]!r}; the conditions are {', '.join(known)}")
        return replace(self, **changes)


class ConditionChanges(TypedDict, total=False):
    """Changes of :class:`Conditions`, for type checkers."""

    latency: float
    jitter: float
    bandwidth: float
    loss: float
    burst: float
    duplication: float
    reordering: float
    mtu: int
    splits: SplitPolicy
    tcp: Literal["simple", "reno"]
    up: bool
    held: bool


class Bottleneck:
    """One direction of a line that several links share. Packets take it in the order in which they are sent.

    :param bandwidth: bits per second.
    :param queue: bytes that may wait for it. Further packets are lost.
    :ivar idle_at: the time at which all earlier packets have left the queue.
    """

    def __init__(self, bandwidth: float, queue: float) -> None:
        self.idle_at = 0.0
        self._bandwidth = bandwidth
        self._queue = queue

    def is_full(self, now: float, length: int) -> bool:
        """Whether a packet of this length finds no room in the queue."""
        return max(0.0, self.idle_at - now) * self._bandwidth / 8 + length > self._queue

    def transmit(self, now: float, length: int) -> float:
        """Send a packet. Returns the time at which it has left the line."""
        self.idle_at = max(now, self.idle_at) + length * 8 / self._bandwidth
        return self.idle_at


def _fragments(length: int, header: int, mtu: int) -> list[int]:
    """Return the bytes of each packet in which IP sends ``length`` bytes (RFC 791; RFC 8200, section 4.5).

    :param header: bytes of the IP header. That of IPv6 is followed by a header for fragments.
    """
    header += 8 if header > 20 else 0
    most = (mtu - header) // 8 * 8
    return [min(most, length - offset) + header for offset in range(0, length, most)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not isnan(value)


class Link:
    """One direction of the path between two hosts.

    :param seed: the seed of its random numbers, different for each link.
    :ivar cuts: the number of faults that separate the hosts now, whatever the conditions say.
    :ivar bottleneck: the line behind it that it shares with other links; None if there is none.
    :ivar kept: events that are kept while the link is held.
    :ivar counts: the number of datagrams by outcome: ``delivered``, ``lost``, ``duplicated``, ``reordered``.
    """

    def __init__(self, seed: str, conditions: Conditions) -> None:
        self.conditions = conditions
        self.cuts = 0
        self._conditions_set = conditions
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self.bottleneck: Bottleneck | None = None
        self.kept: list[ScheduledEvent] = []
        self._random: Random | None = None
        self._idle_at = 0.0
        self._last_arrival_before_crash = inf  # of what had left the queue when the source crashed with a queue
        self._in_loss_burst = False

    @property
    def random(self) -> Random:
        """Its random number generator. The traffic of other links does not change its sequence."""
        if self._random is None:
            self._random = Random(self._seed)
        return self._random

    @property
    def idle_at(self) -> float:
        """The time at which all earlier packets have left its queue, and that of its bottleneck."""
        return self._idle_at if self.bottleneck is None else max(self._idle_at, self.bottleneck.idle_at)

    @property
    def by_packets(self) -> bool:
        """Whether streams are sent packet by packet, as by TCP; see :mod:`netsvc.testing.tcp_recovery`."""
        conditions = self.conditions
        return conditions.bandwidth != inf or conditions.tcp == "reno" or self.bottleneck is not None

    @property
    def segment_max(self) -> int:
        """Maximum payload bytes of a segment."""
        return min(self.conditions.mtu, ETHERNET_MTU) - SEGMENT_HEADERS if self.by_packets else SEGMENT_MAX

    def not_before(self, arrival: float, last: float) -> float:
        """Return the time of an arrival that follows an earlier one of the same stream."""
        if arrival > last:
            return arrival
        return KeptTime(last, self.kept) if self.conditions.held else float(last)  # the last one may have been kept

    def change(self, now: float, conditions: Conditions) -> None:
        """Change the conditions from now on.

        What is in the queue leaves it at the old bandwidth; later packets wait for it as long as at the new one.
        """
        if self._idle_at > now:
            self._idle_at = now + (self._idle_at - now) * self.conditions.bandwidth / conditions.bandwidth
        self._conditions_set = conditions
        self.conditions = conditions.replace(up=False) if self.cuts else conditions

    @property
    def conditions_set(self) -> Conditions:
        """The conditions that were set, which a fault may hide."""
        return self._conditions_set if self.cuts else self.conditions

    def cut(self, now: float, cuts: int) -> None:
        """Begin (1) or end (-1) a partition by a fault. The end heals no partition that was set."""
        conditions = self.conditions_set
        self.cuts += cuts
        self.change(now, conditions)

    def clear_queue(self, now: float) -> None:
        """The source crashes: what has not left its queue is lost."""
        if self._idle_at > now:
            self._idle_at = now
            self._last_arrival_before_crash = now + self.conditions.latency + self.conditions.jitter

    def carries(self, now: float, source_crashed: bool) -> bool:
        """Whether a packet that arrives now was not lost on the way, in a partition or in a queue that was cleared.

        :param source_crashed: whether the source has crashed since it sent the packet.
        """
        return self.conditions.up and not (source_crashed and now > self._last_arrival_before_crash)

    def send_segment(self, now: float, length: int) -> float | None:
        """Send a segment of a stream. Returns its arrival time, or None if it is lost."""
        conditions = self.conditions
        if not conditions.up or (conditions.loss and self._is_lost()):
            return None
        length += SEGMENT_HEADERS
        if self.bottleneck is not None and self.bottleneck.is_full(now, length):
            return None
        arrival = self._arrival(now, length)
        return KeptTime(arrival, self.kept) if conditions.held else arrival

    def send_datagram(self, now: float, length: int, headers: int = DATAGRAM_HEADERS) -> tuple[list[float], str]:
        """Send a datagram. Returns its arrival times (none, one or two) and its outcome, as in ``TraceEvent``.

        :param length: payload bytes.
        :param headers: bytes of the headers of IP and UDP.
        """
        conditions = self.conditions
        packet = length + headers
        packets: Sequence[int] = (packet,)
        if packet > conditions.mtu:
            packets = _fragments(length + UDP_HEADER, headers - UDP_HEADER, conditions.mtu)
        is_lost = not conditions.up or (conditions.loss and self._loses(packets))
        if is_lost or (self.bottleneck is not None and self.bottleneck.is_full(now, packet)):
            self.counts["lost"] += 1
            return [], "lost"
        self.counts["delivered"] += 1
        arrivals = [self._arrival_of_last(now, packets)]
        outcome = ""
        if conditions.reordering and self.random.random() < conditions.reordering:
            self.counts["reordered"] += 1
            outcome = "reordered"
            arrivals[0] += max(REORDERING_DELAY_MIN, conditions.latency + conditions.jitter)
        if conditions.duplication and self.random.random() < conditions.duplication:
            self.counts["duplicated"] += 1
            outcome = "duplicated" if not outcome else "reordered and duplicated"
            arrivals.append(self._arrival_of_last(now, packets))
        if conditions.held:
            arrivals = [KeptTime(arrival, self.kept) for arrival in arrivals]
        return arrivals, outcome

    def _arrival(self, now: float, length: int) -> float:
        conditions = self.conditions
        transmitted = now
        if conditions.bandwidth != inf:
            transmitted = self._idle_at = max(now, self._idle_at) + length * 8 / conditions.bandwidth
        if self.bottleneck is not None:
            transmitted = self.bottleneck.transmit(transmitted, length)
        if conditions.jitter:
            transmitted += conditions.jitter * self.random.random()
        return transmitted + conditions.latency

    def _arrival_of_last(self, now: float, packets: Sequence[int]) -> float:
        arrival = now
        for packet in packets:
            arrival = max(arrival, self._arrival(now, packet))
        return arrival

    def _loses(self, packets: Sequence[int]) -> bool:
        """Whether one of these packets is lost. Each is drawn, so that the random numbers that follow are the same."""
        lost = False
        for _ in packets:
            lost |= self._is_lost()
        return lost

    def _is_lost(self) -> bool:
        loss, burst = self.conditions.loss, self.conditions.burst
        if burst == 1 or loss == 1:
            return self.random.random() < loss
        # The Gilbert model has two states. In a burst, every packet is lost. The share of time in bursts is ``loss``.
        if self._in_loss_burst:
            self._in_loss_burst = self.random.random() >= 1 / burst
        else:
            self._in_loss_burst = self.random.random() < loss / (burst * (1 - loss))
        return self._in_loss_burst
