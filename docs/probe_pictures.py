"""Make the pictures of ``netsvc probe`` in docs/images: ``python -m docs.probe_pictures``.

A responder is measured for 30 s, and suspended for 6 s meanwhile. The pictures are the report of the measurement, and
the live view at its end.
"""

from __future__ import annotations

import io
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from twisted.internet.task import react

from netsvc.cli.probe_screen import probe_picture
from netsvc.probe.probe_report import ReportedTarget, write_report
from netsvc.probe.probe_run import ProbeRun, ProbeSettings
from netsvc.probe.probe_target import ProbeTarget
from netsvc.reactor import asyncio
from tests.programs import serving

IMAGES = Path(__file__).parent / "images"
SETTINGS = ProbeSettings(interval=20_000_000, duration=30_000_000_000, timeout=1_000_000_000)
SUSPENDED_AT, SUSPENDED_FOR = 22.0, 6.0


async def measure(reactor: Any, stamp: int, tcp: int, pid: int) -> None:
    """Measure two targets, and write the pictures."""
    targets = [ProbeTarget("stamp", "127.0.0.1", stamp), ProbeTarget("tcp", "127.0.0.1", tcp)]
    runs = [ProbeRun(reactor, target, "127.0.0.1", SETTINGS, delay=500_000_000) for target in targets]
    for run in runs:
        run.start()
    reactor.callLater(SUSPENDED_AT, os.kill, pid, signal.SIGSTOP)
    reactor.callLater(SUSPENDED_AT + SUSPENDED_FOR, os.kill, pid, signal.SIGCONT)
    for run in runs:
        await run.finished
    write_report(
        str(IMAGES / "probe-report.svg"),
        [ReportedTarget(run.total(), run.record.series, run.record.buckets()) for run in runs],
    )
    console = Console(record=True, width=90, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(probe_picture([(run.total(), run.record.series) for run in runs], 90, 34))
    picture = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="netsvc probe"), flags=re.DOTALL)
    (IMAGES / "probe-live.svg").write_text(picture)  # no fonts of other hosts
    for run in runs:
        await run.stop()


def main() -> None:
    """Make the pictures."""
    asyncio.install()
    with serving("--stamp=127.0.0.1:0", "--tcp=127.0.0.1:0", "--connect-rate=0") as (server, ports):
        tcp, stamp = ports
        time.sleep(1)
        react(measure, [stamp, tcp, server.process.pid])


if __name__ == "__main__":
    main()
