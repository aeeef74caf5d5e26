"""The interface between the probers, which send and receive, and the record of a target, which judges and counts."""

from __future__ import annotations

from typing import Protocol

from netsvc.probe.probe_dialects import ReflectedTimes
from netsvc.probe.probe_ledger import StampSource

#: Nanoseconds between two looks at which probes are lost.
LOSS_INTERVAL = 100_000_000


class ProbeRecorder(Protocol):
    """Records what happens to the probes of one target. All times are nanoseconds.

    ``mono`` in the name of a time is the monotonic clock. The *offset* is the wall clock less the monotonic clock.
    """

    def sent(self, sequence: int, due: int, mono: int) -> None:
        """A probe was sent. The time was read right before."""

    def unsent(self, sequence: int, due: int, error: OSError) -> None:
        """The system refused to send a probe."""

    def transmitted(self, sequence: int, mono: int) -> None:
        """The kernel has passed a probe to the network at this time."""

    def answered(
        self,
        sequence: int,
        mono: int,
        source: StampSource,
        offset: int,
        *,
        void: bool = False,
        times: ReflectedTimes | None = None,
        handshake: int | None = None,
    ) -> None:
        """An answer has arrived.

        :param mono: when.
        :param source: who has told this time.
        :param void: the clock was set since the probe was sent, so the times cannot be compared.
        :param times: those of a STAMP reflector.
        :param handshake: how long the TLS handshake took on the connection that is the answer.
        """

    def corrupted(self, mono: int) -> None:
        """A damaged answer has arrived."""

    def foreign(self, mono: int) -> None:
        """An answer to another run has arrived."""

    def refused(self, error: OSError, count: int = 1) -> None:
        """The network, the target or this host has told that probes or answers were not delivered.

        :param error: such as an ICMP error.
        :param count: how many of them.
        """

    def advance(self, mono: int) -> bool:
        """Decide which probes are lost by now. Return whether some may still be answered in time."""
