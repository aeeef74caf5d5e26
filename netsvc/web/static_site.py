"""The files of a page, as a browser gets them: with hashed names, compressed, and under a strict policy.

There is no build step. The names of files in the page, in style sheets and in scripts are replaced when the server
starts, so a changed file has another name, and a browser may keep each for ever.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from netsvc.web.http_requests import Headers, HttpRequest, HttpResponse

#: The page loads nothing from elsewhere, no script or style is inline, and no page may show this one in a frame.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'"),
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"),
    ]
)

#: The headers of each answer.
SECURITY_HEADERS: Headers = (
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
)

_FOR_EVER = "public, max-age=31536000, immutable"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: Values of a list in a header that are read. A browser sends four codings, and one tag.
_VALUES_MAX = 16

#: The page itself.
INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class _File:
    headers: Headers
    tag: str
    body: bytes
    compressed: bytes


class StaticSite:
    """Answers requests for the files of a page.

    :param files: the contents, by name: ``index.html``, and the files that it and each other name. A name stands
        between quotes, with or without ``./`` before it.
    :param path: the path of the page, which begins and ends with ``/``.
    :raises ValueError: if files name each other in a circle.
    """

    def __init__(self, files: Mapping[str, bytes], path: str = "/") -> None:
        self.path = path
        hashed = _with_hashed_names(files)
        self._files = {name: _file(name, body) for name, body in hashed.items()}
        self._files[""] = self._files.pop(INDEX)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to a request."""
        if request.method not in ("GET", "HEAD"):
            return text_response(405, "only GET and HEAD are allowed", [("allow", "GET, HEAD")])
        if request.path + "/" == self.path:
            return text_response(308, "the page is there", [("location", self.path)])
        known = request.path.startswith(self.path)
        file = self._files.get(request.path.removeprefix(self.path)) if known else None
        if file is None:
            return text_response(404, "there is no such page")
        headers = [*SECURITY_HEADERS, *file.headers, ("etag", file.tag), ("vary", "accept-encoding")]
        if file.tag in (tag.strip().removeprefix("W/") for tag in _values(request.header("if-none-match"))):
            return HttpResponse(304, headers)
        if accepts_gzip(request.header("accept-encoding")):
            return HttpResponse(200, [*headers, ("content-encoding", "gzip")], file.compressed)
        return HttpResponse(200, headers, file.body)

    @property
    def weight(self) -> tuple[int, int]:
        """The bytes of all files, and the bytes of them compressed."""
        files = self._files.values()
        return sum(len(file.body) for file in files), sum(len(file.compressed) for file in files)


def text_response(status: int, text: str, headers: Headers = ()) -> HttpResponse:
    """Return an answer that is one line of text."""
    kind = ("content-type", "text/plain; charset=utf-8")
    no_store = ("cache-control", "no-store")
    return HttpResponse(status, [*SECURITY_HEADERS, kind, no_store, *headers], f"{text}\n".encode())


def accepts_gzip(header: str) -> bool:
    """Whether an ``Accept-Encoding`` header allows gzip (RFC 9110, section 12.5.3)."""
    parts = (part.replace(" ", "").lower().partition(";q=") for part in _values(header))
    qualities = {coding: quality for coding, _, quality in parts}
    named = next((coding for coding in ("gzip", "x-gzip", "*") if coding in qualities), None)
    return named is not None and not re.fullmatch(r"0(\.0*)?", qualities[named])


def files_in(folder: Traversable) -> dict[str, bytes]:
    """Return the files of a folder that a page may have, by name."""
    return {
        file.name: file.read_bytes() for file in folder.iterdir() if any(file.name.endswith(kind) for kind in _TYPES)
    }


def _values(header: str) -> list[str]:
    """Return the first values of a list in a header. It may have 16,000."""
    return header.split(",", _VALUES_MAX)[:_VALUES_MAX]


def _file(name: str, body: bytes) -> _File:
    kind = _TYPES["." + name.rpartition(".")[2]]
    cache = "no-cache" if name == INDEX else _FOR_EVER
    tag = f'"{_digest(body)}"'
    return _File((("content-type", kind), ("cache-control", cache)), tag, body, gzip.compress(body, 9, mtime=0))


def _with_hashed_names(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files, with hashed names and with the names in them replaced."""
    names = "|".join(re.escape(name) for name in files if name != INDEX)
    reference = re.compile(rf"""(["'])(\./)?({names})\1""".encode()) if names else None
    finished: dict[str, tuple[str, bytes]] = {}
    begun: set[str] = set()

    def finish(name: str) -> tuple[str, bytes]:
        if name in finished:
            return finished[name]
        if name in begun:
            raise ValueError(f"{name} names itself, or a file that names it")
        begun.add(name)

        def replaced(match: re.Match[bytes]) -> bytes:
            quote, prefix, other = match.groups()
            return quote + (prefix or b"") + finish(other.decode())[0].encode() + quote

        body = files[name] if reference is None else reference.sub(replaced, files[name])
        stem, _, kind = name.rpartition(".")
        hashed = name if name == INDEX else f"{stem}.{_digest(body)[:12]}.{kind}"
        finished[name] = hashed, body
        return finished[name]

    return dict(finish(name) for name in files)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
