"""Every setting of the server: its default, its unit and its meaning, in one place.

The flags of ``twist netsvc`` and the reference page of flags follow from the fields of :class:`Config`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Literal

from netsvc.chat.chat_limits import DELIVERIES_RATE, HISTORY_AGE, HISTORY_MAX, REPLAY, ROOMS_MAX, ROOMS_PER_HOST
from netsvc.chat.pace import CHAT_BURST, CHAT_IDLE_TIMEOUT, CHAT_RATE
from netsvc.echo.reply_template import ReplyTemplate, TemplateError
from netsvc.errors import ConfigError, flag_of
from netsvc.limits.admission import CONNECT_RATE, HANDSHAKE_RATE
from netsvc.limits.connection_counter import MAX_PER_HOST, MAX_PER_NETWORK
from netsvc.limits.datagram_guard import MAX_SIZE
from netsvc.limits.networks import InvalidNetworkError, IPNetwork, NetworkRules, parse_network
from netsvc.limits.numbers import NO_LIMIT, check_number
from netsvc.limits.stream_limits import KERNEL_SIZE, StreamLimits
from netsvc.limits.token_bucket import BURST, RATE, TOTAL
from netsvc.probe.probe_target import ProbeTarget, ProbeTargetError, parse_probe_target
from netsvc.redis.redis_address import RedisAddress, parse_redis_address
from netsvc.stamp.stamp_sessions import SESSIONS_MAX
from netsvc.web.request_origin import parse_origin
from netsvc.wire.listening_string import Transport, opened_transports

#: A path that a page may have: segments of unreserved characters (RFC 3986).
_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+/)*(?:[A-Za-z0-9._~-]+)?")

DEFAULT_TCP = ("1314",)
DEFAULT_UDP = ("520",)

#: The least and the most seconds between two probes of a target.
PROBE_INTERVALS = (0.01, 3600.0)

#: The kinds of settings. ``listen``, ``networks`` and ``names`` are lists, whose flags may be repeated.
Kind = Literal["listen", "networks", "number", "whole number", "text", "switch", "names"]


@dataclass(frozen=True)
class Setting:
    """The metadata of one field of :class:`Config`.

    :param kind: what its value is.
    :param meaning: one or two sentences for ``--help`` and the reference page.
    :param metavar: what stands for the value in the documentation: ``WHERE``, ``SECONDS``.
    :param group: the heading of the reference page.
    :param default_text: the default in words, if the value itself does not say it.
    :param choices: the values that are allowed, if they are few.
    :param transports: for listening strings, what the service serves.
    :param zero: of a number, what 0 means; empty if 0 is not allowed.
    """

    kind: Kind
    meaning: str
    metavar: str
    group: str
    default_text: str = ""
    choices: tuple[str, ...] = ()
    transports: tuple[Transport, ...] = ()
    zero: str = ""


def _setting(default: Any, kind: Kind, metavar: str, group: str, meaning: str, **more: Any) -> Any:
    return field(default=default, metadata={"setting": Setting(kind, meaning, metavar, group, **more)})


def _number(
    default: float | None,
    metavar: str,
    group: str,
    meaning: str,
    zero: str = NO_LIMIT,
    *,
    kind: Kind = "number",
    **more: Any,
) -> Any:
    if zero:
        meaning = f"{meaning} 0: {zero}."
    return _setting(default, kind, metavar, group, meaning, zero=zero, **more)


def _whole_number(default: int | None, *texts: str, **more: Any) -> Any:
    return _number(default, *texts, kind="whole number", **more)


def _listen(meaning: str, *transports: Transport, default_text: str = "off") -> Any:
    return _setting((), "listen", "WHERE", "Services", meaning, default_text=default_text, transports=transports)


def _networks(meaning: str, default_text: str) -> Any:
    return _setting((), "networks", "NETWORK", "Access", meaning, default_text=default_text)


def _seconds(default: float, meaning: str) -> Any:
    return _number(default, "SECONDS", "Time limits", meaning)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The services to run and their limits. It is frozen; ``dataclasses.replace`` makes a changed copy.

    The fields of services take the same strings as the flags: a port (``"1314"``: all addresses of the host, IPv4 and
    IPv6), an address and port (``"127.0.0.1:1314"``, ``"[::1]:1314"``), or a Twisted endpoint description
    (``"ssl:1315:privateKey=key.pem:certKey=cert.pem"``, ``"unix:/run/netsvc.sock:mode=660"``). If neither a service nor
    a target of ``probe`` is named, TCP port 1314 echoes and UDP port 520 sends timestamps.

    Sizes are bytes, times are seconds, and 0 means no limit.

    :raises ConfigError: for an invalid value.
    """

    tcp: Sequence[str] = _listen(
        "Echo streams (RFC 862) on this port or address. With --reply, acknowledge each message instead.",
        "stream",
        default_text="1314 if neither a service flag nor --probe is given",
    )
    udp: Sequence[str] = _listen(
        "Answer each datagram on this port or address with '[ctime] ' and the bytes of the datagram.",
        "datagram",
        default_text="520 if neither a service flag nor --probe is given",
    )
    udp_echo: Sequence[str] = _listen(
        "Answer each datagram on this port or address with its own bytes (RFC 862).", "datagram"
    )
    chat: Sequence[str] = _listen("Serve chat rooms on this port or address. All --chat ports are one chat.", "stream")
    web: Sequence[str] = _listen(
        "Serve the chat to browsers on this port or address: its page, and JSON over WebSocket. All --chat and --web "
        "ports are one chat. Needs the extra 'web'.",
        "stream",
    )
    discard: Sequence[str] = _listen(
        "Read everything on this port or address, and answer nothing (RFC 863). A port or address is opened on TCP and "
        "UDP; udp:PORT opens UDP only, and any other endpoint description a stream only.",
        "stream",
        "datagram",
    )
    chargen: Sequence[str] = _listen(
        "Send lines of characters to each connection on this port or address, without end (RFC 864).", "stream"
    )
    stamp: Sequence[str] = _listen(
        "Reflect STAMP test packets (RFC 8762), and those of TWAMP-light, on this port or address. The usual port is "
        "862.",
        "datagram",
    )
    daytime: Sequence[str] = _listen(
        "Send the date and time to each connection on this port or address, and close it (RFC 867).", "stream"
    )
    time: Sequence[str] = _listen(
        "Send the seconds since 1900, as four octets, to each connection on this port or address, and close it "
        "(RFC 868).",
        "stream",
    )
    reply: str | None = _setting(
        None,
        "text",
        "TEMPLATE",
        "Services",
        "Acknowledge each message on --tcp with this text. {message}, {peer} and {time} are filled in.",
        default_text="echo",
    )
    framing: Literal["raw", "line"] = _setting(
        "raw",
        "text",
        "raw|line",
        "Services",
        "How --reply divides a stream into messages: raw (each piece that arrives) or line (each line).",
        choices=("raw", "line"),
    )
    unicode_nicks: bool = _setting(
        False,
        "switch",
        "",
        "Services",
        "Allow names of chat members and rooms in any script, not only ASCII. Needs the extra 'unicode'.",
    )
    chat_store: str = _setting(
        "memory",
        "text",
        "memory|sqlite:PATH|redis:URL",
        "Chat",
        "Where the logs of the rooms are kept: in memory until the process ends, in a SQLite file, or in Redis, where "
        "several processes are one chat (redis://HOST:6379/0, rediss://HOST:6379/0 with TLS, unix:/PATH). Redis needs "
        "the extra 'redis'.",
    )
    chat_store_credentials: str | None = _setting(
        None,
        "text",
        "FILE",
        "Chat",
        "File with one line, the password of Redis or USER:PASSWORD.",
        default_text="NETSVC_REDIS_USERNAME and NETSVC_REDIS_PASSWORD in the environment",
    )
    chat_store_ca: str | None = _setting(
        None,
        "text",
        "FILE",
        "Chat",
        "Trust the certificate authorities in this PEM file for rediss://.",
        default_text="the authorities of the system",
    )
    chat_history_max: int = _whole_number(HISTORY_MAX, "N", "Chat", "Entries that the log of a room keeps.")
    chat_history_age: float = _number(
        HISTORY_AGE, "SECONDS", "Chat", "Seconds for which the log of a room keeps an entry."
    )
    chat_replay: int = _whole_number(
        REPLAY,
        "N",
        "Chat",
        "Entries of the log that a member sees when it joins a room, at most 1000.",
        "none",
    )
    chat_rooms: int = _whole_number(ROOMS_MAX, "N", "Chat", "Maximum number of rooms.")
    chat_rooms_per_host: int = _whole_number(
        ROOMS_PER_HOST,
        "N",
        "Chat",
        "Maximum number of rooms that members of one host have opened.",
    )
    web_path: str = _setting(
        "/", "text", "PATH", "Web", "Serve the page of --web at this path, such as /chat/. The WebSocket is below it."
    )
    web_origin: Sequence[str] = _setting(
        (),
        "names",
        "ORIGIN",
        "Web",
        "Let pages of this origin (https://chat.example.org) open the WebSocket of --web, and no others. Programs, "
        "which name no origin, always may.",
        default_text="the host and port by which the server is asked",
    )
    web_forwarded_from: Sequence[str] = _setting(
        (),
        "networks",
        "NETWORK",
        "Web",
        "Trust the X-Forwarded-For header of requests to --web from this network, that of a reverse proxy. The last "
        "address in it that is not of this network is taken as the client's.",
        default_text="no network",
    )
    stamp_sessions: int = _whole_number(
        SESSIONS_MAX,
        "N",
        "STAMP",
        "Maximum number of sessions whose answers are counted. Their senders can then tell loss on the way there from "
        "loss on the way back. A session ends after 15 minutes without a packet.",
        "a stateless reflector",
    )
    stamp_keys: str | None = _setting(
        None,
        "text",
        "FILE",
        "STAMP",
        "File with the keys of authenticated STAMP, one a line: the session identifier (SSID) or * for all others, and "
        "the key in hexadecimal digits. Packets without a right HMAC are not answered.",
        default_text="unauthenticated",
    )
    stamp_from: Sequence[str] = _setting(
        (),
        "networks",
        "NETWORK",
        "STAMP",
        "Answer packets from this network even if another reflector could have sent them: from a port below 1024, such "
        "as 862, or from the port number of --stamp.",
        default_text="no network",
    )
    probe: Sequence[str] = _setting(
        (),
        "names",
        "TARGET",
        "Probes",
        "Measure this target for ever: stamp/HOST:862, udp-echo/HOST:7, udp/HOST:520, tcp/HOST:443 or tls/HOST:443. "
        "--metrics exports delays and losses. Needs the extra 'probe'.",
        default_text="no target",
    )
    probe_interval: float = _number(
        1.0, "SECONDS", "Probes", "Seconds between two probes of a target, from 0.01 to 3600.", zero=""
    )
    metrics: str | None = _setting(
        None,
        "text",
        "PORT",
        "Services",
        "Serve /status (a page for people), /metrics (Prometheus), /healthz and /readyz on this port of 127.0.0.1, or "
        "on this ADDRESS:PORT. Needs the extra 'metrics'.",
        default_text="off",
    )
    metrics_host: Sequence[str] = _setting(
        (),
        "names",
        "NAME",
        "Services",
        "Answer requests to the --metrics port whose Host header has this name. IP addresses and localhost are always "
        "answered.",
        default_text="no name",
    )
    reuse_port: bool = _setting(
        False,
        "switch",
        "",
        "Services",
        "Share the ports (SO_REUSEPORT) with other processes of the same user that also set this flag.",
    )
    log_connections: bool = _setting(
        False, "switch", "", "Services", "Log each connection that is accepted, with the address of the peer."
    )
    tls_cert: str | None = _setting(
        None,
        "text",
        "FILE",
        "TLS",
        "PEM file with the certificate and its chain. Stream services then use TLS 1.2 or newer, except on ssl: and "
        "tls: endpoints. A changed file is used without a restart.",
        default_text="off",
    )
    tls_key: str | None = _setting(
        None,
        "text",
        "FILE",
        "TLS",
        "PEM file with the key of the certificate.",
        default_text="the key is in the file of --tls-cert",
    )
    tls_client_ca: str | None = _setting(
        None,
        "text",
        "FILE",
        "TLS",
        "PEM file with certificate authorities. Clients must present a certificate of one of them.",
        default_text="no client certificates",
    )
    allow: Sequence[str] = _networks(
        "Accept only peers from this network. SERVICE=NETWORK (chat=192.0.2.0/24) applies to one service.",
        "every network",
    )
    deny: Sequence[str] = _networks(
        "Refuse peers from this network, even if --allow names it. SERVICE=NETWORK applies to one service.",
        "no network",
    )
    proxy_from: Sequence[str] = _networks(
        "Trust PROXY protocol headers (v1, v2) from this network; the address in the header is taken as the client's.",
        "no network",
    )
    max_connections: int | None = _whole_number(
        None,
        "N",
        "Connection limits",
        "Maximum number of concurrent connections. Further ones are refused with 'server full'.",
        default_text="open-file limit less 64",
    )
    max_per_host: int = _whole_number(
        MAX_PER_HOST,
        "N",
        "Connection limits",
        "Maximum number of concurrent connections of one host (an IPv4 address or IPv6 /64).",
    )
    max_per_network: int = _whole_number(
        MAX_PER_NETWORK,
        "N",
        "Connection limits",
        "Maximum number of concurrent connections of one network (an IPv4 /24 or IPv6 /48). An IPv6 /56 may have half "
        "as many.",
    )
    connect_rate: float = _number(
        CONNECT_RATE,
        "N",
        "Connection limits",
        "New connections per second of one host, with a burst of ten times this number. A network may open four times "
        "as many. On --web, a host may send as many further requests on its connections.",
    )
    handshake_rate: float = _number(
        HANDSHAKE_RATE,
        "N",
        "Connection limits",
        "TLS handshakes per second of all hosts together. Further ones wait, and hosts take turns.",
    )
    queue_max: int = _whole_number(
        StreamLimits.queue_max,
        "BYTES",
        "Connection limits",
        "Bytes that may be queued for a peer, at least 65536. If the queue stays above this for 0.5 s, the peer is "
        "disconnected.",
    )
    receive_buffer: int = _whole_number(
        StreamLimits.receive_buffer,
        "BYTES",
        "Connection limits",
        "Bytes that the kernel keeps for a connection until they are read (Linux doubles the number). A peer sends at "
        "most about this much per round trip.",
        KERNEL_SIZE,
    )
    handshake_timeout: float = _seconds(
        StreamLimits.handshake_timeout, "Seconds that a TLS handshake, or a PROXY header, may take."
    )
    line_timeout: float = _seconds(
        StreamLimits.line_timeout,
        "Seconds from the first byte of a line to its end. Then the peer is closed.",
    )
    idle_timeout: float = _seconds(
        StreamLimits.idle_timeout,
        "Seconds without input from a peer. Then it is closed. The chat has a limit of its own.",
    )
    chat_idle_timeout: float = _seconds(
        CHAT_IDLE_TIMEOUT,
        "Seconds without a line from a chat member. Then it is closed. The member is warned 300 s before, or after "
        "half the time if the limit is below 600. A member whose host is gone is noticed within 2 minutes in any case.",
    )
    stall_timeout: float = _seconds(
        StreamLimits.stall_timeout,
        "If more than 64 KiB are queued for a peer, seconds that it may take to read them. Then it is disconnected.",
    )
    close_timeout: float = _seconds(
        StreamLimits.close_timeout,
        "Seconds that a closing connection may make no progress. Then it is aborted.",
    )
    drain_timeout: float = _seconds(
        5.0,
        "Seconds that a stop may take; then connections are aborted. Reading from peers takes at most half of them.",
    )
    chat_rate: float = _number(
        CHAT_RATE,
        "N",
        "Rate limits",
        "Lines per second of one chat member. All members of one host together may send 8 times as many. Further lines "
        "are processed later, and none is lost.",
    )
    chat_burst: int = _whole_number(
        CHAT_BURST,
        "N",
        "Rate limits",
        "Lines that a chat member may send at once after a pause.",
    )
    chat_total: float = _number(
        DELIVERIES_RATE,
        "N",
        "Rate limits",
        "Deliveries per second of the whole chat. A line costs one for each member of its room. Above this, speakers "
        "are slowed down, with equal shares for the rooms.",
    )
    udp_rate: float = _number(
        RATE,
        "N",
        "Rate limits",
        "Datagrams per second that a service answers for one source (an IPv4 address or IPv6 /64). Each service counts "
        "by itself.",
    )
    udp_burst: int = _whole_number(
        BURST,
        "N",
        "Rate limits",
        "Datagrams that a service answers at once for one source after a pause.",
    )
    udp_total: float = _number(
        TOTAL,
        "N",
        "Rate limits",
        "Datagrams per second that a service answers for all sources together.",
    )
    udp_max_size: int = _whole_number(
        MAX_SIZE,
        "BYTES",
        "Rate limits",
        "Bytes of the longest datagram that is answered. Longer ones are not answered, only counted.",
    )

    _parsed: ClassVar[_Parsed]  # set on each instance; it is no field

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            self._check_type(name, setting)
        if not self.probe and not any(getattr(self, service) for service in SERVICE_NAMES):
            object.__setattr__(self, "tcp", DEFAULT_TCP)
            object.__setattr__(self, "udp", DEFAULT_UDP)
        self._check_combinations()
        object.__setattr__(self, "_parsed", self._parse())

    def _check_type(self, name: str, setting: Setting) -> None:
        value = getattr(self, name)
        match setting.kind:
            case "listen" | "networks" | "names":
                if isinstance(value, str):
                    raise ConfigError(name, repr(value), "a list of strings is needed", f'write ["{value}"]')
                if not isinstance(value, Iterable) or not all(isinstance(text, str) for text in value):
                    examples = {"listen": "1314", "networks": "192.0.2.0/24", "names": "monitor.example.org"}
                    remedy = f'write ["{examples[setting.kind]}"]'
                    raise ConfigError(name, repr(value), "a list of strings is needed", remedy)
                object.__setattr__(self, name, tuple(value))
            case "switch":
                if not isinstance(value, bool):
                    raise ConfigError(name, repr(value), "neither True nor False", "give one of them")
            case "number" | "whole number":
                if value is not None or name != "max_connections":
                    check_number(name, value, whole=setting.kind == "whole number", zero=setting.zero)
            case "text":
                if value is not None and not isinstance(value, str):
                    raise ConfigError(name, repr(value), "a string is needed", f'write "{value}"')
                if setting.choices and value not in setting.choices:
                    names = " and ".join(setting.choices)
                    raise ConfigError(name, value, f"the choices are {names}", "choose one of them")

    def _check_combinations(self) -> None:
        if self.framing != "raw" and self.reply is None:
            raise ConfigError("framing", self.framing, "an echo has no messages to frame", "add --reply")
        if self.reply is not None and not self.tcp:
            raise ConfigError("reply", repr(self.reply), "no service acknowledges messages", "add --tcp")
        if self.tls_cert == "":
            raise ConfigError("tls_cert", "''", "the file is missing", "name a PEM file")
        for name in ("tls_key", "tls_client_ca"):
            if getattr(self, name) is not None and self.tls_cert is None:
                raise ConfigError(name, getattr(self, name), "there is no certificate", "add --tls-cert")
        for name, value in (("tls_cert", self.tls_cert), ("proxy_from", ", ".join(self.proxy_from))):
            if value and not any(self.listening(stream, "stream") for stream in STREAM_SERVICES):
                flags = ", ".join(map(flag_of, STREAM_SERVICES))
                raise ConfigError(name, value, "it applies to stream services, and none is served", f"add one: {flags}")
        for name in ("stamp_keys", "stamp_from"):
            value = getattr(self, name)
            if value and not self.stamp:
                shown = value if isinstance(value, str) else ", ".join(value)
                raise ConfigError(name, shown, "STAMP is not served", "add --stamp")
        if self.metrics_host and self.metrics is None:
            raise ConfigError("metrics_host", ", ".join(self.metrics_host), "there are no metrics", "add --metrics")
        self._check_chat()
        self._check_web()
        self._check_probe()
        if self.reuse_port and (self.chat or self.web) and self.chat_redis is None:
            problem = "each process would have a chat of its own"
            raise ConfigError("reuse_port", "", problem, "add --chat-store redis://HOST, which all processes share")
        if self.reuse_port and sys.platform != "linux":
            problem = "this system does not distribute connections over the processes"
            raise ConfigError("reuse_port", "", problem, "remove this flag")

    def _check_chat(self) -> None:
        if self.chat_store != "memory" and not self.chat_store_path and self.chat_redis is None:
            problem = "there is no such store"
            raise ConfigError(
                "chat_store", self.chat_store, problem, "write memory, sqlite:PATH or redis://HOST:6379/0"
            )
        for name in ("chat_store_credentials", "chat_store_ca"):
            if getattr(self, name) is not None and self.chat_redis is None:
                raise ConfigError(name, getattr(self, name), "there is no Redis", "add --chat-store redis://HOST")
        if self.chat_store_ca is not None and self.chat_redis is not None and not self.chat_redis.uses_tls:
            raise ConfigError("chat_store_ca", self.chat_store_ca, "the connection has no TLS", "write rediss://HOST")
        if self.chat_store != "memory" and not (self.chat or self.web):
            raise ConfigError("chat_store", self.chat_store, "there is no chat", "add --chat or --web")
        if self.unicode_nicks and not (self.chat or self.web):
            raise ConfigError("unicode_nicks", "", "there is no chat", "add --chat or --web")

    def _check_web(self) -> None:
        for name in ("web_path", "web_origin", "web_forwarded_from"):
            value = getattr(self, name)
            if value != DEFAULTS[name] and not self.web:
                shown = value if isinstance(value, str) else ", ".join(value)
                raise ConfigError(name, shown, "there is no page", "add --web")
        if not _PATH.fullmatch(self.web_path):
            raise ConfigError("web_path", repr(self.web_path), "not a path", "write /chat/, or / for none")
        if not self.web_path.endswith("/"):
            object.__setattr__(self, "web_path", f"{self.web_path}/")
        for origin in self.web_origin:
            if parse_origin(origin) is None:
                raise ConfigError("web_origin", repr(origin), "not an origin", "write https://chat.example.org")

    def _check_probe(self) -> None:
        least, most = PROBE_INTERVALS
        if not least <= self.probe_interval <= most:
            remedy = f"choose {least:g} to {most:g} seconds"
            raise ConfigError("probe_interval", f"{self.probe_interval:g}", "out of range", remedy)
        if self.probe_interval != DEFAULTS["probe_interval"] and not self.probe:
            raise ConfigError("probe_interval", f"{self.probe_interval:g}", "there is no target", "add --probe")

    def _targets(self) -> Iterator[ProbeTarget]:
        found: set[ProbeTarget] = set()
        for text in self.probe:
            try:
                target = parse_probe_target(text)
            except ProbeTargetError as e:
                problem, _, remedy = str(e).removeprefix(f"{text}: ").rpartition("; ")
                raise ConfigError("probe", repr(text), problem, remedy) from None
            if target in found:
                raise ConfigError("probe", text, "the target is named twice", "remove one of them")
            found.add(target)
            yield target

    def _parse(self) -> _Parsed:
        allow, deny = ([self._scoped(name, text) for text in getattr(self, name)] for name in ("allow", "deny"))
        proxies, web_proxies, stamp_services = (
            tuple(_network(name, text, text) for text in getattr(self, name))
            for name in ("proxy_from", "web_forwarded_from", "stamp_from")
        )
        limits = StreamLimits(
            queue_max=self.queue_max,
            stall_timeout=self.stall_timeout,
            close_timeout=self.close_timeout,
            handshake_timeout=self.handshake_timeout,
            line_timeout=self.line_timeout,
            idle_timeout=self.idle_timeout,
            receive_buffer=self.receive_buffer,
        )
        return _Parsed(
            tuple(allow),
            tuple(deny),
            proxies,
            web_proxies,
            stamp_services,
            self._template(),
            limits,
            tuple(self._targets()),
        )

    def _scoped(self, name: str, text: str) -> tuple[str, IPNetwork]:
        """Parse ``NETWORK``, or ``SERVICE=NETWORK``. The service is empty for all of them."""
        written, equals, network = text.rpartition("=")
        service = written.replace("-", "_")  # as in its flag, or as in its field
        if equals and service not in SCOPES:
            known = _listed([scope.replace("_", "-") for scope in SCOPES])
            raise ConfigError(name, text, f"there is no service {written!r}", f"the services are {known}")
        if service and not getattr(self, service):
            raise ConfigError(name, text, f"{written} is not served", f"add {flag_of(service)}, or remove this flag")
        return service, _network(name, text, network)

    def _template(self) -> ReplyTemplate | None:
        if self.reply is None:
            return None
        try:
            return ReplyTemplate(self.reply)
        except TemplateError as e:
            remedy = "write {message}, {peer}, {time}, or {{ for a brace"
            raise ConfigError("reply", repr(self.reply), str(e), remedy) from None

    @property
    def reply_template(self) -> ReplyTemplate | None:
        """The parsed ``reply``; None if streams are echoed."""
        return self._parsed.reply_template

    @property
    def chat_store_path(self) -> str | None:
        """The path of the SQLite file; None for a store in memory."""
        kind, _, path = self.chat_store.partition(":")
        return path if kind == "sqlite" and path else None

    @property
    def chat_redis(self) -> RedisAddress | None:
        """The address of the Redis that keeps the chat; None for another store."""
        if self.chat_store.partition(":")[0] not in ("redis", "rediss", "unix"):
            return None
        return parse_redis_address(self.chat_store, "chat_store")

    @property
    def limits(self) -> StreamLimits:
        """The limits of one stream connection."""
        return self._parsed.limits

    @property
    def proxies(self) -> NetworkRules | None:
        """The networks of ``proxy_from``; None if there are none."""
        return NetworkRules(self._parsed.proxies) if self._parsed.proxies else None

    @property
    def web_proxies(self) -> NetworkRules | None:
        """The networks of ``web_forwarded_from``; None if there are none."""
        return NetworkRules(self._parsed.web_proxies) if self._parsed.web_proxies else None

    @property
    def stamp_services(self) -> NetworkRules | None:
        """The networks of ``stamp_from``; None if there are none."""
        return NetworkRules(self._parsed.stamp_services) if self._parsed.stamp_services else None

    @property
    def probe_targets(self) -> tuple[ProbeTarget, ...]:
        """The parsed ``probe``."""
        return self._parsed.probe_targets

    def listening(self, service: str, transport: Transport) -> tuple[str, ...]:
        """Return the listening strings of a service that open a transport.

        :param service: its name, such as ``tcp``.
        :param transport: ``stream`` or ``datagram``.
        """
        transports = SETTINGS[service].transports
        return tuple(text for text in getattr(self, service) if transport in opened_transports(text, transports))

    def networks(self, service: str) -> NetworkRules:
        """Return the networks from which a service may be reached.

        Rules without a service apply to all services, but not to the pages of the metrics.

        :param service: its name, such as ``tcp``, or ``metrics``.
        """
        scopes = ("metrics",) if service == "metrics" else ("", service)
        allow, deny = (
            [network for scope, network in scoped if scope in scopes]
            for scoped in (self._parsed.allow, self._parsed.deny)
        )
        return NetworkRules(allow, deny)


