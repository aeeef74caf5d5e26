"""Probes on a simulated network that loses, delays, duplicates and reorders: reported is what the network did.

Each seed has conditions of its own for each direction. The truth comes from the trace of the network (the fate of each
datagram, and when it was sent) and from the kernels of both hosts (when each copy arrived). It is computed here in the
simplest way, packet by packet, and compared with what the record of the target tells: the verdict on each answer, each
delay, the counts, the directions and the percentiles.

The network's time has steps of 2**-32 s. The stamps of its kernels are rounded to 1 ns, the unit of all reported times.
In this unit, reported and true times are equal: no tolerance is allowed.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

from netsvc.echo.udp_echo import EchoDatagramProtocol
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.net.datagram_protocol import DatagramService
from netsvc.net.terms import Terms
from netsvc.net.udp_port import UdpPort
from netsvc.net.udp_socket import open_udp_socket
from netsvc.probe.duration_summary import PERCENTILES, DurationSummary
from netsvc.probe.probe_dialects import FIRST_SEQUENCE, EchoDialect, ProbeDialect, StampDialect
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_payload import MAGIC
from netsvc.probe.probe_record import ProbeRecord
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_summary import ProbeSummary
from netsvc.probe.probe_target import ProbeProtocol, ProbeTarget
from netsvc.probe.udp_prober import UdpProber
from netsvc.stamp.server import SessionKey, StampReflector
from netsvc.stamp.stamp_sessions import StampSessions
from netsvc.testing import Host, Network
from netsvc.testing.link import ConditionChanges
from netsvc.timestamp.server import TimestampProtocol
from netsvc.wire.datagram import Datagram
from netsvc.wire.wall_time import wall_nanoseconds

PROBES = 200
TIMEOUT = 60_000_000

#: Of eight seeds, five are measured by STAMP.
PROTOCOLS: tuple[ProbeProtocol, ...] = ("stamp", "stamp", "udp", "stamp", "udp-echo", "stamp", "udp-echo", "stamp")


class Arrival(NamedTuple):
    """A datagram that arrived. The time is that of the kernel, in nanoseconds."""

    time: int
    payload: bytes


class AheadClock:
    """The clock of a host that is ahead of that of the network by whole seconds."""

    def __init__(self, host: Host, ahead: int) -> None:
        self._reactor = host.reactor
        self._ahead = ahead
        self.callLater = host.reactor.callLater

    def seconds(self) -> float:
        return self._reactor.seconds() + self._ahead


class Responder(DatagramService):
    """Notes what arrives, and lets a service answer it after a while.

    :param service: answers.
    :param hold: nanoseconds that it takes.
    :param ahead: seconds by which the clock of its host is ahead.
    """

    def __init__(self, host: Host, service: DatagramService, hold: int, ahead: int) -> None:
        super().__init__(host.reactor)
        self.arrivals: list[Arrival] = []
        self._service = service
        self._hold = hold
        self._ahead = ahead * 1_000_000_000

    def startProtocol(self) -> None:
        self._service.makeConnection(self.transport)

    def batch_received(self, batch: Sequence[Datagram]) -> Iterable[Datagram]:
        for datagram in batch:
            assert datagram.kernel_time is not None
            self.arrivals.append(Arrival(datagram.kernel_time, datagram.payload))
            shifted = datagram._replace(kernel_time=datagram.kernel_time + self._ahead)
            if not self._hold:
                yield from self._service.batch_received([shifted])
            else:
                self.clock.callLater(self._hold / 1e9, self._answer, shifted)

    def _answer(self, datagram: Datagram) -> None:
        self.transport.socket.send_batch(iter(self._service.batch_received([datagram])))


class WatchedProber(UdpProber):
    """Notes what arrives, before it is judged."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # those of the prober
        self.arrivals: list[Arrival] = []

    def batch_received(self, batch: Sequence[Datagram]) -> list[Datagram]:
        for datagram in batch:
            assert datagram.kernel_time is not None
            self.arrivals.append(Arrival(datagram.kernel_time, datagram.payload))
        return super().batch_received(batch)


