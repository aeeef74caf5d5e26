"""A server as a process: signals, the log, the limit of open files, and a refused start in one line.

``twist``, ``twistd`` and ``netsvc serve`` run the same service.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, cast

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python import log

from netsvc.errors import NetsvcError
from netsvc.limits.file_limit import raise_file_limit
from netsvc.server.assembly import NetsvcService, netsvc_service
from netsvc.server.config import Config
from netsvc.server.log_relay import LogRelay
from netsvc.server.signals import Signals, StoppableReactor


class StartRefused(SystemExit, Exception):  # noqa: N818  it ends the process; it reports no error
    """Ends the process with status 1.

    It is an ``Exception`` as well, so that ``twistd`` removes its pid file, and a daemon tells its parent why.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.code = 1


def refuse_start(line: str) -> NoReturn:
    """End the process with one line on the real standard error: ``twistd`` redirects the other to its log."""
    log.msg(line)  # for a daemon, which has no standard error
    print(line, file=sys.__stderr__, flush=True)
    raise StartRefused(line) from None


#: The descriptor of standard output.
STDOUT = 1


def _is_log_output(descriptor: int) -> bool:
    """Whether the descriptor is open, and neither a terminal nor /dev/null."""
    try:
        return not os.isatty(descriptor) and not os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))
    except OSError:
        return False


class ServerProcess(MultiService):
    """Handles signals and the log, and turns a refusal of the system into one line and the end of the process.

    :ivar signals: the signals that it handles.
    """

    def __init__(self, reactor: StoppableReactor, signals: Signals, serving: NetsvcService) -> None:
        super().__init__()
        self._reactor = reactor
        self.signals = signals
        self._serving = serving
        serving.setServiceParent(self)

    def privilegedStartService(self) -> None:
        self._start(super().privilegedStartService)

    def startService(self) -> None:
        self._relay_log()  # not earlier: twistd forks before this, and threads do not survive that
        self._start(super().startService)
        # The modules that are loaded now stay. If the garbage collector scanned their objects each time, a full
        # collection would take 25 ms more, and all peers would wait.
        gc.collect()
        gc.freeze()
        self._reactor.callWhenRunning(self.signals.install)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any] = maybeDeferred(super().stopService)
        return stopped.addBoth(self._restore_signals)

    def _relay_log(self) -> None:
        """Let no reader of standard output delay the server. On a terminal, Ctrl-S may."""
        if self._serving.log_relay is not None or not _is_log_output(STDOUT):
            return
        relay = LogRelay(STDOUT, lambda: self._reactor.callFromThread(self._serving.log_dropped_lines))
        self._serving.log_relay = relay
        relay.start()
        # The last of Twisted's own lines follow these triggers.
        self._reactor.addSystemEventTrigger("after", "shutdown", relay.stop)

    def _restore_signals(self, result: Any) -> Any:
        self.signals.restore()
        return result

    def _start(self, start: Callable[[], None]) -> None:
        try:
            start()
        except NetsvcError as e:
            refuse_start(f"netsvc: {e}")


def server_process(reactor: Any, config: Config) -> ServerProcess:
    """Return the service of a process that does nothing but serve ``config``. Call it before the reactor runs.

    :param reactor: the global reactor, of any kind.
    :raises ConfigError: as :func:`~netsvc.server.assembly.netsvc_service` does.
    """
    from twisted.internet.selectreactor import SelectReactor

    if not isinstance(reactor, SelectReactor):  # select() fails for files above 1,023
        raise_file_limit()
    serving = netsvc_service(reactor, config)
    stoppable = cast(StoppableReactor, reactor)
    return ServerProcess(stoppable, Signals(stoppable, serving.reload, serving.log_counters), serving)
