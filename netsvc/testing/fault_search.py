"""Finds bugs by faults: one at each event of a good run (``sweep``), or random ones that are shrunk (``chaos``)."""

from __future__ import annotations

import inspect
import os
import random
import re
import shlex
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from netsvc.testing.faults import (
    FAULT_KINDS,
    Fault,
    FaultError,
    FaultKind,
    listening_hosts,
    pairs_of_hosts,
    parse_fault,
)
from netsvc.testing.parallel_runs import map_on_cores
from netsvc.testing.scenario_run import (
    PROBLEM_KINDS,
    TIMEOUT,
    Invariant,
    Problem,
    RunOutcome,
    Scenario,
    ScenarioError,
    run_scenario,
)

#: The number of runs of a sweep at most. If there are more faults, as many are chosen evenly.
RUNS_MAX = 2_000

#: The number of faults of a chaotic run.
BUDGET = 5

#: Virtual seconds of a random partition, crash or pause, at least and at most. Each order of magnitude is as likely.
SECONDS_MIN, SECONDS_MAX = 0.01, 100.0

#: The events after which a single fault is tried, to see whether it suffices.
MOVES = 20

#: Lines of the chart that a failed replay shows.
CHART_EVENTS = 40


@dataclass(frozen=True)
class ScenarioSettings:
    """A scenario, and how it is run.

    :param name: ``FILE::NAME``.
    :param invariants: the names of the invariants.
    """

    name: str
    timeout: float
    invariants: tuple[str, ...]


@dataclass(frozen=True)
class FaultFinding:
    """A run that shows a problem.

    :ivar faults: the faults that were injected.
    :ivar also: how many more runs show the same problem by the same kind of fault.
    """

    scenario: ScenarioSettings
    seed: int
    faults: tuple[Fault, ...]
    problem: Problem
    also: int = 0

    @property
    def command(self) -> str:
        """The command that repeats the run; empty if a command cannot: it has no invariants, and no local functions."""
        scenario = self.scenario
        if scenario.invariants or not re.fullmatch(r"[^?]+::\w+", scenario.name):
            return ""
        return replay_command(scenario.name, self.seed, scenario.timeout, self.faults)

    @property
    def test(self) -> str:
        """A test that repeats the run, to be pasted beside the scenario."""
        name = self.scenario.name.rpartition("::")[2].rpartition(".")[2]
        arguments = [name, *(f'"{fault}"' for fault in self.faults), f"seed={self.seed}"]
        if self.scenario.invariants:
            arguments.append(f"invariants=[{', '.join(self.scenario.invariants)}]")
        if self.scenario.timeout != TIMEOUT:
            arguments.append(f"timeout={self.scenario.timeout!r}")
        lines = "".join(f"        {argument},\n" for argument in arguments)
        return (
            "from netsvc.testing import replay\n\n\n"
            f"def test_{name.strip('<>')}_with_faults_of_seed_{self.seed}():\n    replay(\n{lines}    )"
        )

    def text(self, *, with_test: bool) -> str:
        """Return the lines of a report.

        :param with_test: whether to add the test. It is added as well if there is no command.
        """
        faults = ", ".join(map(str, self.faults)) or "no fault"
        more = f" (and {self.also:,} more {'run' if self.also == 1 else 'runs'})" if self.also else ""
        lines = [f"{faults}{more}", *str(self.problem).splitlines()]
        if self.command:
            lines.append(f"repeat it: {self.command}")
        if with_test or not self.command:
            lines += ["as a test:", *(f"    {line}" for line in self.test.splitlines())]
        return "\n   ".join(lines)


