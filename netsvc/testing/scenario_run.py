"""One run of a scenario, with or without faults: its outcome, and the problems that it shows."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from twisted.internet.defer import AlreadyCalledError, Deferred

from netsvc.testing.diagnosis import LoggedFailures, failure_text
from netsvc.testing.events import StandstillError
from netsvc.testing.faults import Connection, Fault, open_connections
from netsvc.testing.global_reactor import is_installed, simulation
from netsvc.testing.network import Network, NetworkError

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

#: The exceptions of a scenario that are problems. All others are the answer of a program to a fault.
MISTAKES = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RecursionError, TypeError),
    AlreadyCalledError,
)


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
    :ivar steps: events until the scenario had its result.
    :ivar connections: for each of them, the connections that were open after it; only if they were asked for.
    :ivar network: the network after the run.
    """

    network: Network
    problems: list[Problem] = field(default_factory=list)
    steps: int = 0
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
    events = network._events
    pending = sorted(faults, key=lambda fault: fault.after)
    checked = list(invariants)

    def after_step() -> None:
        if notes_connections:
            outcome.connections.append(tuple(open_connections(network)))
        while pending and pending[0].after <= events.steps:
            pending.pop(0).happen(network)
        for invariant in checked:
            try:
                invariant(network)
            except Exception as e:
                checked.clear()
                name = getattr(invariant, "__name__", "invariant")
                outcome.problems.append(Problem("invariant broken", f"{name} after event {events.steps}: {_words(e)}"))
                break

    events.observe(after_step)
    with LoggedFailures() as logged, simulation() if is_installed() else nullcontext():
        try:
            _run(scenario, network, timeout)
        except StandstillError as e:
            outcome.problems.append(Problem("endless loop", str(e)))
            outcome.steps = events.steps
            return outcome
        except NetworkError as e:
            outcome.problems.append(Problem("no result", str(e)))
        except MISTAKES as e:
            outcome.problems.append(Problem("exception", _words(e)))
        except Exception:
            network.note("scenario", "has failed")
        outcome.steps = events.steps
        network.advance(GRACE)
        gc.collect()  # a Deferred logs its failure when it is collected
    outcome.problems += [Problem("failure logged", failure_text(failure)) for failure in logged.failures]
    return outcome


def _run(scenario: Scenario, network: Network, timeout: float) -> None:
    result = scenario(network)
    if isinstance(result, Deferred) or inspect.iscoroutine(result):
        network.run(result, timeout)


def _words(error: BaseException) -> str:
    place = inspect.getinnerframes(error.__traceback__)[-1] if error.__traceback__ else None
    where = f" ({place.filename.rpartition('/')[2]}:{place.lineno})" if place else ""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}{where}"