class _Sent(NamedTuple):
    """A datagram that was sent: when, and how many copies of it arrive."""

    time: int
    copies: int


class Answer(NamedTuple):
    """A copy of an answer that arrived.

    :ivar number: of the answer, in the order in which the responder sent them; None if the datagram does not tell.
    """

    time: int
    sequence: int
    number: int | None


# Where the datagrams have their numbers: those of the question, and of a stateful reflector's answer.


def _stamp_question(payload: bytes) -> int:
    return int.from_bytes(payload[:4]) - FIRST_SEQUENCE


def _stamp_answer(payload: bytes) -> tuple[int, int | None]:
    return _stamp_question(payload[24:]), int.from_bytes(payload[:4])


def _echo_question(payload: bytes) -> int:
    return int.from_bytes(payload[16:24])


def _echo_answer(payload: bytes) -> tuple[int, int | None]:
    return _echo_question(payload[payload.index(MAGIC) :]), None


class ProbeSimulation:
    """One measurement.

    :param seed: of the conditions, and of the network.
    :param probes: how many are sent.
    :ivar network: the network.
    :ivar events: what the record has told.
    :ivar schedule: of the probes.
    """

    def __init__(self, seed: int, probes: int = PROBES) -> None:
        chance = Random(f"probe {seed}")
        self.network = Network(seed)
        self.protocol = PROTOCOLS[seed % len(PROTOCOLS)]
        self._probes = probes
        self._kind = chance.choice(("plain", "plain", "duplicates", "bad"))
        self._client, self._server = self.network.host("client"), self.network.host("server")
        for ends in (("client", "server"), ("server", "client")):
            self.network.link_from(*ends).set(**self._conditions(chance))
        self.network.advance(1 + chance.random())  # times that are no round numbers
        self._hold = chance.choice((0, chance.randrange(2_000_000))) if self.protocol == "stamp" else 0
        self._ahead = chance.choice((0, 0, -1, 3_600)) if self.protocol == "stamp" else 0
        self.events: list[ProbeEvent] = []
        self.schedule = ProbeSchedule(
            wall_nanoseconds(self.network.now) + chance.randrange(10_000_000),
            chance.choice((1_000_000, 333_333, chance.randrange(200_000, 5_000_000))),
            count=probes,
        )

    def _conditions(self, chance: Random) -> ConditionChanges:
        """Return the conditions of a direction: the delays of a plain network keep the order of most probes."""
        conditions = ConditionChanges(
            latency=chance.choice((0.0, chance.uniform(0, 0.02))),
            jitter=chance.choice((0.0, chance.uniform(0, 0.001), chance.uniform(0, 0.02))),
            loss=chance.choice((0.0, chance.uniform(0, 0.1), chance.uniform(0, 0.5))),
            burst=chance.choice((1.0, chance.uniform(1, 8))),
        )
        if self._kind == "duplicates":
            conditions["duplication"] = chance.uniform(0, 0.2)
        elif self._kind == "bad":
            conditions["duplication"] = chance.choice((0.0, chance.uniform(0, 0.2)))
            conditions["reordering"] = chance.uniform(0, 0.2)
            conditions["latency"] = chance.uniform(0.005, 0.04)  # some answers are late
        return conditions

    def run(self) -> None:
        """Measure, and compare."""
        terms = Terms.on(AheadClock(self._server, self._ahead))
        guard = DatagramGuard(SourceBuckets(rate=0, burst=0, total=0))
        service: DatagramService
        dialect: ProbeDialect = EchoDialect(b"the run!", 64)
        if self.protocol == "stamp":
            service = StampReflector(terms, guard, sessions=StampSessions[SessionKey](10))
            dialect = StampDialect(7, 44)
        elif self.protocol == "udp":
            service = TimestampProtocol(terms, guard)
        else:
            service = EchoDatagramProtocol(terms, guard)
        responder = Responder(self._server, service, self._hold, self._ahead)
        opened = open_udp_socket(self._server.reactor, "", 5000, 2_000, metadata=True)
        UdpPort(self._server.reactor, responder, opened).startListening()
        record = ProbeRecord(
            ProbeTarget(self.protocol, "server", 5000), "", self.schedule, TIMEOUT, on_event=self.events.append
        )
        prober = WatchedProber(self._client.reactor, self._server.address, 5000, dialect, self.schedule, record)
        udp = open_udp_socket(self._client.reactor, "", 0, 2_000, metadata=True, transmit_times=True)
        port = UdpPort(self._client.reactor, prober, udp)
        port.startListening()
        self.network.run(prober.finished)
        self.network.advance(1.0)  # for what is late
        now = wall_nanoseconds(self.network.now)
        assert not record.advance(now)
        _compare(self, responder.arrivals, prober.arrivals, record, now)
        port.stopListening()
        self.network.settle()

    def sent_by(self, host: str) -> list[_Sent]:
        """Return what a host has sent, from the trace."""
        copies = {"": 1, "reordered": 1, "lost": 0, "duplicated": 2, "reordered and duplicated": 2}
        return [
            _Sent(wall_nanoseconds(event.time), copies[event.outcome])
            for event in self.network.trace
            if event.kind == "datagram" and event.source == host
        ]