@dataclass(frozen=True)
class FaultReport:
    """The problems that a search has found, the simplest first.

    :ivar runs: how many runs there were, without those that shrink what was found.
    :ivar with_tests: whether its text has a test for each finding.
    """

    scenario: ScenarioSettings
    runs: int
    findings: tuple[FaultFinding, ...]
    with_tests: bool = False

    def __str__(self) -> str:
        count = len(self.findings)
        problems = "no problem" if not count else f"{count} problem{'s' if count > 1 else ''}"
        lines = [f"{self.scenario.name}: {self.runs:,} run{'s' if self.runs != 1 else ''}, {problems}"]
        for number, finding in enumerate(self.findings, 1):
            lines.append(f"{number}. {finding.text(with_test=self.with_tests)}".rstrip())
        return "\n".join(line.rstrip() for line in "\n".join(lines).split("\n"))

    def check(self) -> None:
        """Raise an ``AssertionError`` with the text of the report if there is a problem."""
        if self.findings:
            raise AssertionError(str(self))


def sweep(
    scenario: Scenario,
    *,
    seed: int = 0,
    faults: Collection[FaultKind] = FAULT_KINDS,
    hosts: Collection[str] | None = None,
    invariants: Sequence[Invariant] = (),
    timeout: float = TIMEOUT,
    runs_max: int = RUNS_MAX,
    jobs: int | None = None,
) -> FaultReport:
    """Run a scenario once, and then again with one fault after each event of this run.

    A problem is a result that never comes, a logged failure, a broken invariant, or an exception of the scenario that
    is a mistake (``scenario_run.MISTAKES``). All other exceptions are what a program may answer to a fault.

    :param scenario: sets up a network, and returns a Deferred or a coroutine.
    :param seed: of the network.
    :param faults: the kinds of faults. ``abort`` and ``close`` are of each connection that is open at the event (and
        ``close`` of each end), ``partition`` of each pair of hosts that talk, ``crash`` and ``pause`` of each of
        ``hosts``.
    :param hosts: the hosts that crash and pause; by default those to which others connect, or send datagrams.
    :param invariants: are called after each event, and raise an exception if something is wrong.
    :param timeout: virtual seconds in which the scenario has to have a result.
    :param runs_max: the number of runs with a fault; if more are possible, as many are chosen evenly.
    :param jobs: processes at a time; by default one for each core.
    :raises ScenarioError: if the scenario ends before any event.
    :raises FaultError: for a host that there is not.
    """
    name = _settings(scenario, timeout, invariants)
    good = run_scenario(scenario, seed, invariants=invariants, timeout=timeout, notes_connections=True)
    if good.problems:
        return FaultReport(name, 1, _findings(name, [(seed, (), good.problems)]))
    chosen = _spread([fault for fault in _single_faults(good, hosts) if fault.kind in faults], runs_max)
    run = partial(_problems, scenario, seed, invariants=invariants, timeout=timeout)
    found = zip(chosen, map_on_cores(run, [(fault,) for fault in chosen], jobs), strict=True)
    return FaultReport(name, len(chosen) + 1, _findings(name, [(seed, (fault,), each) for fault, each in found]))


def chaos(
    scenario: Scenario,
    *,
    seeds: Iterable[int] = range(100),
    budget: int = BUDGET,
    faults: Collection[FaultKind] = FAULT_KINDS,
    hosts: Collection[str] | None = None,
    invariants: Sequence[Invariant] = (),
    timeout: float = TIMEOUT,
    jobs: int | None = None,
) -> FaultReport:
    """Run a scenario with several random faults for each seed. The faults of a run with a problem are shrunk.

    :param seeds: of the networks and of the faults.
    :param budget: the number of faults of a run.

    The other parameters are those of :func:`sweep`.
    """
    name = _settings(scenario, timeout, invariants)
    settings: dict[str, Any] = {"invariants": invariants, "timeout": timeout}
    run = partial(_chaotic_run, scenario, budget=budget, kinds=tuple(faults), hosts=hosts, settings=settings)
    found = list(map_on_cores(run, seeds, jobs))
    runs = [(seed, faults, [problem]) for seed, each in found for faults, problem in each]
    return FaultReport(name, len(found), _findings(name, runs), with_tests=True)


