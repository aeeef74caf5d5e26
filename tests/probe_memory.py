"""The memory of a probe that runs for long: ``python -m tests.probe_memory``.

The record of a STAMP target gets the probes of some minutes, with losses, duplicates and late answers. Every 10 seconds
a summary of the interval is read, as ``--every 10`` does. Python's own accounting (``tracemalloc``) tells its memory.
The counters of the histograms are in it as well.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Iterator
from random import Random

from netsvc.probe.probe_dialects import ReflectedTimes
from netsvc.probe.probe_record import ProbeRecord
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_target import ProbeTarget

SECOND = 1_000_000_000
MINUTE = 60 * SECOND

#: The clock of the reflector is ahead by this.
AHEAD = 3_600 * SECOND

#: Bytes by which the memory may grow in ten minutes.
GROWTH_MAX = 1 << 20


def grown(rate: int, minutes: int, step: int = 1) -> Iterator[int]:
    """Record probes. Yield the bytes of memory after every ``step`` minutes, less those before the first probe."""
    chance = Random(1)
    schedule = ProbeSchedule(0, SECOND // rate)
    record = ProbeRecord(ProbeTarget("stamp", "192.0.2.1", 862), "", schedule, SECOND)
    late: list[tuple[int, int]] = []
    counter = 0
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    next_step = step * MINUTE
    for sequence in range(minutes * 60 * rate):
        now = sequence * schedule.interval
        record.sent(sequence, now, now)
        record.transmitted(sequence, now + 10_000)
        fate = chance.random()
        if fate > 0.03:  # else it is lost there
            arrived = now + 20_000_000 + chance.randrange(500_000)
            times = ReflectedTimes(counter, arrived + AHEAD, arrived + AHEAD + 1_000, True, 0.001, 64)
            counter += 1
            if fate < 0.05:
                late.append((sequence, counter - 1))
            elif fate > 0.07:  # else it is lost back
                for _ in range(1 + (fate > 0.99)):
                    record.answered(sequence, arrived + 15_000_000, "kernel", 0, times=times)
        if late and now - late[0][0] * schedule.interval > 2 * SECOND:
            number, counted = late.pop(0)
            record.answered(number, now, "kernel", 0, times=ReflectedTimes(counted, AHEAD, AHEAD, True, 0.001, 64))
        if sequence % max(1, rate // 10) == 0:
            record.advance(now)
        if sequence % (10 * rate) == 0:
            record.interval(now)
        if now + schedule.interval >= next_step:
            next_step += step * MINUTE
            gc.collect()
            yield tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()


def main() -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Measure the memory of a probe that runs for long.")
    parser.add_argument("--rate", type=int, default=1_000, help="probes a second (default: 1000)")
    parser.add_argument("--minutes", type=int, default=15, help="of virtual time, at least 11 (default: 15)")
    options = parser.parse_args()
    sizes = []
    for minute, size in enumerate(grown(options.rate, options.minutes), 1):
        sizes.append(size)
        sys.stdout.write(f"{minute} min: {size / 1e6:.2f} MB\n")
        sys.stdout.flush()
    growth = sizes[-1] - sizes[-11]
    sys.stdout.write(f"growth in the last 10 minutes: {growth / 2**20:.3f} MiB\n")
    return growth >= GROWTH_MAX


if __name__ == "__main__":
    sys.exit(main())