def _compare(
    simulation: ProbeSimulation,
    arrived_there: list[Arrival],
    arrived_back: list[Arrival],
    record: ProbeRecord,
    now: int,
) -> None:
    truth = _Truth(simulation, arrived_there, arrived_back)
    summary = record.total(now)
    truth.check_events(simulation.events)
    truth.check_counts(summary)
    truth.check_durations(summary)
    if simulation.protocol == "stamp":
        truth.check_directions(summary)
    lost = sum(interval.lost for interval in record.series)
    assert (sum(interval.sent for interval in record.series), lost) == (summary.counts.sent, summary.counts.lost)


class _Truth:
    """The acts of the network.

    :param there: what arrived at the responder.
    :param back: what arrived at the prober.
    """

    def __init__(self, simulation: ProbeSimulation, there: list[Arrival], back: list[Arrival]) -> None:
        self._is_stamp = simulation.protocol == "stamp"
        self._schedule = simulation.schedule
        self._questions = simulation.sent_by("client")
        self._replies = simulation.sent_by("server")
        number = _stamp_question if self._is_stamp else _echo_question
        self._there = [(arrival.time, number(arrival.payload)) for arrival in there]
        numbers = _stamp_answer if self._is_stamp else _echo_answer
        self._back = [Answer(arrival.time, *numbers(arrival.payload)) for arrival in back]
        self._check_the_network()

    def _check_the_network(self) -> None:
        """The trace and the kernels tell the same: all that was not lost has arrived, and was answered once."""
        copies = Counter(sequence for _, sequence in self._there)
        assert [copies[sequence] for sequence in range(len(self._questions))] == [
            question.copies for question in self._questions
        ]
        assert len(self._replies) == len(self._there)
        back = Counter(answer.sequence for answer in self._back)
        expected: Counter[int] = Counter()
        for reply, (_, sequence) in zip(self._replies, self._there, strict=True):
            expected[sequence] += reply.copies
        assert back == +expected

    def check_events(self, events: list[ProbeEvent]) -> None:
        """Compare the verdict on each answer, and its times."""
        answers = [event for event in events if event.kind != "lost"]
        assert len(answers) == len(self._back)
        self.first: list[tuple[Answer, int]] = []  # the first answers, with their RTT
        self.late = self.duplicates = 0
        self.changes: list[tuple[int, int]] = []
        self.extents: list[int] = []
        self.responder: list[int] = []
        seen: dict[int, frozenset[int | None]] = {}
        least = [math.inf, math.inf]
        for event, answer in zip(answers, self._back, strict=True):
            assert event.sequence == answer.sequence
            sent = self._questions[answer.sequence].time
            before = seen.get(answer.sequence, frozenset())
            seen[answer.sequence] = before | {answer.number}
            if before:
                self.duplicates += 1
                assert (event.kind, event.rtt, event.extent) == ("duplicate", None, 0)
                direction = None if not self._is_stamp else "back" if answer.number in before else "there"
                assert event.duplicated == direction
                continue
            whole = answer.time - sent
            is_late = whole > TIMEOUT
            self.late += is_late
            assert event.kind == ("late" if is_late else "answered")
            rtt = whole
            if answer.number is not None:
                received, left = self._there[answer.number][0], self._replies[answer.number].time
                delays = received - sent, answer.time - left
                rtt = sum(delays)
                least = [min(pair) for pair in zip(least, delays, strict=True)]
                change = delays[0] - int(least[0]), delays[1] - int(least[1])
                assert (event.there_change, event.back_change) == change
                self.changes.append(change)
                self.responder.append(left - received)
            assert event.rtt == rtt
            assert event.rtt_intended == answer.time - self._schedule.time_of(answer.sequence)
            later = [place for place, (other, _) in enumerate(self.first) if other.sequence > answer.sequence]
            extent = len(self.first) - later[0] if later else 0  # RFC 4737, 4.2.2
            assert event.extent == extent
            self.extents.append(extent)
            self.first.append((answer, rtt))
        losses = [event.sequence for event in events if event.kind == "lost"]
        in_time = {answer.sequence for answer, _ in self.first} - {
            answer.sequence for answer, _ in self.first if answer.time - self._questions[answer.sequence].time > TIMEOUT
        }
        lost_for_good = set(range(len(self._questions))) - {answer.sequence for answer, _ in self.first}
        assert len(set(losses)) == len(losses)
        # A probe that was answered late is told as lost, if the timeout was noticed before the answer.
        assert lost_for_good <= set(losses)
        assert not in_time & set(losses)

    def check_counts(self, summary: ProbeSummary) -> None:
        counts, sent = summary.counts, len(self._questions)
        assert (counts.attempted, counts.sent, counts.unsent, counts.pending) == (sent, sent, 0, 0)
        assert counts.answered == len(self.first) - self.late
        assert counts.late == self.late
        assert counts.lost == sent - len(self.first)
        assert counts.duplicates == self.duplicates
        assert counts.reordered == sum(extent > 0 for extent in self.extents)
        assert counts.reordering_extent_max == max(self.extents, default=0)
        assert (counts.corrupted, counts.foreign, counts.forgotten) == (0, 0, 0)
        assert (summary.late_sends, summary.void_times, summary.errors) == (0, 0, {})
        assert summary.sources.received_kernel == len(self.first)

    def check_durations(self, summary: ProbeSummary) -> None:
        if not self.first:
            assert not summary.durations
            return
        rtts = [rtt for _, rtt in self.first]
        _check_summary(summary.durations["rtt"], rtts)
        intended = [answer.time - self._schedule.time_of(answer.sequence) for answer, _ in self.first]
        _check_summary(summary.durations["rtt_intended"], intended)
        by_number = {answer.sequence: rtt for answer, rtt in self.first}
        variation = [abs(rtt - by_number[number - 1]) for number, rtt in by_number.items() if number - 1 in by_number]
        if variation:
            _check_summary(summary.durations["delay_variation"], variation)
        if self._is_stamp:
            _check_summary(summary.durations["responder"], self.responder)
            _check_summary(summary.durations["there_change"], [there for there, _ in self.changes])
            _check_summary(summary.durations["back_change"], [back for _, back in self.changes])
        jitter = 0.0
        for one, other in pairwise(rtts):
            jitter += (abs(other - one) - jitter) / 16  # RFC 3550, 6.4.1
        assert summary.jitter.get("rtt", 0.0) == jitter

    def check_directions(self, summary: ProbeSummary) -> None:
        """Compare the directions, as exactly as ``loss_direction`` promises."""
        counts = summary.direction
        assert counts is not None
        answered = {answer.sequence for answer, _ in self.first}
        arrived = {sequence for _, sequence in self._there}
        missing = set(range(len(self._questions))) - answered
        there, back = len(missing - arrived), len(missing & arrived)
        assert counts.lost_there + counts.lost_back + counts.lost_unknown == there + back
        assert counts.restarts == 0
        if not counts.stateful:  # no number of an answer differed from that of its question
            assert counts.lost_unknown == there + back
            assert all(answer.number == answer.sequence + FIRST_SEQUENCE for answer in self._back)
            return
        known = {answer.number for answer in self._back}
        hidden = self._copies_beside_the_first(known)
        duplicates = self._duplicates()
        assert (counts.duplicates_there, counts.duplicates_back) == duplicates
        assert counts.reordered_back == self._reordered_back()
        highest = max((number for number in known if number is not None), default=-1)
        last = max(answered, default=-1)
        seen = {sequence for _, sequence in self._there[: highest + 1]}
        tail = sum(sequence > last for sequence in missing)
        after = sum(sequence < last and sequence in arrived - seen for sequence in missing)
        in_order = all(one <= other for (_, one), (_, other) in pairwise(self._there))
        if in_order and not hidden and len(arrived) == len(self._there):
            # No reordering and no duplicates on the way there: only the losses behind the last answer are unknown.
            assert counts.lost_unknown == tail
            assert counts.lost_there == len({number for number in missing - arrived if number < last})
            assert counts.lost_back == len({number for number in missing & arrived if number < last})
        else:
            assert counts.lost_there - after <= there <= counts.lost_there + counts.lost_unknown + hidden
            assert counts.lost_back - hidden <= back <= counts.lost_back + counts.lost_unknown + after

    def _copies_beside_the_first(self, known: set[int | None]) -> int:
        """Return how many arrivals of questions are hidden: their answers were lost, and no loss explains them."""
        silent = Counter(sequence for number, (_, sequence) in enumerate(self._there) if number not in known)
        answered = {answer.sequence for answer, _ in self.first}
        return sum(number if sequence in answered else number - 1 for sequence, number in silent.items())

    def _reordered_back(self) -> int:
        """Return how many first answers arrived after one that the reflector sent later."""
        reordered, highest = 0, -1
        seen: set[int] = set()
        for answer in self._back:
            assert answer.number is not None
            reordered += answer.sequence not in seen and answer.number < highest
            seen.add(answer.sequence)
            highest = max(highest, answer.number)
        return reordered

    def _duplicates(self) -> tuple[int, int]:
        """Return the duplicates that arose there, as far as their answers arrived, and those that arose back."""
        numbers = Counter(answer.number for answer in self._back)
        back = sum(numbers.values()) - len(numbers)
        return len(numbers) - len(self.first), back


