"""The terms on which a service works: one value that every service receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from netsvc.limits.admission import Admission
from netsvc.limits.message_share import MessageShare
from netsvc.limits.stream_limits import StreamLimits
from netsvc.net.blocking import RunBlocking, blocking_runner
from netsvc.net.counters import Counters
from netsvc.net.reactors import Clock, monotonic_of


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What every service receives. :meth:`on` makes one with the default limits.

    :param clock: schedules calls: a reactor, or ``twisted.internet.task.Clock`` in a test.
    :param monotonic: returns seconds that no change of the system's time affects; for durations and rates.
    :param wall: returns seconds since the epoch; for time stamps.
    :param limits: what one stream connection may cost.
    :param admission: which connections are accepted.
    :param counters: where the service counts.
    :param run_blocking: runs a call that may block.
    :param log_connections: whether each connection is logged.
    :param message_share: divides the messages of a reactor iteration among connections.
    """

    clock: Clock
    monotonic: Callable[[], float]
    wall: Callable[[], float]
    limits: StreamLimits
    admission: Admission
    counters: Counters
    run_blocking: RunBlocking
    log_connections: bool = False
    message_share: MessageShare = field(default_factory=MessageShare)

    @classmethod
    def on(
        cls,
        clock: Clock,
        *,
        service: str = "",
        limits: StreamLimits | None = None,
        admission: Admission | None = None,
        message_share: MessageShare | None = None,
        log_connections: bool = False,
    ) -> Terms:
        """Return the terms of a service on a reactor, with the default limits where none are given.

        On a real reactor durations are measured by ``time.monotonic``. A clock in a test and a reactor of the simulated
        network tell both times themselves.

        :param clock: a reactor, or ``twisted.internet.task.Clock`` in a test.
        :param service: the name of the service in the log and the metrics.
        """
        monotonic = monotonic_of(clock)
        return cls(
            clock=clock,
            monotonic=monotonic,
            wall=clock.seconds,
            limits=StreamLimits() if limits is None else limits,
            admission=Admission() if admission is None else admission,
            counters=Counters(monotonic, service),
            run_blocking=blocking_runner(clock),
            log_connections=log_connections,
            message_share=MessageShare() if message_share is None else message_share,
        )
