"""Faults that a test injects into a run: each happens after a certain event, so that it can be repeated."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote, unquote

from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol

from netsvc.errors import NetsvcError
from netsvc.testing.stream_socket import StreamSocket

if TYPE_CHECKING:
    from netsvc.testing.network import Host, Network

#: The kinds, the simplest first. ``abort``: both ends of a connection are reset. ``close``: the first end closes it.
#: ``partition``, ``crash`` (and restart), ``pause``: for a time.
FaultKind = Literal["abort", "close", "partition", "crash", "pause"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

#: Seconds of a partition, a crash or a pause, unless another time is given.
DURATION = 30.0

_DIGITS_MAX = 18

_log = Logger()

_END = r"([^\s:]+?)(?::(\d+))?"
_TEXT = re.compile(rf"(\w+)@(\d+) {_END}(?:--{_END})?(?: (\d+(?:\.\d+)?)s)?", re.ASCII)


class FaultError(NetsvcError, ValueError):
    """The text describes no fault; the message says why."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The two ends of an established TCP connection: hosts and ports."""

    host: str
    port: int
    peer: str
    peer_port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}--{self.peer}:{self.peer_port}"

    def reversed(self) -> Connection:
        """Return the same connection, with the other end first."""
        return Connection(self.peer, self.peer_port, self.host, self.port)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault. Its text, as in ``partition@12 client--server 30s``, is what :func:`parse_fault` reads.

    :param kind: what happens.
    :param after: the number of events of the network after which it happens.
    :param host: the host that crashes, pauses or closes, or one of two.
    :param peer: the other host of a connection or a partition.
    :param ports: those of ``host`` and ``peer``, of one connection; None for all connections between the two.
    :param seconds: how long a partition, a crash or a pause lasts.
    """

    kind: FaultKind
    after: int
    host: str
    peer: str = ""
    ports: tuple[int, int] | None = None
    seconds: float = DURATION

    def __str__(self) -> str:
        port, peer_port = ("", "") if self.ports is None else (f":{self.ports[0]}", f":{self.ports[1]}")
        ends = f"{_quoted(self.host)}{port}"
        if self.peer:
            ends += f"--{_quoted(self.peer)}{peer_port}"
        seconds = f"{self.seconds:.9f}".rstrip("0").rstrip(".")
        return f"{self.kind}@{self.after} {ends}{'' if self.kind in ('abort', 'close') else f' {seconds}s'}"

    def happen(self, network: Network) -> bool:
        """Let it happen now. Return whether it had an effect: the connection may be closed, or the host down."""
        if any(name not in network.hosts for name in filter(None, (self.host, self.peer))):
            return False
        match self.kind:
            case "abort" | "close":
                found = [each for each in open_connections(network) if self._is_meant(each)]
                fault = abort if self.kind == "abort" else close
                effects = [fault(network, self._in_order(connection)) for connection in found]
                return any(effects)
            case "partition":
                network.between({self.host}, {self.peer}).cut(self.seconds)
                return True
        host = network.hosts[self.host]
        if not host.up:
            return False
        if self.kind == "pause":
            host.pause(self.seconds)
        else:
            host.crash()
            network.call_later(self.seconds, _restart, host)
        return True

    def _is_meant(self, connection: Connection) -> bool:
        for one in (connection, connection.reversed()):
            if (one.host, one.peer) == (self.host, self.peer):
                return self.ports is None or self.ports == (one.port, one.peer_port)
        return False

    def _in_order(self, connection: Connection) -> Connection:
        return connection if connection.host == self.host else connection.reversed()


def parse_fault(text: str) -> Fault:
    """Parse the text of a fault.

    :raises FaultError: and nothing else, whatever the text.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None or match[1] not in FAULT_KINDS:
        raise FaultError(
            f"{text!r} is no fault; write KIND@EVENT HOST, or KIND@EVENT HOST--HOST, and how long, as in "
            f"'partition@12 client--server 30s'; the kinds are {', '.join(FAULT_KINDS)}"
        )
    kind, after, host, port, peer, peer_port, seconds = match.groups()
    if bool(peer) is (kind in ("crash", "pause")):
        raise FaultError(f"{text!r}: a {kind} needs {'two hosts' if not peer else 'one host'}")
    if bool(port) is not bool(peer_port) or (port and kind not in ("abort", "close")):
        raise FaultError(f"{text!r}: the ports are those of both ends of one connection, or none")
    if host == peer:
        raise FaultError(f"{text!r}: name two hosts")
    if any(len(number or "") > _DIGITS_MAX for number in (after, port, peer_port, seconds)):
        raise FaultError(f"{text!r}: a number is too long")
    ports = (int(port), int(peer_port)) if port and peer_port else None
    return Fault(kind, int(after), unquote(host), unquote(peer or ""), ports, float(seconds or DURATION))  # type: ignore[arg-type]


