"""Simulated STAMP sessions with loss, duplicates and reordering in each direction: the counters tell which is which.

``python -m tests.simulated_stamp 1000`` runs it with the seeds 0 to 999. ``--seed N`` runs one seed and prints the
trace of the network. ``tests/test_simulated_stamp.py`` runs some of the seeds.

The server is that of ``twist netsvc --stamp 862``. Three sessions share two links with random conditions: two have the
same source port and differ in the SSID, one has another source port. Each sends 100 questions. Then the faults end, and
one more question is answered, which arrives after all others. Of the answers only two numbers are used: that of the
question, and that which the reflector has counted. They are compared with the trace of the network:

- The answers that were lost, and those that were duplicated, are exact, also with duplicates in both directions.
- The questions that arrived are exact, and with them the lost questions minus the duplicated ones.
- If no question was duplicated, or no answer lost, the questions that were lost are exact, and so are the duplicates.
- With both, an answer that was lost may have been one to a second copy of a question. No sender can tell that:
  :func:`unlike_histories` returns two histories with the same answers. The truth is within bounds, which differ by at
  most the number of answers that were lost.
- Before the faults end, the answers that were lost before the last one that arrived are exact. If questions arrive in
  their order, and each once, then so are the questions that were lost before the last one that was answered.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

from twisted.internet.protocol import DatagramProtocol

from netsvc import Config, netsvc_service
from netsvc.stamp.packets import StampQuestion, decode_answer, encode_question
from netsvc.stamp.stamp_times import ErrorEstimate, TimeFormat
from netsvc.testing import Network, TraceEvent

QUESTIONS = 100
PORT = 862

#: Seconds after which everything has arrived that was sent before.
QUIET = 5.0

_ESTIMATE = ErrorEstimate(False, TimeFormat.NTP, 0.001)
_MASK = 0xFFFFFFFF

#: A session: the source port and the SSID.
Session = tuple[int, int]


@dataclass(frozen=True)
class Tally:
    """The datagrams of a session by direction and fate, as the numbers of its answers tell.

    It is right if the last question was answered, and arrived once and after all others.

    :param asked: the number of questions that were sent.
    :param answers: of each answer, the number of its question and its own, in the order in which they arrived.
    """

    asked: int
    answers: Sequence[tuple[int, int]]

    @property
    def arrived(self) -> int:
        """The questions that arrived there, and their copies: the reflector has counted them."""
        return max(own for _, own in self.answers) + 1

    @property
    def lost_back(self) -> int:
        """The answers that were lost: the numbers that are missing."""
        return self.arrived - len({own for _, own in self.answers})

    @property
    def duplicated_back(self) -> int:
        """The answers that arrived twice: they have the same number."""
        return len(self.answers) - len({own for _, own in self.answers})

    @property
    def lost_less_duplicated_there(self) -> int:
        """The questions that were lost on the way there, minus those that arrived twice."""
        return self.asked - self.arrived

    @property
    def duplicated_there(self) -> tuple[int, int]:
        """The least and the largest number of questions that arrived twice.

        Two answers to one question have different numbers. Each answer that was lost may have been a second one.
        """
        seen = len(set(self.answers)) - len({question for question, _ in self.answers})
        return max(seen, -self.lost_less_duplicated_there), seen + self.lost_back

    @property
    def lost_there(self) -> tuple[int, int]:
        """The least and the largest number of questions that were lost on the way there."""
        least, largest = self.duplicated_there
        return self.lost_less_duplicated_there + least, self.lost_less_duplicated_there + largest


def unlike_histories() -> list[Tally]:
    """Return the tallies of two histories that differ in what was lost on the way there.

    Three questions. In the first history, the first one was duplicated, the second one lost, and an answer to the first
    one was lost. In the second history, only the answer to the second one was lost.
    """
    lost = {1}  # the number of the answer
    arrivals = ((0, 0, 2), (0, 1, 2))
    return [Tally(3, [(question, own) for own, question in enumerate(each) if own not in lost]) for each in arrivals]


class Sender(DatagramProtocol):
    """Sends the questions of sessions that share a port.

    :param first: the number of the first question of each.
    :ivar answers: of each session, the number of the question, from 0 on, and that of the reflector, as they arrived.
    """

    def __init__(self, ssids: Iterable[int], first: int) -> None:
        self._first = first
        self.answers: dict[int, list[tuple[int, int]]] = {ssid: [] for ssid in ssids}

    def ask(self, server: str, ssid: int, number: int) -> None:
        """Send a question."""
        question = StampQuestion(self._first + number & _MASK, 0, _ESTIMATE, ssid)
        assert self.transport is not None
        self.transport.write(encode_question(question), (server, PORT))

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        answer = decode_answer(datagram, near=0)
        self.answers[answer.ssid].append((answer.sender_sequence - self._first & _MASK, answer.sequence))


class Simulation:
    """One seed: the sessions, and what became of their datagrams."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.network = Network(seed=seed)
        self._chance = Random(seed)
        self._server = self.network.host("server")
        client = self.network.host("client")
        config = Config(stamp=[str(PORT)], udp_rate=0)
        netsvc_service(self._server.reactor, config).startService()
        first = self._chance.choice((0, 2**32 - 50, self._chance.getrandbits(32)))  # it may wrap
        self._senders = {40_001: Sender((1, 2), first), 40_002: Sender((1,), first)}
        for port, sender in self._senders.items():
            client.reactor.listenUDP(port, sender)
        self.sessions: list[Session] = [(40_001, 1), (40_001, 2), (40_002, 1)]
        self._conditions = {name: self._random_conditions() for name in (("client", "server"), ("server", "client"))}

    def run(self) -> None:
        """Run it and compare."""
        chance, network = self._chance, self.network
        for (source, destination), conditions in self._conditions.items():
            network.link_from(source, destination).set(**conditions)  # type: ignore[arg-type]
        for number in range(QUESTIONS):
            for session in chance.sample(self.sessions, len(self.sessions)):
                self._ask(session, number)
            network.advance(chance.choice((0.0, 0.001, 0.01, 0.05)))
        network.advance(QUIET)
        for session in self.sessions:
            self._check_before_the_end(session)
        network.links().set(loss=0.0, duplication=0.0, reordering=0.0)
        for session in self.sessions:
            self._ask(session, QUESTIONS)
        network.advance(QUIET)
        for session in self.sessions:
            self._check(session)

    def _random_conditions(self) -> dict[str, float]:
        """Return the conditions of one direction. Each fault is there or not."""
        chance = self._chance
        conditions = {"latency": chance.choice((0.0, 0.02, 0.2))}
        if chance.random() < 0.8:
            conditions |= {"loss": chance.choice((0.01, 0.1, 0.4)), "burst": chance.choice((1.0, 4.0))}
        if chance.random() < 0.4:
            conditions["duplication"] = chance.choice((0.02, 0.2))
        if chance.random() < 0.4:
            conditions["reordering"] = chance.choice((0.02, 0.3))
        if chance.random() < 0.4:
            conditions["jitter"] = chance.choice((0.001, 0.05))
        return conditions

    def _ask(self, session: Session, number: int) -> None:
        port, ssid = session
        self._senders[port].ask(self._server.address, ssid, number)

    def _answers(self, session: Session) -> list[tuple[int, int]]:
        port, ssid = session
        return self._senders[port].answers[ssid]

    def _events(self, session: Session, source: str) -> list[TraceEvent]:
        """Return the datagrams of a session that a host has sent. Both directions have the SSID in the same place."""
        port, ssid = session
        ports = f"{port}>{PORT}" if source == "client" else f"{PORT}>{port}"
        return [
            event
            for event in self.network.trace
            if event.kind == "datagram"
            and (event.source, event.ports) == (source, ports)
            and event.data[14:16] == ssid.to_bytes(2)
        ]

    def _is_in_order(self) -> bool:
        """Whether questions arrive in the order in which they are sent, and each once."""
        conditions = self._conditions["client", "server"]
        return not conditions.keys() & {"duplication", "reordering", "jitter"}

    def _check_before_the_end(self, session: Session) -> None:
        """Check that the loss before the last answer is known while the questions still go on."""
        answers = self._answers(session)
        if not answers:
            return
        last_question, last = max(answers, key=lambda answer: answer[1])
        sent_back = self._events(session, "server")
        lost = sum(event.outcome == "lost" for event in sent_back if int.from_bytes(event.data[:4]) <= last)
        found = last + 1 - len({own for _, own in answers})
        assert found == lost, f"{lost} answers before the last one were lost, not {found}"
        if self._is_in_order():
            asked = self._events(session, "client")[: last_question + 1]
            lost = sum(event.outcome == "lost" for event in asked)
            found = last_question - last
            assert found == lost, f"{lost} questions before the last one were lost, not {found}"

    def _check(self, session: Session) -> None:
        there, back = (_outcomes(self._events(session, source)) for source in ("client", "server"))
        assert sum(there.values()) == QUESTIONS + 1
        answers = self._answers(session)
        assert answers[-1][0] == QUESTIONS, "the last question has no answer"
        tally = Tally(QUESTIONS + 1, answers)
        found = (tally.arrived, tally.lost_back, tally.duplicated_back, tally.lost_less_duplicated_there)
        truth = (sum(back.values()), back["lost"], back["duplicated"], there["lost"] - there["duplicated"])
        assert found == truth, f"session {session}: {found}, not {truth}"
        for name, bounds, number in (
            ("lost", tally.lost_there, there["lost"]),
            ("duplicated", tally.duplicated_there, there["duplicated"]),
        ):
            least, largest = bounds
            assert least <= number <= largest, f"session {session}: {number} questions {name}, not within {bounds}"
            assert largest - least <= tally.lost_back
            if not there["duplicated"]:
                assert number == least, f"session {session}: {number} questions {name}, not {least}"
            if not back["lost"]:
                assert least == largest


