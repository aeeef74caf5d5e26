"""Conditions on the numbers of a summary: ``loss>1%``, ``p99>20ms``, ``duplicates>0``. They decide the exit status."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from netsvc.errors import NetsvcError
from netsvc.probe.duration_summary import PERCENTILES, DurationSummary
from netsvc.probe.probe_summary import ProbeSummary


class Quantity(Enum):
    """The kinds of values, each with its units."""

    COUNT = "count"
    FRACTION = "fraction"
    DURATION = "duration"


_UNITS: dict[Quantity, dict[str, Fraction]] = {
    Quantity.COUNT: {"": Fraction(1)},
    Quantity.FRACTION: {"%": Fraction(1, 100)},
    Quantity.DURATION: {
        "ns": Fraction(1),
        "us": Fraction(1_000),
        "ms": Fraction(1_000_000),
        "s": Fraction(1_000_000_000),
    },
}

_EXAMPLES = {Quantity.COUNT: "0", Quantity.FRACTION: "1%", Quantity.DURATION: "20ms"}

_OPERATORS: dict[str, Callable[[Fraction, Fraction], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}

_CONDITION = re.compile(
    r"\s*([A-Za-z0-9_.]+)\s*(>=|<=|>|<)\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(%|[A-Za-z]*)\s*", re.ASCII
)

_Value = Callable[[ProbeSummary], Fraction | int | float | None]


class FailConditionError(NetsvcError, ValueError):
    """The text is not a condition; the message says why, and what to write."""


def _count(name: str) -> _Value:
    return lambda summary: int(getattr(summary.counts, name))


def _share(name: str) -> _Value:
    return lambda summary: summary.share(int(getattr(summary.counts, name)))


def _direction(name: str) -> _Value:
    def value(summary: ProbeSummary) -> Fraction | None:
        direction = summary.direction
        # As long as the reflector may be stateless, zero does not mean that nothing was lost.
        if direction is None or (direction.lost_unknown and not direction.stateful and name != "lost_unknown"):
            return None
        return summary.share(int(getattr(direction, name)))

    return value


def _duplicates(name: str) -> _Value:
    def value(summary: ProbeSummary) -> int | None:
        direction = summary.direction
        if direction is None or (direction.duplicates_unknown and not direction.stateful):
            return None
        return int(getattr(direction, name))

    return value


def _of_durations(kinds: tuple[str, ...], read: Callable[[DurationSummary], float]) -> _Value:
    def value(summary: ProbeSummary) -> float | None:
        found = next((summary.durations[kind] for kind in kinds if kind in summary.durations), None)
        return None if found is None else read(found)

    return value


def _percentile(name: str) -> Callable[[DurationSummary], float]:
    return lambda summary: summary.percentiles[name]


_MEASURES: dict[str, Callable[[DurationSummary], float]] = {
    "min": lambda summary: summary.minimum,
    "mean": lambda summary: summary.mean,
    "max": lambda summary: summary.maximum,
    "stddev": lambda summary: summary.stddev,
    **{name: _percentile(name) for name in PERCENTILES},
}

#: The durations that a measure without a prefix means: the round trip, or what a protocol without one measures.
_MAIN = ("rtt", "handshake", "connect")

_KINDS = (
    *("rtt", "rtt_intended", "responder", "delay_variation", "there_change", "back_change", "there_delay"),
    *("back_delay", "connect", "handshake"),
)

_NAMES: dict[str, tuple[Quantity, _Value]] = {
    "loss": (Quantity.FRACTION, _share("lost")),
    "loss_there": (Quantity.FRACTION, _direction("lost_there")),
    "loss_back": (Quantity.FRACTION, _direction("lost_back")),
    "loss_unknown": (Quantity.FRACTION, _direction("lost_unknown")),
    **{
        name: (Quantity.COUNT, _count(name))
        for name in (
            *("sent", "unsent", "answered", "lost", "late", "duplicates", "reordered", "corrupted", "foreign"),
            "forgotten",
        )
    },
    "duplicates_there": (Quantity.COUNT, _duplicates("duplicates_there")),
    "duplicates_back": (Quantity.COUNT, _duplicates("duplicates_back")),
    "late_sends": (Quantity.COUNT, lambda summary: summary.late_sends),
    "jitter": (Quantity.DURATION, lambda summary: summary.jitter.get("rtt")),
    "jitter_there": (Quantity.DURATION, lambda summary: summary.jitter.get("there")),
    "jitter_back": (Quantity.DURATION, lambda summary: summary.jitter.get("back")),
    **{name: (Quantity.DURATION, _of_durations(_MAIN, read)) for name, read in _MEASURES.items()},
    **{
        f"{kind}.{name}": (Quantity.DURATION, _of_durations((kind,), read))
        for kind in _KINDS
        for name, read in _MEASURES.items()
    },
}

_LIST = (
    f"{', '.join(name for name in _NAMES if name.partition('.')[0] not in _KINDS)}, "
    f"or one of min to p99.9 after a kind and a dot, as in rtt_intended.p99; kinds: {', '.join(_KINDS)}"
)


@dataclass(frozen=True, slots=True)
class FailCondition:
    """A condition on a summary.

    :ivar text: as it was typed.
    :ivar name: of the value.
    :ivar threshold: in nanoseconds if the value is a duration; from 0 to 1 if it is a fraction.
    """

    text: str
    name: str
    comparison: str
    threshold: Fraction

    def failure(self, summary: ProbeSummary) -> str | None:
        """Return why the condition is met, in one line; None if it is not.

        A condition on a value that is not known counts as met. A script must not take a measurement that did not
        happen for a good one.
        """
        quantity, read = _NAMES[self.name]
        value = read(summary)
        if value is None:
            return f"{self.text}: {self.name} is unknown"
        exact = Fraction(value)
        if _OPERATORS[self.comparison](exact, self.threshold):
            return f"{self.text}: {self.name} is {_words(quantity, exact)}"
        return None


def parse_fail_condition(text: str) -> FailCondition:
    """Parse ``NAME>VALUE``, also with ``>=``, ``<`` and ``<=``. Durations and fractions need their unit.

    :raises FailConditionError: and nothing else, whatever the text.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise FailConditionError(f"{text!r} is not a condition; write NAME>VALUE, as in loss>1% or p99>20ms")
    name, comparison, number, unit = match.groups()
    if name not in _NAMES:
        raise FailConditionError(f"{text!r}: no value is named {name!r}; choose {_LIST}")
    quantity, _ = _NAMES[name]
    factor = _UNITS[quantity].get(unit)
    if factor is None:
        units = " or ".join(filter(None, _UNITS[quantity])) or "no unit"
        raise FailConditionError(
            f"{text!r}: {name} is a {quantity.value} and needs {units}; write {name}{comparison}{_EXAMPLES[quantity]}"
        )
    return FailCondition(text.strip(), name, comparison, Fraction(number) * factor)


def _words(quantity: Quantity, value: Fraction) -> str:
    match quantity:
        case Quantity.COUNT:
            return str(value)
        case Quantity.FRACTION:
            return f"{float(value) * 100:.4g}%"
        case Quantity.DURATION:
            units = _UNITS[quantity]
            unit = next((one for one in ("s", "ms", "us") if abs(value) >= units[one]), "ns")
            return f"{float(value / units[unit]):.4g}{unit}"
