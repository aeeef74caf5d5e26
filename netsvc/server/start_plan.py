"""The plan of a start: its services, addresses and settings in words, and what speaks against a start."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from netsvc.errors import flag_of
from netsvc.server.config import DEFAULTS, SERVICE_NAMES, SETTINGS, Config
from netsvc.wire.address import HostPort
from netsvc.wire.listening_string import (
    EndpointDescription,
    InheritedSocket,
    Transport,
    opened_transports,
    parse_datagram,
    parse_stream,
)

#: Settings that have a line of their own.
_NAMED = (*SERVICE_NAMES, "probe", "probe_interval", "metrics", "chat_store", "tls_cert")

#: The port of a description such as ``ssl:443:privateKey=key.pem`` or ``tls:certificates:tcp:443``.
_DESCRIBED_PORT = re.compile(r"(?:^|:)(?:tcp[46]?|ssl):(?:port=)?(\d+)")

_LOOPBACK = "127."


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The facts about the host and the user.

    :param first_free_port: the lowest port that the user may open.
    :param addresses: the addresses of the host; empty if they are not known.
    :param connections_max: connections that the open-file limit allows.
    :param inherits_sockets: whether systemd has passed sockets to this process.
    """

    first_free_port: int = 0
    addresses: tuple[str, ...] = ()
    connections_max: int = 1_000_000
    inherits_sockets: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """A listening string of a service. The port is 0 if the system chooses it, or if it is no IP port."""

    setting: str
    text: str
    host: str | None
    port: int
    transports: tuple[Transport, ...]

    def __str__(self) -> str:
        return f"{flag_of(self.setting)} {self.text}"

    def overlaps(self, other: _Place) -> bool:
        """Whether the system lets only one of the two be opened."""
        if self.port != other.port or not self.port or not {*self.transports} & {*other.transports}:
            return False
        hosts = {self.host, other.host}
        if len(hosts) == 1 or hosts & {None, "::"}:
            return True
        return "0.0.0.0" in hosts and all(host is not None and ":" not in host for host in hosts)


def describe(config: Config) -> Iterator[str]:
    """Give the services with their addresses, the targets, the store, and the settings that differ from defaults."""
    for name in SERVICE_NAMES:
        for text in getattr(config, name):
            yield f"{name}: {_described(name, text)}"
    for target in config.probe_targets:
        yield f"probe: {target}, every {config.probe_interval:g} s"
    if config.metrics is not None:
        yield f"metrics: {_described('metrics', _metrics_address(config.metrics))}"
    if config.chat or config.web:
        yield f"store of the chat: {config.chat_store if config.chat_redis is None else config.chat_redis.name}"
    for name, default in DEFAULTS.items():
        value = getattr(config, name)
        if name not in _NAMED and value not in (default, ()):
            yield _difference(name, value, default)


def warnings_about(config: Config, facts: HostFacts) -> Iterator[str]:
    """Give what would make a start fail here and now, but not with other rights or on another host."""
    for place in _places(config):
        if 0 < place.port < facts.first_free_port:
            yield (
                f"{place}: port {place.port} needs root, CAP_NET_BIND_SERVICE or a socket of systemd's; "
                f"without them, choose a port from {facts.first_free_port}"
            )
        if not _is_local(place.host, facts.addresses):
            yield f"{place}: this host has no such address now; netsvc lookup lists its addresses"
        if place.text.startswith("systemd:") and not facts.inherits_sockets:
            yield f"{place}: systemd must pass this socket; it was not checked"
    if config.max_connections is not None and config.max_connections > facts.connections_max:
        yield (
            f"--max-connections {config.max_connections}: the open-file limit allows {facts.connections_max:,}; "
            "raise it with ulimit -n, or LimitNOFILE= in the unit"
        )


def conflicts_in(config: Config) -> Iterator[str]:
    """Give the pairs of listening strings of which only one can be opened."""
    if config.reuse_port:
        return
    for one, other in combinations(_places(config), 2):
        if one.overlaps(other):
            yield f"{other}: already used by {one}; choose another port or address"


def folders_of_sockets(config: Config) -> Iterator[tuple[str, str]]:
    """Give each listening string of a UNIX socket, with the folder of the socket."""
    for place in _places(config):
        if path := re.match(r"unix:(?:address=)?((?:[^:\\]|\\.)+)", place.text):
            yield str(place), os.path.dirname(path[1].replace("\\", "")) or "."


def without_inherited_sockets(config: Config) -> dict[str, Any]:
    """Return the listening strings of a configuration, with a free port in the place of each socket of systemd's."""
    return {
        name: tuple("127.0.0.1:0" if text.startswith("systemd:") else text for text in getattr(config, name))
        for name in SERVICE_NAMES
    }


def _places(config: Config) -> Iterator[_Place]:
    for name in SERVICE_NAMES:
        for text in getattr(config, name):
            yield _place(name, text)
    if config.metrics is not None:
        yield _place("metrics", _metrics_address(config.metrics))


def _place(name: str, text: str) -> _Place:
    where, transports = _parse(name, text), _transports(name, text)
    if isinstance(where, HostPort):
        return _Place(name, text, where.host, where.port, transports)
    port = _DESCRIBED_PORT.search(text) if isinstance(where, EndpointDescription) else None
    host = re.search(r":interface=((?:[^:\\]|\\:)+)", text)
    return _Place(name, text, host[1].replace("\\", "") if host else None, int(port[1]) if port else 0, transports)


def _parse(name: str, text: str) -> HostPort | EndpointDescription | InheritedSocket:
    return parse_stream(text) if "stream" in _transports(name, text) else parse_datagram(text)


def _transports(name: str, text: str) -> tuple[Transport, ...]:
    return opened_transports(text, SETTINGS[name].transports or ("stream",))  # metrics has no transports of its own


def _metrics_address(where: str) -> str:
    return f"127.0.0.1:{where}" if where.isdecimal() else where


def _described(name: str, text: str) -> str:
    where = _parse(name, text)
    if not isinstance(where, HostPort):
        return text
    port = f"port {where.port}" if where.port else "a free port"
    both = ", TCP and UDP" if len(_transports(name, text)) > 1 else ""
    return f"{port} of {where.host or 'every address of this host, IPv4 and IPv6'}{both}"


def _difference(name: str, value: Any, default: Any) -> str:
    setting = SETTINGS[name]
    if setting.kind == "switch":
        return flag_of(name)
    shown = ", ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
    usual = setting.default_text or (f"{default:g}" if isinstance(default, float) else str(default))
    return f"{flag_of(name)} {shown} (default: {usual})"


def _is_local(host: str | None, addresses: tuple[str, ...]) -> bool:
    if host is None or host in ("::", "0.0.0.0", *addresses) or host.startswith(_LOOPBACK):
        return True
    return not addresses or any(host.partition("%")[0] == known.partition("%")[0] for known in addresses)
