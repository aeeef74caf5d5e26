"""``twist netsvc`` with a watch in it: how late a 10 ms timer was at worst, in the log at SIGUSR2.

python -m hostile.server REACTOR [flags of twist netsvc]
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.reactors import installReactor
from twisted.application.service import IService
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver

from netsvc.server.tap import Options, makeService

#: Seconds between two looks at the clock.
EVERY = 0.01


class Watch:
    """Sees how late a timer is.

    :param reactor: whose timer.
    """

    log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._worst = 0.0
        self._last = reactor.seconds()
        reactor.callLater(EVERY, self._look)

    def report(self) -> None:
        """Log the longest time between two looks since the last report."""
        self.log.info("worst gap {gap:.1f} ms", gap=self._worst * 1000)
        self._worst = 0.0

    def _look(self) -> None:
        now = self._reactor.seconds()
        self._worst = max(self._worst, now - self._last)
        self._last = now
        self._reactor.callLater(EVERY, self._look)


def main(reactor_name: str, *flags: str) -> None:
    """Serve until SIGTERM."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    reactor: Any = installReactor(reactor_name)
    options = Options()
    options.parseOptions(flags)
    service = IService(makeService(options))
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    watch = Watch(reactor)

    def handle(number: int, frame: object, report: Callable[[], None] = watch.report) -> None:
        reactor.callFromThread(report)

    reactor.callWhenRunning(signal.signal, signal.SIGUSR2, handle)
    reactor.callWhenRunning(watch.log.info, "Starting reactor...")
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
