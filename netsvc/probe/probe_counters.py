"""The counters of a target, in a form that never goes backwards: for a monitoring that takes differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from netsvc.probe.loss_direction import DirectionCounts
from netsvc.probe.probe_ledger import LedgerCounts
from netsvc.probe.probe_summary import ClockSummary

#: The counters that are exported, by their names here.
COUNTERS = {
    "sent": "Probes that were sent.",
    "unsent": "Probes that the system refused to send.",
    "answered": "Probes that were answered within the timeout.",
    "lost": "Probes that were not answered within the timeout.",
    "late": "Probes whose first answer came after the timeout. They are among the lost ones.",
    "duplicates": "Answers after the first one to the same probe.",
    "reordered": "First answers that came after the answer to a later probe (RFC 4737).",
    "corrupted": "Answers whose content was damaged.",
    "late_sends": "Probes that left later than the schedule allows, because this host was busy.",
}

#: The directions of losses, by the names of :class:`~netsvc.probe.loss_direction.DirectionCounts`.
LOSS_DIRECTIONS = {"lost_there": "there", "lost_back": "back", "lost_unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class ProbeCounters:
    """The counters of one run.

    :ivar counts: probes and answers.
    :ivar late_sends: probes that left later than the schedule allows.
    :ivar direction: None unless the protocol tells directions.
    :ivar open_losses: how many of the losses of unknown direction are so only until a later answer arrives.
    :ivar clock: None unless the protocol tells the clock of the peer.
    """

    counts: LedgerCounts
    late_sends: int = 0
    direction: DirectionCounts | None = None
    open_losses: int = 0
    clock: ClockSummary | None = None


class RunningCounters:
    """Adds up the counters of the runs of one target. No number ever decreases.

    In a ledger, ``lost`` decreases when a late answer arrives, and the direction of losses may be revised. Here, a
    probe counts as lost if it was not answered in time, also if it is answered later. The direction of a loss counts as
    soon as it is known, which is at a later answer. If it is revised, the next losses make up for it.
    """

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()  # the runs that have ended
        self._run: Counter[str] = Counter()

    def __getitem__(self, name: str) -> int:
        """Return a number since the start, by its name in ``COUNTERS`` or ``LOSS_DIRECTIONS``."""
        return self._before[name] + self._run[name]

    def update(self, counters: ProbeCounters) -> None:
        """Take the counters of the present run."""
        counts = counters.counts
        found = {
            **{name: getattr(counts, name) for name in COUNTERS if name != "late_sends"},
            "lost": counts.lost + counts.late,
            "late_sends": counters.late_sends,
            **_settled(counters),
        }
        for name, number in found.items():
            self._run[name] = max(self._run[name], number)

    def end_run(self) -> None:
        """The present run has ended. The next one counts from 0."""
        self._before += self._run
        self._run.clear()


def _settled(counters: ProbeCounters) -> Mapping[str, int]:
    """Return the losses by direction, without those of which a later answer may still tell it."""
    if counters.direction is None:
        return {}
    found = {name: getattr(counters.direction, name) for name in LOSS_DIRECTIONS}
    return found | {"lost_unknown": max(0, found["lost_unknown"] - counters.open_losses)}
