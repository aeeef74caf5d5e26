"""The findings of ``netsvc check``, as a table for people and as objects for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from netsvc.check.finding import Finding, PathMtu, PeerCertificate, PortVerdict

#: Seconds of a day.
_DAY = 86_400.0

#: Bytes of a packet that every path carries (RFC 791). Less than this says nothing.
EVERY_PATH = 576

#: Names of a certificate that the table shows.
NAMES_MAX = 4

#: Columns that the text of a folded row has at least.
FOLDED_MIN = 30

_VERDICT_WIDTH = max(len(verdict.value) for verdict in PortVerdict)


class Table:
    """Writes findings as rows of a table, whose columns are known before the first row.

    :param targets: all targets, as they were typed.
    :param addresses: all addresses.
    :param width: columns of the terminal, into which long rows are folded; None to fold none.
    """

    def __init__(self, targets: Sequence[str], addresses: Sequence[str], width: int | None = None) -> None:
        self._target_width = max(map(len, targets))
        self._address_width = max(map(len, addresses))
        self._indent = self._target_width + _VERDICT_WIDTH + 4
        self._width = None if width is None else max(width, self._indent + FOLDED_MIN)

    def rows(self, finding: Finding, others: Sequence[Finding], now: float) -> Iterator[str]:
        """Give the lines of one finding.

        :param others: findings about the same target at other addresses, of which only the verdict is shown.
        :param now: seconds since the epoch.
        """
        address = finding.address.ljust(self._address_width)
        yield from self._row(finding.target.text, finding.verdict.value, f"{address}  {details(finding)}")
        if finding.tls is not None and finding.tls.certificate is not None:
            certificate = finding.tls.certificate
            yield from self._row("", "certificate", certificate_text(certificate, now))
            if certificate.problems:
                yield from self._row("", "not trusted", "; ".join(certificate.problems))
        for other in others:
            yield from self._row("", "also", f"{other.address}: {summary(other)}")

    def _row(self, target: str, verdict: str, text: str) -> list[str]:
        line = f"{target:{self._target_width}}  {verdict:{_VERDICT_WIDTH}}  {text}".rstrip()
        if self._width is None or len(line) <= self._width:
            return [line]
        indent = " " * self._indent
        return textwrap.wrap(
            line, self._width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )


def details(finding: Finding) -> str:
    """Return the times and facts of a finding, and why it is not open."""
    parts = []
    if finding.connect_seconds is not None:
        parts.append(f"connect {milliseconds(finding.connect_seconds)}")
    if finding.handshake_seconds is not None:
        parts.append(f"handshake {milliseconds(finding.handshake_seconds)}")
    if finding.tls is not None:
        parts.append(finding.tls.version.replace("TLSv", "TLS "))
        if finding.tls.alpn:
            parts.append(f"ALPN {finding.tls.alpn}")
        if finding.tls.alpn_refusal:
            parts.append(f"refuses ALPN ({finding.tls.alpn_refusal})")
    if finding.is_open and finding.questions:
        after = "" if finding.answer_seconds is None else f" after {milliseconds(finding.answer_seconds)}"
        parts.append(f"answer{after}" + (f" to question {finding.questions}" if finding.questions > 1 else ""))
    if finding.is_open and (mtu := mtu_text(finding.path_mtu)):
        parts.append(mtu)
    facts = ", ".join(parts)
    return f"{facts}; {finding.reason}" if facts and finding.reason else facts or finding.reason


def summary(finding: Finding) -> str:
    """Return the verdict, and the beginning of the reason."""
    reason = finding.reason.partition(";")[0]
    return f"{finding.verdict.value} ({reason})" if reason else finding.verdict.value


def mtu_text(mtu: PathMtu) -> str:
    """Return what is known of the path MTU; nothing if nothing is."""
    if mtu.at_most is None:
        return ""
    if mtu.at_least is None or not EVERY_PATH < mtu.at_least <= mtu.at_most:
        return f"path MTU at most {mtu.at_most}"
    if mtu.at_least == mtu.at_most:
        return f"path MTU {mtu.at_most}"
    return f"path MTU {mtu.at_least} to {mtu.at_most}"


def certificate_text(certificate: PeerCertificate, now: float) -> str:
    """Return the names, the issuer and the end of a certificate."""
    names, days = ", ".join(certificate.names[:NAMES_MAX]) or "no name", (certificate.ends - now) / _DAY
    if len(certificate.names) > NAMES_MAX:
        names += f" and {len(certificate.names) - NAMES_MAX} more"
    ended = f"ended {-days:.0f} days ago" if days < 0 else f"in {days:.0f} days"
    end = f"{datetime.fromtimestamp(certificate.ends, UTC):%Y-%m-%d}"
    return f"{names}; issued by {certificate.issuer}; " + (f"{ended}, on {end}" if days < 0 else f"ends {end}, {ended}")


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, to a tenth; below 1 ms to a hundredth."""
    return f"{seconds * 1000:.{1 if seconds >= 0.001 else 2}f} ms"


def fields_of(finding: Finding, host: str) -> dict[str, object]:
    """Return the fields of the JSON object of a finding. What is not known is None.

    :param host: the host as it was typed.
    """
    tls = finding.tls
    certificate = tls.certificate if tls is not None else None
    return {
        "target": finding.target.text,
        "protocol": finding.target.protocol,
        "host": host,
        "address": finding.address,
        "port": finding.target.port,
        "verdict": finding.verdict.value.lower().replace(" ", "_"),
        "reason": finding.reason or None,
        "connect_seconds": finding.connect_seconds,
        "handshake_seconds": finding.handshake_seconds,
        "answer_seconds": finding.answer_seconds,
        "questions": finding.questions if finding.target.protocol == "udp" else None,
        "path_mtu_at_least": finding.path_mtu.at_least,
        "path_mtu_at_most": finding.path_mtu.at_most,
        "tls_version": tls.version if tls is not None else None,
        "alpn": (tls.alpn or None) if tls is not None else None,
        "alpn_refusal": (tls.alpn_refusal or None) if tls is not None else None,
        "certificate": None if certificate is None else _certificate_fields(certificate),
    }


def _certificate_fields(certificate: PeerCertificate) -> dict[str, object]:
    return {
        "names": list(certificate.names),
        "issuer": certificate.issuer,
        "begins": _time(certificate.begins),
        "ends": _time(certificate.ends),
        "trusted": not certificate.problems,
        "problems": list(certificate.problems),
    }


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
