"""Attacks on a server, and what they do to everybody else: ``python -m hostile [ATTACK...]``.

Each attack runs its own ``twist netsvc`` on loopback, measures, and ends it. The figures are printed as a table; the
status is 1 if a bound did not hold.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence

from hostile.attacks import ATTACKS


def main(argv: Sequence[str] | None = None) -> int:
    """Attack, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m hostile", description="Attacks on netsvc, with bounds that hold.")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(ATTACKS)} (default: all)")
    parser.add_argument("--reactor", nargs="+", default=["epoll", "uvloop"], help="of twist (default: epoll uvloop)")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a flood lasts (default: 10)")
    options = parser.parse_args(argv)
    for name in options.attacks:
        if name not in ATTACKS:
            parser.error(f"there is no attack {name!r}; there are {', '.join(ATTACKS)}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    out, broken = sys.stdout.write, 0
    out("| attack | reactor | what came of it | figure | bound | |\n|---|---|---|---:|---:|---|\n")
    for name in options.attacks or ATTACKS:
        for reactor in options.reactor:
            for finding in ATTACKS[name](reactor, options.seconds):
                broken += not finding.holds
                out(
                    f"| {name} | {reactor} | {finding.what} | {finding.figure:,.4g} {finding.unit} "
                    f"| {finding.most:,.4g} {finding.unit} | {'holds' if finding.holds else '**broken**'} |\n"
                )
                sys.stdout.flush()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
