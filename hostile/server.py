"""The services of ``twist netsvc``, with reports for the attacks: ports, counters, and the latency of a timer.

python -m hostile.server REACTOR REPORTS [flags of twist netsvc]

Each report is one line of JSON, appended to the file REPORTS: one when the reactor runs, and one at each SIGUSR2.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.application.reactors import installReactor
from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver, LogEvent, globalLogBeginner, globalLogPublisher, textFileLogObserver
from zope.interface import implementer

from netsvc.net.counters import Counters
from netsvc.net.listening import Listener
from netsvc.reactor.loop import LoopReactor
from netsvc.server.assembly import NetsvcService
from netsvc.server.tap import Options, makeService

#: Seconds between two calls of the timer whose latency is measured.
INTERVAL = 0.01


class TimerWatch:
    """Measures how late a 10 ms timer is, and how much processor time passes between two of its calls.

    On a busy machine a timer is also late because other processes run. Processor time tells what the server itself did.

    :param reactor: the reactor of the timer.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._longest = self._busiest = 0.0
        self._last = reactor.seconds()
        self._used = time.thread_time()
        reactor.callLater(INTERVAL, self._tick)

    def longest_gap(self) -> float:
        """Return the longest time between two calls since the last report, in milliseconds."""
        longest, self._longest = self._longest, 0.0
        return longest * 1000

    def busiest_gap(self) -> float:
        """Return the most processor time between two calls since the last report, in milliseconds."""
        busiest, self._busiest = self._busiest, 0.0
        return busiest * 1000

    def _tick(self) -> None:
        now, used = self._reactor.seconds(), time.thread_time()
        self._longest = max(self._longest, now - self._last)
        self._busiest = max(self._busiest, used - self._used)
        self._last, self._used = now, used
        self._reactor.callLater(INTERVAL, self._tick)


def _listeners(service: Any) -> list[Listener]:
    if isinstance(service, Listener):
        return [service]
    return (
        [listener for child in service for listener in _listeners(child)] if isinstance(service, MultiService) else []
    )


def _ports(listeners: Iterable[Listener]) -> list[int]:
    return [at.port for listener in listeners for at in listener.addresses() if hasattr(at, "port")]


def _numbers(counters: Counters) -> dict[str, Any]:
    """Return the counters of one service, by the names of their attributes; causes by their labels."""
    numbers: dict[str, Any] = {name: value for name, value in vars(counters).items() if isinstance(value, int)}
    for name in ("refused", "disconnected"):
        numbers[name] = {cause.label: count for cause, count in getattr(counters, name).items()}
    return numbers


def main(reactor_name: str, reports: str, *flags: str) -> None:
    """Serve until SIGTERM."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    reactor: Any = installReactor(reactor_name)
    options = Options()
    options.parseOptions(flags)
    service = IService(makeService(options))
    [serving] = [child for child in service if isinstance(child, NetsvcService)]  # type: ignore[attr-defined]
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    watch = TimerWatch(reactor)

    refusal_lines = 0

    @implementer(ILogObserver)
    def count_lines(event: LogEvent) -> None:
        """Count the log lines about refusals: those of Counters, which have a cause, and Twisted's own."""
        nonlocal refusal_lines
        refusal_lines += "sentence" in event or event.get("log_namespace") == "log_legacy"

    globalLogPublisher.addObserver(count_lines)

    def report() -> None:
        line = {
            "refusal_lines": refusal_lines,
            "ports": _ports(_listeners(serving)),
            "pages_port": sum(_ports([serving.pages])) if serving.pages else 0,
            "has_monotonic_timers": isinstance(reactor, LoopReactor),
            "longest_gap": watch.longest_gap(),
            "busiest_gap": watch.busiest_gap(),
            "services": {counters.service: _numbers(counters) for counters in serving.counters},
        }
        with Path(reports).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def at_signal(number: int, frame: object) -> None:
        reactor.callFromThread(report)

    reactor.callWhenRunning(signal.signal, signal.SIGUSR2, at_signal)
    reactor.callWhenRunning(report)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