def _quoted(host: str) -> str:
    """Return the name of a host as the text of a fault has it: never with ``--`` in it, or ``-`` at an end."""
    return re.sub("^-|-$|(?<=-)-", "%2D", quote(host, safe=""))


def _restart(host: Host) -> None:
    """Start a host again, unless the scenario has done so. A service that does not start is logged."""
    if not host.up:
        try:
            host.restart()
        except Exception:
            _log.failure("a function of on_start failed at a restart")


def open_connections(network: Network) -> list[Connection]:
    """Return the TCP connections between two hosts that are established at both ends, each once."""
    found: dict[Connection, None] = {}
    for connection, _ in _ends(network):
        if connection.reversed() not in found:
            found[connection] = None
    return list(found)


def abort(network: Network, connection: Connection) -> bool:
    """Reset both ends of a connection, as a firewall that forgets it may do. Return True."""
    for end in _ends_of(network, connection):
        end.receive_reset()
    network.note(str(connection), "aborted")
    return True


def close(network: Network, connection: Connection) -> bool:
    """Let the program of the first end close the connection: ``transport.loseConnection()``.

    Return whether it did. A transport that neither reads nor writes now, as one that is paused, cannot be found.
    """
    host = network.hosts[connection.host]
    found = False
    for end in _ends_of(network, connection):
        if end.stack.name == connection.host:
            transport = host.reactor.selectable_of(end.descriptor)
            if transport is not None:
                found = True
                layer = getattr(transport, "protocol", None)
                with host:
                    (layer if isinstance(layer, TLSMemoryBIOProtocol) else transport).loseConnection()
    if found:
        network.note(str(connection), f"closed by {connection.host}")
    return found


def pairs_of_hosts(network: Network) -> list[tuple[str, str]]:
    """Return the pairs of hosts that have sent packets to each other."""
    talked = {(event.source, event.destination) for event in network.trace if event.destination}
    names = list(network.hosts)
    return [(one, other) for one, other in combinations(names, 2) if (one, other) in talked or (other, one) in talked]


def listening_hosts(network: Network) -> list[str]:
    """Return the hosts to which others have connected, and those to which others have sent a datagram first."""
    servers = {event.source: None for event in network.trace if event.kind == "SYN-ACK"}
    asked: dict[str, None] = {}
    for event in network.trace:
        if event.kind == "datagram" and event.destination in network.hosts and event.source not in asked:
            asked[event.destination] = None
    return list(servers | asked)


def _ends(network: Network) -> Iterator[tuple[Connection, StreamSocket]]:
    """Give each end of each established TCP connection: the connection with this end first, and its socket."""
    for name, host in network.hosts.items():
        if not host.up:
            continue
        for each in list(host.reactor.stack.sockets.values()):
            if not isinstance(each, StreamSocket) or each.family == socket.AF_UNIX or each.outgoing is None:
                continue
            peer = each.outgoing.sink.stack
            if not each.has_no_connection and peer is not each.stack:
                yield Connection(name, each.local_address[1], peer.name, each.peer[1]), each


def _ends_of(network: Network, connection: Connection) -> list[StreamSocket]:
    return [end for this, end in _ends(network) if connection in (this, this.reversed())]