def _outcomes(events: Iterable[TraceEvent]) -> Counter[str]:
    """Return the number of datagrams that were delivered, lost and duplicated; also reordered ones are one of these."""
    names = {"lost": "lost", "duplicated": "duplicated", "reordered and duplicated": "duplicated"}
    outcomes = Counter(event.outcome for event in events)
    assert outcomes.keys() <= names.keys() | {"", "reordered"}, outcomes
    return Counter(
        {
            name: sum(count for outcome, count in outcomes.items() if names.get(outcome, "delivered") == name)
            for name in ("delivered", "lost", "duplicated")
        }
    )


def run_seed(seed: int) -> Simulation:
    """Run one seed. Print how to run it again if it fails."""
    simulation = Simulation(seed)
    try:
        simulation.run()
    except BaseException:
        sys.stderr.write(f"seed {seed}; run it again with: python -m tests.simulated_stamp --seed {seed}\n")
        raise
    return simulation


def main() -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Run STAMP sessions on a simulated network with many seeds.")
    parser.add_argument("seeds", nargs="?", type=int, default=1_000, help="number of seeds, from 0 on (default: 1000)")
    parser.add_argument("--seed", type=int, help="run only this seed, and print the trace of the network")
    options = parser.parse_args()
    gc.freeze()
    gc.set_threshold(50_000)
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    for seed in seeds:
        simulation = run_seed(seed)
        if options.seed is not None:
            sys.stdout.write(f"{simulation.network.trace}\n")
    sys.stdout.write(f"{len(seeds):,} seeds: the counters tell loss on the way there from loss on the way back\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
