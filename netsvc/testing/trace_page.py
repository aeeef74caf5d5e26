"""A trace as a page: a sequence chart with zoom and filters, in one file that loads nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files

from netsvc.testing.trace_event import TraceEvent

#: Payload bytes of a packet that the page shows.
SHOWN = 256


def page(events: Iterable[TraceEvent], title: str) -> str:
    """Return the page.

    :param title: what was tested.
    """
    listed = [
        [
            round(event.time, 9),
            event.source,
            event.destination,
            event.ports,
            event.kind,
            event.length,
            event.outcome,
            event.data[:SHOWN].hex(),
        ]
        for event in events
    ]
    # In a script, "<" could begin its end.
    data = json.dumps({"title": title, "events": listed}, separators=(",", ":")).replace("<", "\\u003c")
    template = files("netsvc.testing").joinpath("trace_page.html").read_text("utf-8")
    return template.replace("/*DATA*/null", data)
