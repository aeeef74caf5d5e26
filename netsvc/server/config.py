"""Every knob of the server: its default, its unit and its meaning, once."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from netsvc.chat.lines import CHAT_BURST, CHAT_IDLE, CHAT_RATE
from netsvc.echo.reply_template import ReplyTemplate, TemplateError
from netsvc.errors import ConfigError
from netsvc.limits.admission import CONNECT_RATE, MAX_PER_HOST
from netsvc.limits.datagram_guard import MAX_SIZE
from netsvc.limits.networks import NetworkError, Networks, parse_network
from netsvc.limits.token_bucket import BURST, RATE, TOTAL
from netsvc.net import shared_ports
from netsvc.net.stream_protocol import TRANSPORT_BUFFER, Limits

DEFAULT_TCP = ("1314",)
DEFAULT_UDP = ("520",)

SERVICES = ("tcp", "udp", "chat")

#: Open files that connections leave to everything else.
SPARE_FILES = 64


def _file_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1_000_000


def _scoped(text: str) -> tuple[str, str]:
    """Split ``chat=192.0.2.0/24`` into its service and its network; without a service it is for all."""
    service, equals, network = text.rpartition("=")
    return (service, network) if equals else ("", text)


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
    tls_cert: str | None = _knob(None, "PEM file of a certificate and its chain: --tcp and --chat then speak TLS")
    tls_key: str | None = _knob(None, "PEM file of its key, unless that is in the same file")
    tls_client_ca: str | None = _knob(None, "PEM file of authorities; clients have to show a certificate of theirs")
    queue_max: int = _knob(
        Limits.queue_max, "bytes that may wait for one peer for half a second; then it is cut; 0: no limit"
    )
    stall_timeout: float = _knob(
        Limits.stall_timeout,
        "seconds a peer has to take what waits for it, if that is more than 64 KiB; then it is cut; 0: no limit",
    )
    close_timeout: float = _knob(
        Limits.close_timeout, "seconds a closing connection may take without progress; 0: no limit"
    )
    drain_timeout: float = _knob(5.0, "seconds for flushing what was accepted when the server stops; 0: no limit")
    handshake_timeout: float = _knob(
        Limits.handshake_timeout,
        "seconds that a TLS handshake, or a PROXY header, may take; then the peer is cut; 0: no limit",
    )
    line_timeout: float = _knob(
        Limits.line_timeout, "seconds from the beginning of a line to its end; then the peer is closed; 0: no limit"
    )
    idle_timeout: float = _knob(
        Limits.idle_timeout, "seconds without a byte from a peer of --tcp; then it is closed; 0: no limit"
    )
    chat_idle_timeout: float = _knob(
        CHAT_IDLE, "seconds without a line from a chat member, who is asked before; then it is closed; 0: no limit"
    )
    max_connections: int = _knob(
        max(1, _file_limit() - SPARE_FILES), "connections at a time; by default 64 less than open files; 0: no limit"
    )
    max_per_host: int = _knob(MAX_PER_HOST, "connections of one IPv4 address or IPv6 /64 at a time; 0: no limit")
    connect_rate: float = _knob(
        CONNECT_RATE, "connections a second of such a host, ten times as many at once; 0: no limit"
    )
    allow: Sequence[str] = _knob(
        (), "take only what comes from this network; chat=NETWORK, say, for one service alone; may be repeated"
    )
    proxy_from: Sequence[str] = _knob(
        (), "take the PROXY header (v1, v2) that comes from this network for who connects; may be repeated"
    )
    deny: Sequence[str] = _knob(
        (), "take nothing that comes from this network; chat=NETWORK, say, for one service alone; may be repeated"
    )
    chat_rate: float = _knob(CHAT_RATE, "lines a second that a chat member may say, more are read later; 0: no limit")
    chat_burst: int = _knob(CHAT_BURST, "lines that a chat member may say at once after a silence; 0: no limit")
    udp_rate: float = _knob(RATE, "answers a second for one IPv4 address or IPv6 /64; 0: no limit")
    udp_burst: int = _knob(BURST, "answers that such a source may have at once after a silence; 0: no limit")
    udp_total: float = _knob(TOTAL, "answers a second for all sources together; 0: no limit")
    udp_max_size: int = _knob(MAX_SIZE, "bytes in a datagram; a longer one is counted and not answered; 0: no limit")
    unicode_nicks: bool = _knob(False, "let chat members and rooms have names in any script, not only ASCII")
    metrics: str | None = _knob(
        None,
        "serve numbers for Prometheus on this port of 127.0.0.1, or this address and port: /metrics, /healthz, /readyz",
    )
    reuse_port: bool = _knob(False, "share the ports with other processes of this user that say so, too")

    def __post_init__(self) -> None:
        self._check_lists()
        for knob in fields(self):
            if isinstance(knob.default, bool):
                self._check_switch(knob.name)
            elif isinstance(knob.default, int | float):
                self._check_number(knob.name, whole=isinstance(knob.default, int))
        self._check_networks()
        self._check_together()

    def _check_lists(self) -> None:
        for setting in (*SERVICES, "allow", "deny", "proxy_from"):
            value = getattr(self, setting)
            if isinstance(value, str):
                raise ConfigError(setting, repr(value), "a list of strings is wanted", f'write ["{value}"]')
            if not isinstance(value, Iterable) or not all(isinstance(text, str) for text in value):
                example = "1314" if setting in SERVICES else "192.0.2.0/24"
                raise ConfigError(setting, repr(value), "a list of strings is wanted", f'write ["{example}"]')
            object.__setattr__(self, setting, tuple(value))
        if not (self.tcp or self.udp or self.chat):
            object.__setattr__(self, "tcp", DEFAULT_TCP)
            object.__setattr__(self, "udp", DEFAULT_UDP)

    def _check_networks(self) -> None:
        for setting in ("allow", "deny", "proxy_from"):
            for text in getattr(self, setting):
                service, network = _scoped(text) if setting != "proxy_from" else ("", text)
                if service not in ("", *SERVICES):
                    raise ConfigError(setting, text, f"there is no service {service!r}", "name tcp, udp or chat")
                if service and not getattr(self, service):
                    raise ConfigError(setting, text, f"{service} is not served", f"add {service}, or leave it out")
                try:
                    parse_network(network)
                except NetworkError as e:
                    raise ConfigError(setting, text, str(e), "write it as 192.0.2.0/24 or 2001:db8::1") from None

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
        if self.proxy_from and not (self.tcp or self.chat):
            raise ConfigError("proxy_from", self.proxy_from[0], "no proxy passes datagrams on", "add tcp or chat")
        if self.tls_cert == "":
            raise ConfigError("tls_cert", "''", "no file", "name a PEM file")
        for setting in ("tls_key", "tls_client_ca"):
            if getattr(self, setting) is not None and self.tls_cert is None:
                raise ConfigError(setting, getattr(self, setting), "there is no certificate", "add tls-cert")
        if self.tls_cert is not None and not (self.tcp or self.chat):
            raise ConfigError("tls_cert", self.tls_cert, "there is nothing to speak TLS", "add tcp or chat")
        if self.unicode_nicks and not self.chat:
            raise ConfigError("unicode_nicks", "", "there are no nicks", "add chat")
        if self.reuse_port and self.chat:
            raise ConfigError(
                "reuse_port",
                "",
                "each process would hold a chat of its own",
                "serve chat from one process, without it",
            )
        if self.reuse_port and not shared_ports.POSSIBLE:
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
        return Limits(
            queue_max=self.queue_max,
            stall_timeout=self.stall_timeout,
            close_timeout=self.close_timeout,
            handshake_timeout=self.handshake_timeout,
            line_timeout=self.line_timeout,
            idle_timeout=self.idle_timeout,
        )

    def networks(self, service: str) -> Networks:
        """Return from where ``tcp``, ``udp`` or ``chat`` may be reached."""

        def named(texts: Sequence[str]) -> list[str]:
            return [network for of, network in map(_scoped, texts) if of in ("", service)]

        return Networks(named(self.allow), named(self.deny))
