"""Listening strings: ``1314``, ``127.0.0.1:1314``, ``[::1]:1314``, ``ssl:...``, ``udp:...``, ``systemd:...``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from netsvc.errors import NetsvcError
from netsvc.wire.address import AddressError, HostPort, is_ip, parse_address

#: The transports of the Internet's services: TCP, and TLS and UNIX sockets as well; or UDP.
Transport = Literal["stream", "datagram"]

_STREAM_FORMS = "write PORT, ADDRESS:PORT, [IPV6]:PORT, or a Twisted endpoint description"
_DATAGRAM_FORMS = "write PORT, ADDRESS:PORT, [IPV6]:PORT, udp:PORT:interface=ADDRESS, or systemd:domain=INET6:name=NAME"

#: The position of the backlog in an endpoint description that does not name it. A socket of systemd's keeps the backlog
#: that systemd opened it with.
_BACKLOG_POSITION = {"tcp": 3, "tcp4": 3, "tcp6": 3, "unix": 3, "tls": 3, "ssl": 6, "systemd": 0}


class ListeningStringError(NetsvcError, ValueError):
    """The text is not a listening string.

    :param problem: what is wrong, without a full stop.
    :param remedy: what to do about it, without a full stop.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class EndpointDescription:
    """A Twisted endpoint description for a stream.

    :param text: the whole description.
    :param kind: its first field, such as ``tcp``, ``ssl`` or ``unix``.
    :param directory: of ``tls:``, the directory of the certificates; None for other kinds.
    :param sets_backlog: whether the description sets the backlog itself.
    """

    text: str
    kind: str
    directory: str | None
    sets_backlog: bool


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A datagram socket that systemd opened.

    :param domain: its address family.
    :param name: its ``FileDescriptorName=``, or None.
    :param index: its place among the inherited sockets, or None.
    """

    domain: Literal["INET", "INET6"]
    name: str | None
    index: int | None


def parse_stream(text: str) -> HostPort | EndpointDescription:
    """Parse the listening string of a stream service. The host of an address is an IP address or None.

    :raises ListeningStringError: for any other text. Twisted checks the fields of a description when it is used.
    """
    where = _address(text, _STREAM_FORMS)
    if where is not None:
        return where
    fields = _fields(text)
    match fields:
        case [("", "unix"), ("", "") | ("mode" | "backlog" | "lockfile", _), *_] | [("", "unix")]:
            raise ListeningStringError("the path is missing", "write unix:/path/of/the/socket")
        case [("", "haproxy"), *_]:
            raise ListeningStringError(
                "Twisted's haproxy: trusts every peer's header and fails if the header arrives in two pieces",
                "remove haproxy: and use --proxy-from for the networks of the proxies",
            )
    unnamed = [value for name, value in fields if not name]
    sets_backlog = any(name == "backlog" for name, _ in fields) or len(unnamed) > _BACKLOG_POSITION.get(
        unnamed[0], len(unnamed)
    )
    directory = unnamed[1] if unnamed[0] == "tls" and len(unnamed) > 1 else None
    return EndpointDescription(text, unnamed[0], directory, sets_backlog)


def parse_datagram(text: str) -> HostPort | InheritedSocket:
    """Parse the listening string of a datagram service. The host of an address is an IP address or None.

    :raises ListeningStringError: for any other text.
    """
    kind, _, rest = text.partition(":")
    if kind == "systemd":
        return _inherited(rest)
    where = _udp_description(rest) if kind == "udp" else _address(text, _DATAGRAM_FORMS)
    if where is None:
        raise ListeningStringError(f"{kind!r} is neither an address nor udp nor systemd", _DATAGRAM_FORMS)
    return where


def opened_transports(text: str, transports: tuple[Transport, ...]) -> tuple[Transport, ...]:
    """Return which of the transports of a service its listening string opens.

    A port or address opens all of them. A description (``udp:9``, ``tcp:9``, ``unix:/path``) opens its own.

    :param text: the listening string. It may be invalid.
    :param transports: those of the service.
    """
    if len(transports) == 1 or not re.match(r"[a-z]\w*:", text):
        return transports
    return ("datagram",) if text.startswith("udp:") else ("stream",)


def _address(text: str, forms: str) -> HostPort | None:
    """Return the address, or None if the text may be a description."""
    try:
        where = parse_address(text)
    except AddressError as e:
        if re.match(r"[a-z]\w*:", text):
            return None
        raise ListeningStringError(str(e), forms) from None
    return where if where.host is None or is_ip(where.host) else None


def _fields(description: str) -> list[tuple[str, str]]:
    r"""Split ``a:b=c`` into ``[("", "a"), ("b", "c")]``. A backslash escapes a colon, as in Twisted's own parser."""
    parts = [part.replace("\\", "") for part in re.split(r"(?<!\\):", description)]
    return [("", part) if "=" not in part else (part.partition("=")[0], part.partition("=")[2]) for part in parts]


def _udp_description(description: str) -> HostPort:
    """Parse what follows ``udp:``: ``PORT`` or ``PORT:interface=ADDRESS``."""
    match _fields(description):
        case [("", port)]:
            where = _address(port, _DATAGRAM_FORMS)
        case [("", port), ("interface", host)] if is_ip(host):
            where = _address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", _DATAGRAM_FORMS)
        case _:
            where = None
    if where is None:
        raise ListeningStringError("not a description of a datagram port", _DATAGRAM_FORMS)
    return where


def _inherited(description: str) -> InheritedSocket:
    """Parse what follows ``systemd:``."""
    match _fields(description):
        case [("domain", "INET" | "INET6" as domain), ("name", name)] if name:
            return InheritedSocket(domain, name, None)
        case [("domain", "INET" | "INET6" as domain), ("index", number)] if number.isdecimal():
            return InheritedSocket(domain, None, int(number))
    raise ListeningStringError("not a description of an inherited socket", _DATAGRAM_FORMS)
