"""The result of a check: a verdict, with the times and facts that belong to it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from netsvc.check.check_target import CheckTarget
from netsvc.net.error_words import connect_failure


class PortVerdict(Enum):
    """The state of a port, as far as it is known. The value is its name in the output."""

    OPEN = "open"
    REFUSED = "refused"
    FILTERED = "filtered"
    UNREACHABLE = "unreachable"
    NO_ANSWER = "no answer"  # to a datagram, or to the beginning of TLS on a connection that is open
    NO_TLS = "no TLS"
    TLS_FAILED = "TLS failed"


@dataclass(frozen=True, slots=True)
class PathMtu:
    """The known bounds of the longest packet that the path carries whole, in bytes with its headers.

    :param at_least: the length of a packet that has arrived; None if none is known to have.
    :param at_most: the limit that the system knows so far, which begins as that of the interface; None if unknown.
    """

    at_least: int | None = None
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The certificate of a server.

    :param names: what it is for.
    :param issuer: who has signed it.
    :param begins: when it becomes valid, in seconds since the epoch.
    :param ends: when it expires.
    :param problems: why it is not trusted for this host; empty if it is.
    """

    names: tuple[str, ...]
    issuer: str
    begins: float
    ends: float
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """A TLS handshake that is complete.

    :param version: such as ``TLSv1.3``.
    :param alpn: the protocol that the server has chosen; empty if none.
    :param certificate: of the server; None if it has none.
    :param alpn_refusal: the alert with which the server refuses a client that offers protocols by ALPN; empty if it
        does not.
    """

    version: str
    alpn: str
    certificate: PeerCertificate | None
    alpn_refusal: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of checking a target at one address.

    :param reason: why the target is not open; empty if it is.
    :param connect_seconds: from the first packet to the end of the TCP handshake; None without a connection.
    :param connect_by_kernel: whether the kernel has measured them; if not, this process has.
    :param handshake_seconds: from then to the end of the TLS handshake; None without one.
    :param answer_seconds: from a datagram to its answer; None without one, or if it is not known which one it answers.
    :param questions: datagrams that were sent.
    """

    target: CheckTarget
    address: str
    verdict: PortVerdict
    reason: str = ""
    connect_seconds: float | None = None
    connect_by_kernel: bool = False
    handshake_seconds: float | None = None
    answer_seconds: float | None = None
    questions: int = 0
    tls: TlsFacts | None = None
    path_mtu: PathMtu = field(default_factory=PathMtu)

    @property
    def is_open(self) -> bool:
        """Whether the target is open."""
        return self.verdict is PortVerdict.OPEN


def verdict_of_error(number: int, address: str, seconds: float) -> tuple[PortVerdict, str]:
    """Return what an error of the system says about a port, and the reason in words.

    :param number: such as ``errno.ECONNREFUSED``.
    :param seconds: how long an answer was waited for.
    """
    if number == errno.ECONNREFUSED:
        return PortVerdict.REFUSED, "no program listens on the port, or a firewall refuses"
    if number == errno.ETIMEDOUT:
        return (
            PortVerdict.FILTERED,
            f"no answer within {seconds:g} s; the host is down, or a firewall drops the packets",
        )
    if not number:
        return PortVerdict.UNREACHABLE, "the connection failed, and the system does not say why"
    return PortVerdict.UNREACHABLE, connect_failure(number, address)


def used_finding(findings: Sequence[Finding]) -> Finding:
    """Return the finding at the address that a client would use: the first that is open, or else the first."""
    return next((finding for finding in findings if finding.is_open), findings[0])
