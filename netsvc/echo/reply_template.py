"""Templates of acknowledgements: what ``--reply`` sends for each message, such as ``got {message} at {time}``."""

from __future__ import annotations

import string
import time

from netsvc.errors import NetsvcError

#: The fields of a template: the message's bytes, the peer's address, the server's local time.
FIELDS = ("message", "peer", "time")


class TemplateError(NetsvcError, ValueError):
    """The template cannot be used; the message says why."""


class ReplyTemplate:
    """A text in which ``{message}``, ``{peer}`` and ``{time}`` are filled in. ``{{`` and ``}}`` stand for braces.

    :raises TemplateError: for any other field, for a format or conversion in a field, and for a single brace.
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise TemplateError(f"a template is a string, not {template!r}")
        self.template = template
        self._parts: list[bytes | str] = []  # literal bytes, or the name of a field
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as e:
            raise TemplateError(f"{e} (write a literal brace twice)") from None
        for literal, field, spec, conversion in parsed:
            self._parts.append(literal.encode("utf-8", "surrogateescape"))
            if field is None:
                continue
            if field not in FIELDS or spec or conversion:
                raise TemplateError(f"{{{field}}} is not a field")
            self._parts.append(field)

    def render(self, message: bytes, peer: str, now: float) -> bytes:
        """Return the acknowledgement of ``message`` from ``peer`` at ``now`` (seconds since the epoch)."""
        return b"".join(
            part if isinstance(part, bytes) else self._fill(part, message, peer, now) for part in self._parts
        )

    def _fill(self, field: str, message: bytes, peer: str, now: float) -> bytes:
        match field:
            case "message":
                return message
            case "peer":
                return peer.encode("utf-8", "surrogateescape")
            case _:
                return time.ctime(now).encode("ascii")