def _check_summary(summary: DurationSummary, values: list[int]) -> None:
    """Compare a summary with the values. Percentiles are rounded up within three significant digits."""
    ordered = sorted(values)
    assert (summary.count, summary.minimum, summary.maximum) == (len(values), ordered[0], ordered[-1])
    assert math.isclose(summary.mean, sum(values) / len(values), rel_tol=1e-12)
    for name, percentile in PERCENTILES.items():
        true = ordered[math.ceil(len(values) * percentile / 100 - 1e-9) - 1]
        assert true <= summary.percentiles[name] <= true + max(0, true // 1000), name


def run_seed(seed: int, probes: int = PROBES) -> ProbeSimulation:
    """Run one seed. Print how to run it again if it fails."""
    simulation = ProbeSimulation(seed, probes)
    try:
        simulation.run()
    except BaseException:
        sys.stderr.write(f"seed {seed}; run it again with: python -m tests.simulated_probe --seed {seed}\n")
        raise
    return simulation


def main() -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Probe on a simulated network with many seeds.")
    parser.add_argument("seeds", nargs="?", type=int, default=200, help="number of seeds, from 0 on (default: 200)")
    parser.add_argument("--seed", type=int, help="run only this seed, and print the trace of the network")
    parser.add_argument("--probes", type=int, default=PROBES, help=f"probes of each seed (default: {PROBES})")
    options = parser.parse_args()
    gc.freeze()  # as in tests.simulated_chat
    gc.set_threshold(50_000)
    if options.seed is not None:
        sys.stdout.write(f"{run_seed(options.seed, options.probes).network.trace}\n")
        return 0
    for seed in range(options.seeds):
        run_seed(seed, options.probes)
    sys.stdout.write(f"{options.seeds:,} seeds: reported is what the network did\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
