"""``python -m netsvc.testing``: search for bugs of a scenario, by faults or by seeds, outside of pytest."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import inspect
import io
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from netsvc.testing.global_reactor import install
from netsvc.testing.interruption import handle_interrupts

_STATUS_USAGE = 64

#: Seeds with a problem that are shown.
_SHOWN = 3


class _Parser(argparse.ArgumentParser):
    """Ends with the status of wrong arguments that netsvc's commands have."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(_STATUS_USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Return 0 if it found no problem, 1 if it did, and 64 for wrong arguments."""
    options = _parser().parse_args(arguments)
    handle_interrupts()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a report may have any text
    try:
        return _run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads the report any more
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options: argparse.Namespace) -> int:
    install()  # before the scenario imports the reactor
    from twisted.logger import globalLogBeginner

    from netsvc.testing.faults import FaultError
    from netsvc.testing.parallel_runs import WorkerEndedError
    from netsvc.testing.scenario_run import ScenarioError

    nowhere: Any = lambda _event: None  # noqa: E731
    globalLogBeginner.beginLoggingTo([nowhere], redirectStandardIO=False)  # the report tells what matters
    try:
        status: int = options.call(_load(options.scenario), options)
        sys.stdout.flush()
    except (ScenarioError, FaultError) as e:
        sys.stderr.write(f"netsvc.testing: {e}\n")
        return _STATUS_USAGE
    except WorkerEndedError as e:
        sys.stderr.write(f"netsvc.testing: {e}\n")
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m netsvc.testing",
        description=(
            "Search for bugs on a simulated network. A scenario is FILE::NAME, a function that takes a Network, and "
            "returns a Deferred or a coroutine. twisted.internet.reactor is that of the host whose code runs."
        ),
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, call: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("scenario", metavar="FILE::NAME")
        added.add_argument(
            "--timeout", type=_seconds, default=3600.0, help="virtual seconds until a result has to be there"
        )
        added.set_defaults(call=call)
        return added

    def jobs(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--jobs", type=_number, help="processes at a time (default: one for each core)")

    one = command("sweep", _sweep, "Run a scenario once, and then again with one fault after each of its events.")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--faults", type=_kinds, default=None, metavar="KIND,...", help="abort, close, partition, ...")
    one.add_argument("--hosts", type=_names, default=None, metavar="NAME,...", help="hosts that may crash or pause")
    one.add_argument("--runs", type=_number, default=2_000, help="the number of runs at most (default: 2000)")
    jobs(one)
    several = command("chaos", _chaos, "Run a scenario with random faults for each seed, and shrink those that matter.")
    several.add_argument("--seeds", type=_number, default=100, help="the number of seeds (default: 100)")
    several.add_argument("--first-seed", type=int, default=0)
    several.add_argument("--budget", type=_number, default=5, help="faults of a run (default: 5)")
    several.add_argument("--faults", type=_kinds, default=None, metavar="KIND,...")
    several.add_argument("--hosts", type=_names, default=None, metavar="NAME,...", help="hosts that may crash or pause")
    jobs(several)
    search = command("search", _search, "Run a scenario, or a test whose only fixture is network, with many seeds.")
    search.add_argument("--seconds", type=_seconds, default=60.0, help="how long to search (default: 60)")
    search.add_argument("--first-seed", type=int, default=0)
    jobs(search)
    again = command("replay", _replay, "Repeat one run, with the faults that a report names.")
    again.add_argument(
        "--fault", action="append", default=[], help="as in 'crash@12 server 30s'; may be repeated", dest="faults"
    )
    again.add_argument("--seed", type=int, default=0)
    return parser


def _sweep(scenario: Any, options: argparse.Namespace) -> int:
    from netsvc.testing.fault_search import sweep
    from netsvc.testing.faults import FAULT_KINDS

    return _print(
        sweep(
            scenario,
            seed=options.seed,
            faults=options.faults or FAULT_KINDS,
            hosts=options.hosts,
            timeout=options.timeout,
            runs_max=options.runs,
            jobs=options.jobs,
        )
    )


def _chaos(scenario: Any, options: argparse.Namespace) -> int:
    from netsvc.testing.fault_search import chaos
    from netsvc.testing.faults import FAULT_KINDS

    return _print(
        chaos(
            scenario,
            seeds=range(options.first_seed, options.first_seed + options.seeds),
            budget=options.budget,
            faults=options.faults or FAULT_KINDS,
            hosts=options.hosts,
            timeout=options.timeout,
            jobs=options.jobs,
        )
    )


def _search(scenario: Any, options: argparse.Namespace) -> int:
    from netsvc.testing.fault_search import replay_command
    from netsvc.testing.parallel_runs import map_on_cores
    from netsvc.testing.scenario_run import run_scenario

    deadline = time.monotonic() + options.seconds

    def seeds() -> Iterator[int]:
        for seed in count(options.first_seed):
            if time.monotonic() >= deadline:
                return
            yield seed

    def run(seed: int) -> tuple[int, list[str]]:
        return seed, [str(problem) for problem in run_scenario(scenario, seed, timeout=options.timeout).problems]

    runs = failed = 0
    try:
        for seed, problems in map_on_cores(run, seeds(), options.jobs, chunk=1):
            runs += 1
            if problems:
                failed += 1
                if failed <= _SHOWN:
                    again = replay_command(options.scenario, seed, options.timeout)
                    sys.stdout.write(f"seed {seed}: {problems[0]}\n   {again}\n")
                    sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stdout.write(f"{runs:,} seeds, {failed:,} with a problem\n")
        raise
    sys.stdout.write(f"{runs:,} seeds, {failed:,} with a problem\n")
    return int(failed > 0)


def _replay(scenario: Any, options: argparse.Namespace) -> int:
    from netsvc.testing.fault_search import replay

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            replay(scenario, *options.faults, seed=options.seed, timeout=options.timeout)
        except AssertionError as e:
            sys.stdout.write(f"{e}\n")
            return 1
    sys.stdout.write("".join(f"{warning.message}\n" for warning in warned if "had no effect" in str(warning.message)))
    sys.stdout.write("no problem\n")
    return 0


def _print(report: Any) -> int:
    sys.stdout.write(f"{report}\n")
    return int(bool(report.findings))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; leave the option out, or write names")
    return names


def _kinds(text: str) -> list[str]:
    from netsvc.testing.faults import FAULT_KINDS

    names = _names(text)
    unknown = next((name for name in names if name not in FAULT_KINDS), None)
    if unknown is not None:
        raise argparse.ArgumentTypeError(f"no fault is called {unknown!r}; the faults are {', '.join(FAULT_KINDS)}")
    return names


def _load(text: str) -> Any:
    """Load ``FILE::NAME``.

    :raises ScenarioError: if there is no such function.
    """
    from netsvc.testing.scenario_run import ScenarioError

    file, separator, name = text.partition("::")
    path = Path(file)
    if not separator or not name:
        raise ScenarioError(f"{text}: the name of a function is missing; write {file}::NAME")
    if not path.is_file():
        raise ScenarioError(f"{file}: no such file; write FILE::NAME")
    sys.path[:0] = [os.getcwd(), str(path.parent.resolve())]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{file}: not a file of Python; write FILE.py::NAME")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # SystemExit too
        raise ScenarioError(f"{file} cannot be imported: {type(e).__name__}: {e}") from e
    function = getattr(module, name, None)
    if not callable(function):
        raise ScenarioError(f"{file} has no function {name}")
    signature = inspect.signature(function)
    try:
        signature.bind(None)
    except TypeError:
        found = ", ".join(signature.parameters) or "none"
        raise ScenarioError(
            f"{text}: the parameters are {found}; write a function whose only one is the network"
        ) from None
    return function


if __name__ == "__main__":
    sys.exit(main())
