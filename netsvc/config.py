"""Every knob of the server: its default, its unit and its meaning, once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from netsvc import shared_port
from netsvc.bucket import BURST, RATE, TOTAL
from netsvc.chat.server import CHAT_BURST, CHAT_RATE
from netsvc.errors import ConfigError
from netsvc.guard import MAX_SIZE
from netsvc.reply import ReplyTemplate, TemplateError
from netsvc.stream import TRANSPORT_BUFFER, Limits

DEFAULT_TCP = ("1314",)
DEFAULT_UDP = ("520",)


def _knob(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to serve, and within which limits. Frozen; ``dataclasses.replace`` makes a changed copy.

    ``tcp``, ``udp`` and ``chat`` take the same strings as the flags: a port (``"1314"``: every address of
    the host, IPv4 and IPv6), an address and port (``"127.0.0.1:1314"``, ``"[::1]:1314"``), or a Twisted
    endpoint description (``"ssl:1315:privateKey=key.pem:certKey=cert.pem"``, ``"unix:/run/netsvc.sock"``).
    With none of the three, TCP port 1314 echoes and UDP port 520 tells the time.

    Sizes are bytes, times are seconds, and 0 means no limit.

    :raises ConfigError: for a value that means nothing.
    """

    tcp: Sequence[str] = _knob((), "echo streams there; with reply, acknowledge messages instead")
    udp: Sequence[str] = _knob((), "answer datagrams there with [ctime] and what they held")
    chat: Sequence[str] = _knob((), "chat rooms there, one line a message")
    reply: str | None = _knob(
        None, "acknowledge each message on --tcp with this text: {message}, {peer} and {time} are filled in"
    )
    framing: Literal["raw", "line"] = _knob(
        "raw", "what --reply takes for a message: raw (each piece that arrives) or line"
    )
    queue_max: int = _knob(
        Limits.queue_max, "bytes that may wait for one peer that does not read; then it is cut; 0: no limit"
    )
    stall_timeout: float = _knob(
        Limits.stall_timeout,
        "seconds a peer has to take what waits for it, if that is more than 64 KiB; then it is cut; 0: no limit",
    )
    close_timeout: float = _knob(
        Limits.close_timeout, "seconds a closing connection may take without progress; 0: no limit"
    )
    drain_timeout: float = _knob(5.0, "seconds for flushing what was accepted when the server stops; 0: no limit")
    chat_rate: float = _knob(CHAT_RATE, "lines a second that a chat member may say, more are read later; 0: no limit")
    chat_burst: int = _knob(CHAT_BURST, "lines that a chat member may say at once after a silence; 0: no limit")
    udp_rate: float = _knob(RATE, "answers a second for one IPv4 address or IPv6 /64; 0: no limit")
    udp_burst: int = _knob(BURST, "answers that such a source may have at once after a silence; 0: no limit")
    udp_total: float = _knob(TOTAL, "answers a second for all sources together; 0: no limit")
    udp_max_size: int = _knob(MAX_SIZE, "bytes in a datagram; a longer one is counted and not answered; 0: no limit")
    reuse_port: bool = _knob(False, "share the ports with other processes of this user that say so, too")

    def __post_init__(self) -> None:
        self._check_listening()
        for knob in fields(self):
            if isinstance(knob.default, bool):
                self._check_switch(knob.name)
            elif isinstance(knob.default, int | float):
                self._check_number(knob.name, whole=isinstance(knob.default, int))
        self._check_together()

    def _check_listening(self) -> None:
        for setting in ("tcp", "udp", "chat"):
            value = getattr(self, setting)
            if isinstance(value, str):
                raise ConfigError(setting, repr(value), "a list of strings is wanted", f'write ["{value}"]')
            if not isinstance(value, Iterable) or not all(isinstance(text, str) for text in value):
                raise ConfigError(setting, repr(value), "a list of strings is wanted", 'write ["1314"]')
            object.__setattr__(self, setting, tuple(value))
        if not (self.tcp or self.udp or self.chat):
            object.__setattr__(self, "tcp", DEFAULT_TCP)
            object.__setattr__(self, "udp", DEFAULT_UDP)

    def _check_together(self) -> None:
        if self.framing not in ("raw", "line"):
            raise ConfigError("framing", self.framing, "there are raw and line", "choose one of them")
        if self.framing != "raw" and self.reply is None:
            raise ConfigError("framing", self.framing, "an echo has no messages to frame", "add reply")
        if self.reply is not None and not self.tcp:
            raise ConfigError("reply", repr(self.reply), "there is nothing to reply to", "add tcp")
        if 0 < self.queue_max < TRANSPORT_BUFFER:
            raise ConfigError(
                "queue_max", self.queue_max, "one read may bring more", f"give {TRANSPORT_BUFFER} or more, or 0"
            )
        if self.reuse_port and self.chat:
            raise ConfigError(
                "reuse_port",
                "",
                "each process would hold a chat of its own",
                "serve chat from one process, without it",
            )
        if self.reuse_port and not shared_port.POSSIBLE:
            raise ConfigError("reuse_port", "", "this system does not deal out what comes", "leave it out")
        self.reply_template()

    def _check_switch(self, setting: str) -> None:
        value = getattr(self, setting)
        if not isinstance(value, bool):
            raise ConfigError(setting, repr(value), "neither True nor False", "give one of them")

    def _check_number(self, setting: str, *, whole: bool) -> None:
        value = getattr(self, setting)
        wanted = "a whole number" if whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise ConfigError(setting, value, f"not {wanted}", f"give {wanted} from 0, which means no limit")
        if not math.isfinite(value) or value < 0:
            raise ConfigError(setting, value, "out of range", f"give {wanted} from 0, which means no limit")

    def reply_template(self) -> ReplyTemplate | None:
        """Return ``reply`` ready for use, or None when streams are echoed."""
        if self.reply is None:
            return None
        try:
            return ReplyTemplate(self.reply)
        except TemplateError as e:
            raise ConfigError(
                "reply", repr(self.reply), str(e), "write {message}, {peer}, {time}, or {{ for a brace"
            ) from None

    def limits(self) -> Limits:
        """Return what one stream connection may cost."""
        return Limits(queue_max=self.queue_max, stall_timeout=self.stall_timeout, close_timeout=self.close_timeout)