@dataclass(frozen=True)
class _Parsed:
    """The values that :class:`Config` has parsed from its texts."""

    allow: tuple[tuple[str, IPNetwork], ...]
    deny: tuple[tuple[str, IPNetwork], ...]
    proxies: tuple[IPNetwork, ...]
    web_proxies: tuple[IPNetwork, ...]
    stamp_services: tuple[IPNetwork, ...]
    reply_template: ReplyTemplate | None
    limits: StreamLimits
    probe_targets: tuple[ProbeTarget, ...]


def _setting_of(known: Field[Any]) -> Setting:
    setting: Setting = known.metadata["setting"]
    return setting


#: The settings, by the names of their fields.
SETTINGS: dict[str, Setting] = {
    known.name: _setting_of(known) for known in fields(Config) if "setting" in known.metadata
}

#: Their defaults.
DEFAULTS: dict[str, Any] = {known.name: known.default for known in fields(Config) if known.name in SETTINGS}

#: The names of the services. Each is a field with listening strings, a flag, a scope of ``--allow``, and a label.
SERVICE_NAMES = tuple(name for name, setting in SETTINGS.items() if setting.kind == "listen")

#: The services that ``--allow`` and ``--deny`` may name.
SCOPES = (*SERVICE_NAMES, "metrics")

#: Those services that serve streams.
STREAM_SERVICES = tuple(name for name in SERVICE_NAMES if "stream" in SETTINGS[name].transports)


def _network(setting: str, text: str, network: str) -> IPNetwork:
    try:
        return parse_network(network)
    except InvalidNetworkError as e:
        raise ConfigError(setting, text, str(e), "write it as 192.0.2.0/24 or 2001:db8::1") from None


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
