"""The status page: ``/status`` for people, and ``/status.json``, which it reads each second."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files

from twisted.web.resource import Resource
from twisted.web.server import Request

from netsvc.net.http_site import ReadablePage, TextPage
from netsvc.net.reactors import Clock, monotonic_of
from netsvc.server.reported_server import ReportedServer
from netsvc.server.status_report import status_report

#: The files of the page: path, name in the folder ``status``, and type.
FILES = (
    (b"status", "status.html", b"text/html; charset=utf-8"),
    (b"status.css", "status.css", b"text/css; charset=utf-8"),
    (b"status.js", "status.js", b"text/javascript; charset=utf-8"),
)

#: The page runs no script and has no style but its own, sends nothing elsewhere, and is in no frame.
POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
HEADERS = (
    (b"content-security-policy", "; ".join(POLICY).encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


def status_pages(server: ReportedServer, clock: Clock) -> Iterator[tuple[bytes, Resource]]:
    """Yield the paths and pages. The uptime is counted from now.

    :param server: the server to report.
    :param clock: a reactor, or a ``Clock`` in a test.
    """
    monotonic = monotonic_of(clock)
    began, started = monotonic(), clock.seconds()

    def report() -> bytes:
        value = status_report(server, time=clock.seconds(), started=started, uptime=monotonic() - began)
        return json.dumps(value).encode() + b"\n"

    for path, name, content_type in FILES:
        text = (files("netsvc.server") / "status" / name).read_bytes()
        yield path, _StatusResource(content_type, partial(bytes, text))
    yield b"status.json", _StatusResource(b"application/json", report)


class _StatusResource(ReadablePage):
    """Something that a browser gets, with headers that allow it little."""

    def __init__(self, content_type: bytes, content: Callable[[], bytes]) -> None:
        super().__init__()
        self._content_type = content_type
        self._content = content

    def getChild(self, path: bytes, request: Request) -> Resource:
        return TextPage(lambda: (404, "not found\n"))

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", self._content_type)
        for name, value in HEADERS:
            request.setHeader(name, value)
        return self._content()
