"""One run of a scenario, with or without faults: its outcome, and the problems that it shows."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from twisted.internet.defer import AlreadyCalledError, Deferred

import netsvc
import twisted
from netsvc.errors import NetsvcError
from netsvc.testing.diagnosis import LoggedFailures, failure_text, take_failures
from netsvc.testing.events import StandstillError
from netsvc.testing.faults import Connection, Fault, open_connections
from netsvc.testing.global_reactor import is_installed, simulation
from netsvc.testing.interruption import check_interrupt, interruptible_run
from netsvc.testing.network import Network, NoResultError
from netsvc.testing.not_simulated import NotSimulatedError


class ScenarioError(NetsvcError, ValueError):
    """The function is no scenario; the message says why."""


#: Sets up hosts on a network, and returns a Deferred or a coroutine that fires when the work is done; or None.
Scenario = Callable[[Network], Awaitable[Any] | None]

#: Is called after each event. It raises an exception if something is wrong.
Invariant = Callable[[Network], object]

#: The kinds of problems. ``no result``: the scenario's Deferred never fires. ``exception``: the scenario fails by an
#: assertion or a mistake of a program. ``failure logged``: an exception that nothing handles.
ProblemKind = Literal["no result", "endless loop", "invariant broken", "exception", "failure logged"]
PROBLEM_KINDS: tuple[ProblemKind, ...] = get_args(ProblemKind)

#: Virtual seconds in which a scenario has to have a result, and that pass afterwards, so that late failures are seen.
TIMEOUT, GRACE = 3600.0, 60.0

#: The exceptions of a scenario that are problems in a run with faults. All others are the answer of a program to a
#: fault. In a run without faults, every exception is a problem.
MISTAKES = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RecursionError, TypeError),
    *(AlreadyCalledError, NotSimulatedError, ScenarioError),
)

#: Events at one virtual time that are taken as an endless loop.
ENDLESS_LOOP = 200_000

_LIBRARIES = tuple(Path(str(package.__file__)).parent for package in (twisted, netsvc))


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a run."""

    kind: ProblemKind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class RunOutcome:
    """The outcome of a run.

    :ivar problems: what is wrong.
    :ivar steps: events until the scenario had its result. If it has none to wait for, all events.
    :ivar without_effect: the faults that did not happen: the run ended before, the connection was closed already, or
        the host was down.
    :ivar connections: for each of the steps, the connections that were open after it; only if they were asked for.
    :ivar network: the network after the run.
    """

    network: Network
    problems: list[Problem] = field(default_factory=list)
    steps: int = 0
    without_effect: list[Fault] = field(default_factory=list)
    connections: list[tuple[Connection, ...]] = field(default_factory=list)


def run_scenario(
    scenario: Scenario,
    seed: int = 0,
    faults: Sequence[Fault] = (),
    *,
    invariants: Sequence[Invariant] = (),
    timeout: float = TIMEOUT,
    notes_connections: bool = False,
) -> RunOutcome:
    """Run a scenario once.

    :param seed: of the network.
    :param faults: what happens to it.
    :param invariants: are called after each event, until one raises an exception.
    :param timeout: virtual seconds in which the scenario has to have a result.
    :param notes_connections: whether to note the connections that are open after each event.
    """
    network = Network(seed)
    outcome = RunOutcome(network)
    pending = sorted(faults, key=lambda fault: fault.after)
    checked = list(invariants)
    steps = 0

    def after_event(number: int) -> None:
        nonlocal steps
        check_interrupt()
        steps = number
        if notes_connections:
            outcome.connections.append(tuple(open_connections(network)))
        while pending and pending[0].after <= number:
            fault = pending.pop(0)
            if not fault.happen(network):
                outcome.without_effect.append(fault)
        for invariant in checked:
            try:
                invariant(network)
            except Exception as e:
                checked.clear()
                name = getattr(invariant, "__name__", "invariant")
                outcome.problems.append(Problem("invariant broken", f"{name} after event {number}: {_words(e)}"))
                break

    network.observe(after_event, endless_loop=ENDLESS_LOOP)
    with LoggedFailures() as logged, interruptible_run():
        try:
            with simulation() if is_installed() else nullcontext():
                try:
                    has_waited = _run(scenario, network, timeout)
                finally:
                    outcome.steps = steps
                network.advance(GRACE)
                if not has_waited:
                    outcome.steps = steps
        except KeyboardInterrupt:
            raise
        except BaseException as e:
            problem = _problem(e, is_faulty=bool(faults))
            if problem is not None:
                outcome.problems.append(problem)
        # Hosts may still refer to failed Deferreds. Twisted would log their failures at the end of a program.
        logged.failures += take_failures()
    outcome.problems += [Problem("failure logged", failure_text(failure)) for failure in logged.failures]
    outcome.without_effect += pending
    return outcome


def _problem(error: BaseException, *, is_faulty: bool) -> Problem | None:
    """Return the problem that an exception of a scenario is; None if it is none."""
    if isinstance(error, NoResultError):
        return Problem("no result", str(error))
    if isinstance(error, StandstillError):
        return Problem("endless loop", str(error))
    if type(error).__name__ == "Skipped":  # by pytest
        return None
    if is_faulty and isinstance(error, Exception) and not isinstance(error, MISTAKES):
        return None
    return Problem("exception", _words(error))


def _run(scenario: Scenario, network: Network, timeout: float) -> bool:
    """Call a scenario, and wait for its result. Return whether there was one to wait for."""
    result: Any = scenario(network)
    if isinstance(result, Deferred) or inspect.iscoroutine(result):
        network.run(result, timeout)
    elif hasattr(result, "__await__"):

        async def wait() -> None:
            await result

        network.run(wait(), timeout)
    elif result is not None:
        raise ScenarioError(f"the scenario returned {result!r}; return a coroutine, a Deferred or None")
    return result is not None


def _words(error: BaseException) -> str:
    places = traceback.extract_tb(error.__traceback__)
    own = [each for each in places if not any(library in Path(each.filename).parents for library in _LIBRARIES)]
    place = next(reversed(own or places), None)
    where = f" ({Path(place.filename).name}:{place.lineno})" if place else ""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}{where}"
