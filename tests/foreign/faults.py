"""Programs that netsvc did not write, under faults: ``python -m tests.foreign.faults``.

A sweep injects one fault after each event of a scenario, and chaos injects several.
docs/reports/programs-under-faults.md tells what came of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from twisted.logger import globalLogBeginner

from netsvc.testing import FaultReport, chaos, install, sweep
from netsvc.testing.faults import FAULT_KINDS


def main(argv: Sequence[str] | None = None) -> int:
    """Search each scenario, and print what was found. The status is 0: these are not netsvc's problems."""
    parser = argparse.ArgumentParser(prog="python -m tests.foreign.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", help="names of scenarios (default: all)")
    parser.add_argument("--runs", type=int, default=1_000, help="runs of each sweep at most (default: 1000)")
    parser.add_argument("--seeds", type=int, default=50, help="chaotic runs of each scenario (default: 50)")
    parser.add_argument("--faults", default=",".join(FAULT_KINDS), help="the kinds of faults (default: all)")
    options = parser.parse_args(argv)
    nowhere: Any = lambda _event: None  # noqa: E731
    globalLogBeginner.beginLoggingTo([nowhere], redirectStandardIO=False)  # the reports tell what matters
    install()
    from tests.foreign.fault_scenarios import SCENARIOS  # late: the programs import the reactor

    kinds: Any = options.faults.split(",")
    for scenario in SCENARIOS:
        if options.scenarios and getattr(scenario, "__name__", "") not in options.scenarios:
            continue
        for search in ("sweep", "chaos"):
            began = time.monotonic()
            report: FaultReport = (
                sweep(scenario, runs_max=options.runs, faults=kinds)
                if search == "sweep"
                else chaos(scenario, seeds=range(options.seeds), faults=kinds)
            )
            sys.stdout.write(f"{search} ({time.monotonic() - began:.1f} s) {report}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
