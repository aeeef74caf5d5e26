"""Attacks on a server, and their effect on its other peers: ``python -m hostile [ATTACK...]``.

Each attack runs a server of its own on loopback, measures, and ends it. With ``--at`` it attacks any server that runs
on this host already. The figures are printed as a table. The exit status is 1 if a bound did not hold.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from hostile.attacks import ATTACKS
from hostile.finding import Attack, Finding
from hostile.target import NotPossibleError, Serving, running_already, serving
from netsvc.server.config import SERVICE_NAMES


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attacks and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m hostile", description="Attack netsvc and compare the results with bounds."
    )
    parser.add_argument(
        "attacks", nargs="*", metavar="ATTACK", help=f"attacks to run (default: all): {', '.join(ATTACKS)}"
    )
    parser.add_argument(
        "--reactor", nargs="+", default=["epoll", "uvloop"], help="reactors to test (default: epoll uvloop)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of a flood in seconds (default: 10)")
    parser.add_argument(
        "--at",
        action="append",
        type=_service,
        metavar="SERVICE=PORT",
        help="attack a port of this host on which tcp (an echo), chat, web or udp is served already; may be repeated",
    )
    parser.add_argument(
        "--pid", type=int, default=0, help="with --at: the process whose memory and open files are measured"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="with --at: run attacks that would start netsvc with more flags as well"
    )
    options = parser.parse_args(argv)
    for name in options.attacks:
        if name not in ATTACKS:
            parser.error(f"there is no attack {name!r}; there are {', '.join(ATTACKS)}")
    if (options.pid or options.anyway) and not options.at:
        parser.error("--pid and --anyway go with --at")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    targets: dict[str, Serving] = {reactor: partial(serving, reactor) for reactor in options.reactor}
    if options.at:
        targets = {"at": partial(running_already, dict(options.at), options.pid, options.anyway)}
    out, measured, failed = sys.stdout.write, 0, 0
    out("| attack | reactor | result | figure | bound | |\n|---|---|---|---:|---:|---|\n")
    for name in options.attacks or ATTACKS:
        for where, target in targets.items():
            for finding in found(name, ATTACKS[name], target, options.seconds):
                measured += 1
                failed += not finding.within_bound
                figure = "never" if math.isinf(finding.figure) else f"{finding.figure:,.4g} {finding.unit}".strip()
                bound = f"{finding.most:,.4g} {finding.unit}".strip()
                result = "passed" if finding.within_bound else "**failed**"
                out(f"| {name} | {where} | {finding.what} | {figure} | {bound} | {result} |\n")
                sys.stdout.flush()
    return 1 if failed or not measured else 0


def _service(text: str) -> tuple[str, int]:
    service, _, port = text.partition("=")
    if service not in SERVICE_NAMES or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not tcp=PORT, chat=PORT, web=PORT or udp=PORT")
    return service, int(port)


def found(name: str, attack: Attack, target: Serving, seconds: float) -> Iterator[Finding]:
    """Run one attack. A figure that cannot be measured is left out; an attack that the server breaks is a finding."""
    measured = False
    try:
        for finding in attack(target, seconds):
            if not math.isnan(finding.figure):
                measured = True
                yield finding
        if not measured:
            raise NotPossibleError("none of its figures can be measured from outside")
    except NotPossibleError as e:
        sys.stderr.write(f"hostile: {name} is left out: {e}\n")
    except (OSError, EOFError) as e:
        yield Finding(f"the attack itself failed: {e or type(e).__name__}", 1, 0, "")


if __name__ == "__main__":
    sys.exit(main())