def replay(
    scenario: Scenario,
    *faults: str | Fault,
    seed: int = 0,
    invariants: Sequence[Invariant] = (),
    timeout: float = TIMEOUT,
) -> None:
    """Repeat a run that :func:`sweep` or :func:`chaos` has found.

    :param faults: their texts, as in ``"abort@9 client:50152--server:80"``.
    :raises AssertionError: with the problems and the end of the chart, if there still is a problem.
    :raises FaultError: for another text.

    A fault that has no effect any more is a warning: the program, or the scenario, has changed.
    """
    parsed = [parse_fault(fault) if isinstance(fault, str) else fault for fault in faults]
    outcome = run_scenario(scenario, seed, parsed, invariants=invariants, timeout=timeout)
    if outcome.problems:
        problems = "\n".join(map(str, outcome.problems))
        raise AssertionError(f"{problems}\n{outcome.network.trace.chart(CHART_EVENTS)}")
    for fault in outcome.without_effect:
        warnings.warn(f"the fault {str(fault)!r} had no effect; run sweep or chaos again", stacklevel=2)


def replay_command(name: str, seed: int, timeout: float, faults: Sequence[Fault] = ()) -> str:
    """Return the command that repeats a run of the scenario ``FILE::NAME``."""
    words = ["replay", name, "--seed", str(seed)]
    if timeout != TIMEOUT:
        words += ["--timeout", repr(timeout)]
    for fault in faults:
        words += ["--fault", str(fault)]
    return f"python -m netsvc.testing {shlex.join(words)}"


def _settings(scenario: Scenario, timeout: float, invariants: Sequence[Invariant]) -> ScenarioSettings:
    names = tuple(getattr(invariant, "__name__", "invariant") for invariant in invariants)
    return ScenarioSettings(scenario_name(scenario), timeout, names)


def _places(hosts: Collection[str] | None, good: RunOutcome) -> tuple[list[str], list[tuple[str, str]]]:
    """Return where faults can happen: the hosts that may crash and pause, and the pairs of hosts that talk."""
    if not good.steps:
        raise ScenarioError(
            "the scenario ends before any event, so no fault can happen; return a Deferred or a coroutine that fires "
            "when its work is done"
        )
    unknown = next((name for name in hosts or () if name not in good.network.hosts), None)
    if unknown is not None:
        raise FaultError(f"no host is called {unknown!r}; the hosts are {', '.join(good.network.hosts)}")
    return listening_hosts(good.network) if hosts is None else list(hosts), pairs_of_hosts(good.network)


def scenario_name(scenario: Any) -> str:
    """Return ``FILE::NAME`` of a scenario."""
    function = inspect.unwrap(scenario)
    try:
        file = os.path.relpath(inspect.getsourcefile(function) or "?")
    except (TypeError, ValueError):
        file = "?"
    return f"{file}::{getattr(function, '__qualname__', type(function).__name__)}"


def _single_faults(good: RunOutcome, hosts: Collection[str] | None) -> Iterator[Fault]:
    """Give each fault that can happen after each event of a good run."""
    names, pairs = _places(hosts, good)
    for after, connections in enumerate(good.connections[: good.steps], 1):
        for connection in connections:
            yield Fault("abort", after, connection.host, connection.peer, (connection.port, connection.peer_port))
            for one in (connection, connection.reversed()):
                yield Fault("close", after, one.host, one.peer, (one.port, one.peer_port))
        yield from (Fault("partition", after, *pair) for pair in pairs)
        for name in names:
            yield Fault("crash", after, name)
            yield Fault("pause", after, name)


