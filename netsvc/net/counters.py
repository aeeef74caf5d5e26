"""Counters of one service. Refusals and disconnects are also logged, at most once a second for each cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from twisted.logger import Logger

from netsvc.limits.cause import Cause
from netsvc.limits.source_counts import SourceCounts
from netsvc.net.store_counters import StoreCounters

#: Seconds between two log lines about the same cause.
LOG_INTERVAL = 1.0


class Counters:
    """Counts what happens in one service. Hot paths increment the counters directly.

    No bytes of a peer become a key or a log line. They could fill the memory, the metrics and the log.

    :param monotonic: returns the time in seconds.
    :param service: the name of the service in the log and the metrics.
    :ivar opened: connections that were accepted.
    :ivar closed: those of them that are closed.
    :ivar received_bytes: bytes that were read from peers.
    :ivar sent_bytes: bytes that were written to a transport or are queued for a peer.
    :ivar dropped_bytes: bytes that were queued for a peer when its connection was aborted, as far as is known.
    :ivar dropped_lines: lines that were read and not processed, because a limit or a deadline ended their connection.
    :ivar dropped_datagrams: datagrams that the system dropped because its buffer was full.
    :ivar replies: replies, echoed pieces and chat lines, one for each receiving peer.
    :ivar stalls: how often more than 64 KiB were queued for a peer.
    :ivar rate_limited: sources whose datagrams were refused because there were too many per second.
    :ivar refused: connections, datagrams, lines and names that were refused, by cause.
    :ivar disconnected: connections that were ended because of what the peer did or failed to do, by cause.
    :ivar unsent: datagrams that the system did not send, by the name of the error (``EHOSTUNREACH``).
    :ivar store: counters of the store that the service shares with other nodes; None without one.
    :ivar unreceived: how often the system failed to return a datagram, by the name of the error (``ENOMEM``).
    """

    log = Logger()

    def __init__(self, monotonic: Callable[[], float], service: str = "") -> None:
        self.service = service
        self.opened = self.closed = 0
        self.received_bytes = self.sent_bytes = self.dropped_bytes = 0
        self.dropped_lines = self.dropped_datagrams = self.replies = self.stalls = 0
        self.rate_limited = SourceCounts()
        self.refused: Counter[Cause] = Counter()
        self.disconnected: Counter[Cause] = Counter()
        self.unsent: Counter[str] = Counter()
        self.unreceived: Counter[str] = Counter()
        self.store: StoreCounters | None = None
        self._monotonic = monotonic
        self._quiet_until: dict[Cause, float] = {}
        self._logged: dict[Cause, int] = {}  # the count at the last log line
        self._drops_quiet_until = 0.0

    def summary(self) -> str:
        """Return all counters on one line."""
        tallies = (
            ("refused", _by_label(self.refused)),
            ("disconnected", _by_label(self.disconnected)),
            ("unsent", self.unsent),
            ("unreceived", self.unreceived),
        )
        return "; ".join(
            [
                f"connections: {self.opened - self.closed:,} open, {self.opened:,} in all",
                f"bytes: {self.received_bytes:,} received, {self.sent_bytes:,} sent, {self.dropped_bytes:,} dropped",
                f"replies: {self.replies:,}",
                f"stalls: {self.stalls:,}",
                *([f"lines: {self.dropped_lines:,} dropped"] if self.dropped_lines else []),
                *([f"datagrams: {self.dropped_datagrams:,} dropped by the system"] if self.dropped_datagrams else []),
                *(f"{name}: {_listed(tally)}" for name, tally in tallies if tally),
                *([self.store.summary()] if self.store is not None else []),
            ]
        )

    def refuse(self, cause: Cause, peer: str, detail: str = "") -> None:
        """Count a refusal. Log it, unless this cause was logged within the last second.

        :param peer: the peer's address.
        :param detail: more about the cause; a fixed text, nothing that the peer sent.
        """
        self.refused[cause] += 1
        if cause is Cause.DATAGRAM_RATE:
            self.rate_limited.add(peer)
        if self._monotonic() >= self._quiet_until.get(cause, 0.0):  # not a method: a flood calls this most
            self._log("refused", cause, peer, self.refused[cause], detail)

    def disconnect(self, cause: Cause, peer: str) -> None:
        """Count a disconnect. Log it, unless this cause was logged within the last second."""
        self.disconnected[cause] += 1
        if self._monotonic() >= self._quiet_until.get(cause, 0.0):
            self._log("disconnected", cause, peer, self.disconnected[cause])

    def drop_lines(self, count: int, peer: str) -> None:
        """Count lines that were read and will not be processed. Log it, unless this was logged within the last second.

        :param count: the number of lines.
        :param peer: the address of the peer that sent them.
        """
        self.dropped_lines += count
        now = self._monotonic()
        if now >= self._drops_quiet_until:
            self._drops_quiet_until = now + LOG_INTERVAL
            self.log.info(
                "{service}dropped {count:,} lines of {peer} ({total:,} in all): the connection ended before their time",
                service=self._prefix,
                count=count,
                peer=peer,
                total=self.dropped_lines,
            )

    @property
    def _prefix(self) -> str:
        """How log lines begin."""
        return f"{self.service}: " if self.service else ""

    def _log(self, action: str, cause: Cause, peer: str, count: int, detail: str = "") -> None:
        unlogged = count - self._logged.get(cause, 0) - 1
        self._logged[cause] = count
        self._quiet_until[cause] = self._monotonic() + LOG_INTERVAL
        self.log.info(
            "{service}{action} {peer}: {sentence}{detail}{unlogged}",
            service=self._prefix,
            action=action,
            peer=peer,
            sentence=cause.sentence,
            detail=f": {detail}" if detail else "",
            unlogged=f" ({unlogged:,} more since the last line)" if unlogged else "",
        )


def _by_label(tally: Mapping[Cause, int]) -> Counter[str]:
    return Counter({cause.label: count for cause, count in tally.items()})


def _listed(tally: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in tally.most_common())
