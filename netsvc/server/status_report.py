"""The report of ``/status.json``: what a server does now, as one value. A reference page lists the fields."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest
from typing import Any

import netsvc
from netsvc.limits.cause import Cause
from netsvc.limits.connection_counter import TOP_NETWORKS
from netsvc.net.counters import Counters
from netsvc.net.store_counters import StoreCounters
from netsvc.server.reported_server import (
    BY_CAUSE,
    OF_STORE,
    TOP_SOURCES,
    TOTALS,
    ReportedChat,
    ReportedServer,
)

#: The version of the format. It changes when a field is removed or gets another meaning, not with a new field.
VERSION = 1

#: The number of rooms that are listed.
ROOMS_MAX = 50


def status_report(server: ReportedServer, *, time: float, started: float, uptime: float) -> dict[str, Any]:
    """Return the report, which JSON can encode.

    :param time: the seconds since the epoch.
    :param started: the same at the start of the server. It identifies the run to which the counters belong.
    :param uptime: the monotonic seconds since then. The growth of a counter between two reports, divided by the growth
        of this, is its rate.
    """
    counted = server.counters
    return {
        "version": VERSION,
        "netsvc": netsvc.__version__,
        "time": round(time, 3),
        "started": round(started, 3),
        "uptime": round(uptime, 3),
        "ready": server.is_ready(),
        "services": [_service(counters) for counters in counted],
        "causes": {cause.label: cause.sentence for cause in _causes(counted)},
        "networks": [
            {"network": network, "connections": count} for network, count in server.connections.top(TOP_NETWORKS)
        ],
        "chat": None if server.chat is None else _chat(server.chat, _store_of(counted)),
        "probes": [{"up": probe.is_up, "summary": probe.summary().to_json()} for probe in server.probes],
        "certificate_expires": server.certificate_expires,
        "dropped_log_lines": server.dropped_log_lines,
    }


def _service(counters: Counters) -> dict[str, Any]:
    tallies = {attribute: getattr(counters, attribute) for _, _, attribute in BY_CAUSE}
    return {
        "service": counters.service,
        "open": counters.opened - counters.closed,
        **{attribute: getattr(counters, attribute) for _, _, attribute in TOTALS},
        **{
            attribute: {getattr(cause, "label", cause): count for cause, count in tally.items()}
            for attribute, tally in tallies.items()
        },
        "rate_limited": [
            {"network": source, "datagrams": count} for source, count in counters.rate_limited.top(TOP_SOURCES)
        ],
    }


def _causes(counted: Sequence[Counters]) -> list[Cause]:
    """Return the causes that were counted, in the order of their definition."""
    found = {cause for counters in counted for tally in (counters.refused, counters.disconnected) for cause in tally}
    return [cause for cause in Cause if cause in found]


def _store_of(counted: Sequence[Counters]) -> StoreCounters | None:
    """Return the counters of the store. One of the services has them; none if the store is in memory."""
    return next((counters.store for counters in counted if counters.store is not None), None)


def _chat(chat: ReportedChat, store: StoreCounters | None) -> dict[str, Any]:
    rooms = chat.rooms()
    largest = nsmallest(ROOMS_MAX, rooms.items(), key=lambda room: (-room[1], room[0]))
    return {
        "members": len(chat),
        "room_count": len(rooms),
        "rooms": [{"name": name, "members": members} for name, members in largest],
        "store": {"kind": "memory"} if store is None else _store(store),
        "nodes": None if store is None else _nodes(store),
    }


def _store(store: StoreCounters) -> dict[str, Any]:
    waiting, oldest = store.waiting()
    return {
        "kind": store.kind,
        "connected": store.is_connected,
        "waiting": waiting,
        "oldest_wait": round(oldest, 3),
        **{attribute: getattr(store, attribute) for _, _, attribute in OF_STORE},
    }


def _nodes(store: StoreCounters) -> dict[str, Any] | None:
    if store.nodes is None:
        return None
    own, alive = store.nodes()
    return {"own": own, "alive": alive or None}
