"""The interface of a server to the pages that report it, and the tables of its counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.net.counters import Counters
from netsvc.probe.bucketed_durations import BucketedDurations
from netsvc.probe.probe_counters import RunningCounters
from netsvc.probe.probe_summary import ClockSummary, ProbeSummary
from netsvc.probe.probe_target import ProbeTarget

#: Sources of each service that are listed, those that were refused most.
TOP_SOURCES = 5

#: The counters of each service: name of the metric, meaning, and attribute of
#: :class:`~netsvc.net.counters.Counters`, which is the name in ``/status.json``.
TOTALS = (
    ("netsvc_connections_opened", "Connections that were accepted.", "opened"),
    ("netsvc_received_bytes", "Bytes that were read from peers.", "received_bytes"),
    ("netsvc_sent_bytes", "Bytes that were sent to peers or are queued for them.", "sent_bytes"),
    ("netsvc_dropped_bytes", "Bytes that were queued for a peer when its connection was aborted.", "dropped_bytes"),
    ("netsvc_dropped_lines", "Lines that were read and not processed before their connection ended.", "dropped_lines"),
    ("netsvc_dropped_datagrams", "Datagrams that the system dropped because its buffer was full.", "dropped_datagrams"),
    ("netsvc_replies", "Replies, echoed pieces and chat lines, one for each receiving peer.", "replies"),
    ("netsvc_stalls", "How often more than 64 KiB were queued for a peer.", "stalls"),
)
BY_CAUSE = (
    ("netsvc_refused", "Connections, datagrams, lines and names that were refused, by cause.", "refused"),
    ("netsvc_disconnected", "Connections that were ended because of the peer, by cause.", "disconnected"),
    ("netsvc_unsent", "Datagrams that the system did not send, by error.", "unsent"),
    ("netsvc_unreceived", "How often the system failed to return a datagram, by error.", "unreceived"),
)
#: The counters of a store that does not answer at once, and attribute of
#: :class:`~netsvc.net.store_counters.StoreCounters`.
OF_STORE = (
    ("netsvc_store_connections", "How often the store was connected, or its file opened.", "connections"),
    ("netsvc_store_appends", "Lines that the store has answered.", "appends"),
    ("netsvc_store_append_seconds", "How long these answers took, in all.", "append_seconds"),
    ("netsvc_store_refused", "Lines that the store has refused.", "refused"),
    ("netsvc_store_gaps", "How often messages of the store were missing.", "gaps"),
    ("netsvc_store_filled_entries", "Entries that were read because their messages were missing.", "filled"),
    ("netsvc_store_new_logs", "How often a log was begun anew, or has lost its last entries.", "new_logs"),
)


class ReportedChat(Protocol):
    """A chat, as the pages report it: a :class:`~netsvc.chat.hub.ChatHub`."""

    def __len__(self) -> int:
        """Return the number of members of this process."""

    def rooms(self) -> Mapping[str, int]:
        """Return the rooms with members of this process, and how many."""


class ReportedProbe(Protocol):
    """A target that is measured, as the pages report it: a :class:`~netsvc.probe.probe_service.ProbeService`."""

    @property
    def target(self) -> ProbeTarget:
        """The target."""

    @property
    def is_up(self) -> bool:
        """Whether its last probes were answered."""

    @property
    def counters(self) -> RunningCounters:
        """Its counters, as of the last call of :meth:`count`."""

    @property
    def durations(self) -> Mapping[str, BucketedDurations]:
        """Its histograms, by the names of ``probe_service.BUCKETED``."""

    @property
    def clock(self) -> ClockSummary | None:
        """Its clock, as of the last call of :meth:`count`; None if it is not known."""

    def count(self) -> None:
        """Bring the counters up to date."""

    def summary(self) -> ProbeSummary:
        """Return the numbers of the last minute."""


class ReportedServer(Protocol):
    """A server, as the pages report it."""

    @property
    def counters(self) -> Sequence[Counters]:
        """The counters of each service."""

    @property
    def connections(self) -> ConnectionCounter:
        """The connections of all services."""

    @property
    def chat(self) -> ReportedChat | None:
        """The chat; None without one."""

    @property
    def probes(self) -> Sequence[ReportedProbe]:
        """The targets that are measured."""

    @property
    def certificate_expires(self) -> float | None:
        """When the certificate in use expires, in seconds since the epoch; None without TLS."""

    @property
    def dropped_log_lines(self) -> int:
        """How many lines of the log were dropped because it was not read."""

    def is_ready(self) -> bool:
        """Whether the services accept new peers."""