def _spread(faults: list[Fault], most: int) -> list[Fault]:
    if len(faults) <= most:
        return faults
    return [faults[number * len(faults) // most] for number in range(most)]


def _problems(scenario: Scenario, seed: int, faults: Sequence[Fault], **settings: Any) -> list[Problem]:
    return run_scenario(scenario, seed, faults, **settings).problems


def _chaotic_run(
    scenario: Scenario,
    seed: int,
    *,
    budget: int,
    kinds: Sequence[FaultKind],
    hosts: Collection[str] | None,
    settings: dict[str, Any],
) -> tuple[int, list[tuple[tuple[Fault, ...], Problem]]]:
    """Return the seed, and each problem with the faults that suffice for it."""
    good = run_scenario(scenario, seed, **settings)
    if good.problems:
        return seed, [((), problem) for problem in good.problems]
    names, pairs = _places(hosts, good)
    chance = random.Random(f"{seed} chaos")
    faults: list[Fault] = []
    for _ in range(budget):
        kind = chance.choice(kinds)
        # Later than the good run as well: a fault makes a run longer.
        after = chance.randint(1, 2 * good.steps)
        seconds = SECONDS_MIN * (SECONDS_MAX / SECONDS_MIN) ** chance.random()
        if kind in ("crash", "pause"):
            if names:
                faults.append(Fault(kind, after, chance.choice(names), seconds=round(seconds, 3)))
        elif pairs:
            one, other = chance.sample(chance.choice(pairs), 2)
            faults.append(Fault(kind, after, one, other, seconds=round(seconds, 3)))
    found = []
    for problem in {_kind(problem): problem for problem in _problems(scenario, seed, faults, **settings)}.values():
        found.append(_shrunk(scenario, seed, faults, problem, good.steps, settings))
    return seed, found


def _shrunk(
    scenario: Scenario, seed: int, faults: list[Fault], problem: Problem, steps: int, settings: dict[str, Any]
) -> tuple[tuple[Fault, ...], Problem]:
    """Leave out faults, move a single one, and shorten them, as long as the problem remains.

    :param steps: events of the run without faults.
    """
    kind = _kind(problem)

    def still(candidate: list[Fault]) -> bool:
        nonlocal faults, problem
        found = [each for each in _problems(scenario, seed, candidate, **settings) if _kind(each) == kind]
        if found:
            faults, problem = candidate, found[0]
        return bool(found)

    while any(still(faults[:place] + faults[place + 1 :]) for place in range(len(faults))):
        pass
    if len(faults) > 1:  # without the others, the event of a fault may be another one, or none
        places = [steps * number // MOVES or 1 for number in range(1, MOVES + 1)]
        any(still([replace(fault, after=after)]) for fault in tuple(faults) for after in dict.fromkeys(places))
    for place, fault in enumerate(faults):
        for seconds in (0.01, 0.1, 1.0, 10.0):
            if fault.kind in ("abort", "close") or seconds >= fault.seconds:
                break
            if still([*faults[:place], replace(fault, seconds=seconds), *faults[place + 1 :]]):
                break
    return tuple(faults), problem


def _kind(problem: Problem) -> tuple[str, str]:
    """Return what two runs with the same problem have in common: what happened, and what is waited for."""
    summary = "\n".join(problem.text.splitlines()[:2])
    return problem.kind, re.sub(r"[0-9.]+|0x[0-9a-f]+", "#", summary)


def _findings(
    scenario: ScenarioSettings, runs: Iterable[tuple[int, tuple[Fault, ...], Sequence[Problem]]]
) -> tuple[FaultFinding, ...]:
    """Return one finding for each kind of fault and text of a problem, the simplest first."""
    found: dict[object, FaultFinding] = {}
    for seed, faults, problems in runs:
        for problem in problems:
            key = tuple(fault.kind for fault in faults), _kind(problem)
            known = found.get(key)
            if known is None:
                found[key] = FaultFinding(scenario, seed, faults, problem)
            else:
                found[key] = replace(known, also=known.also + 1)
    return tuple(sorted(found.values(), key=_complexity))


def _complexity(finding: FaultFinding) -> tuple[object, ...]:
    kinds = [FAULT_KINDS.index(fault.kind) for fault in finding.faults]
    events = [fault.after for fault in finding.faults]
    return len(kinds), kinds, PROBLEM_KINDS.index(finding.problem.kind), events, finding.seed
