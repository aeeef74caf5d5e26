from __future__ import annotations

import errno
import json

import pytest

from netsvc.check.check_target import CheckProtocol, CheckTarget
from netsvc.check.finding import (
    Finding,
    PathMtu,
    PeerCertificate,
    PortVerdict,
    TlsFacts,
    used_finding,
    verdict_of_error,
)
from netsvc.cli.check_report import Table, certificate_text, details, fields_of, milliseconds, mtu_text
from netsvc.cli.json_lines import json_line

DAY = 86_400.0
NOW = 1_795_000_000.0  # 2026-11-18


def target(protocol: CheckProtocol = "tcp", port: int = 443) -> CheckTarget:
    return CheckTarget(f"{protocol}/{port}", protocol, port)


CERTIFICATE = PeerCertificate(("a.example", "b.example"), "R11 (Let's Encrypt)", NOW - DAY, NOW + 40 * DAY, ())
REFUSED = Finding(target=target(), address="192.0.2.1", verdict=PortVerdict.REFUSED, reason="no program listens")
OPEN = Finding(
    target=target("tls"),
    address="2001:db8::",
    verdict=PortVerdict.OPEN,
    connect_seconds=0.0123,
    handshake_seconds=0.0251,
    tls=TlsFacts("TLSv1.3", "h2", CERTIFICATE),
    path_mtu=PathMtu(1_280, 1_500),
)


@pytest.mark.parametrize(
    ("number", "verdict", "words"),
    [
        (errno.ECONNREFUSED, PortVerdict.REFUSED, "no program listens on the port, or a firewall refuses"),
        (
            errno.ETIMEDOUT,
            PortVerdict.FILTERED,
            "no answer within 3 s; the host is down, or a firewall drops the packets",
        ),
        (
            errno.ENETUNREACH,
            PortVerdict.UNREACHABLE,
            "network is unreachable; this host has no route there; ip route shows its routes",
        ),
        (errno.EPERM, PortVerdict.UNREACHABLE, "operation not permitted; a firewall of this host forbids it"),
        (errno.ENOBUFS, PortVerdict.UNREACHABLE, "no buffer space available"),
        (0, PortVerdict.UNREACHABLE, "the connection failed, and the system does not say why"),
    ],
)
def test_an_error_of_the_system_is_a_verdict_and_words(number: int, verdict: PortVerdict, words: str) -> None:
    assert verdict_of_error(number, "192.0.2.1", 3.0) == (verdict, words)


def test_a_link_local_address_without_its_interface_gets_the_hint() -> None:
    hint = "the address is valid on one link only; name the interface, as in fe80::1%eth0"
    assert verdict_of_error(errno.EINVAL, "fe80::1", 3.0) == (PortVerdict.UNREACHABLE, hint)
    assert "a route of this host discards the packets" in verdict_of_error(errno.EINVAL, "192.0.2.1", 3.0)[1]


def test_the_address_that_is_used_is_the_first_that_is_open_or_the_first() -> None:
    assert used_finding([REFUSED, OPEN]) is OPEN
    assert used_finding([REFUSED, REFUSED]) is REFUSED


def test_a_row_has_the_verdict_the_address_and_the_times() -> None:
    table = Table(["tls/443", "tcp/443"], ["2001:db8::", "192.0.2.1"])
    assert list(table.rows(OPEN, [REFUSED], NOW)) == [
        "tls/443  open         2001:db8::  connect 12.3 ms, handshake 25.1 ms, TLS 1.3, ALPN h2, path MTU 1280 to 1500",
        "         certificate  a.example, b.example; issued by R11 (Let's Encrypt); ends 2026-12-28, in 40 days",
        "         also         192.0.2.1: refused (no program listens)",
    ]
    assert list(table.rows(REFUSED, [], NOW)) == ["tcp/443  refused      192.0.2.1   no program listens"]


def test_long_rows_are_folded_into_a_terminal() -> None:
    lines = list(Table(["tls/443"], ["2001:db8::"], 60).rows(OPEN, [REFUSED], NOW))
    assert lines == [
        "tls/443  open         2001:db8::  connect 12.3 ms, handshake",
        "                      25.1 ms, TLS 1.3, ALPN h2, path MTU",
        "                      1280 to 1500",
        "         certificate  a.example, b.example; issued by R11",
        "                      (Let's Encrypt); ends 2026-12-28, in",
        "                      40 days",
        "         also         192.0.2.1: refused (no program",
        "                      listens)",
    ]
    assert list(Table(["tls/443"], ["::"], 5).rows(OPEN, [], NOW))  # a terminal that is too narrow


def test_a_certificate_that_is_not_trusted_has_a_row_with_the_reasons() -> None:
    problems = ("it has expired", "it is not for a.example")
    bad = PeerCertificate(("b.example",), "x", 0.0, NOW - 3 * DAY, problems)
    finding = Finding(target=target("tls"), address="::1", verdict=PortVerdict.OPEN, tls=TlsFacts("TLSv1.2", "", bad))
    assert list(Table(["tls/443"], ["::1"]).rows(finding, [], NOW))[1:] == [
        "         certificate  b.example; issued by x; ended 3 days ago, on 2026-11-15",
        "         not trusted  it has expired; it is not for a.example",
    ]


def test_many_names_of_a_certificate_are_counted() -> None:
    many = PeerCertificate(tuple(f"{n}.example" for n in range(9)), "x", 0.0, NOW, ())
    assert certificate_text(many, NOW).startswith("0.example, 1.example, 2.example, 3.example and 5 more; ")
    assert certificate_text(PeerCertificate((), "x", 0.0, NOW, ()), NOW).startswith("no name; issued by x; ")


def test_an_answer_to_a_datagram_says_when_it_came() -> None:
    answered = Finding(
        target=target("udp"), address="::1", verdict=PortVerdict.OPEN, answer_seconds=0.0004, questions=1
    )
    assert details(answered) == "answer after 0.40 ms"
    late = Finding(target=target("udp"), address="::1", verdict=PortVerdict.OPEN, questions=2)
    assert details(late) == "answer to question 2"


def test_a_connection_without_tls_has_its_time_and_the_reason() -> None:
    finding = Finding(
        target=target("tls"), address="::1", verdict=PortVerdict.NO_TLS, connect_seconds=0.002, reason="no TLS here"
    )
    assert details(finding) == "connect 2.0 ms; no TLS here"


@pytest.mark.parametrize(
    ("mtu", "text"),
    [
        (PathMtu(), ""),
        (PathMtu(at_most=1_500), "path MTU at most 1500"),
        (PathMtu(57, 1_500), "path MTU at most 1500"),  # every path carries 57 bytes
        (PathMtu(1_280, 1_500), "path MTU 1280 to 1500"),
        (PathMtu(1_500, 1_500), "path MTU 1500"),
        (PathMtu(1_700, 1_500), "path MTU at most 1500"),  # it has shrunk meanwhile
    ],
)
def test_the_path_mtu_is_said_as_far_as_it_is_known(mtu: PathMtu, text: str) -> None:
    assert mtu_text(mtu) == text


def test_short_times_have_two_decimals() -> None:
    assert [milliseconds(seconds) for seconds in (0.000028, 0.000999, 0.001, 0.0123)] == [
        "0.03 ms",
        "1.00 ms",
        "1.0 ms",
        "12.3 ms",
    ]


def test_a_finding_is_one_json_object_whose_unknown_values_are_null() -> None:
    fields = json.loads(json_line(fields_of(OPEN, "host.example")))
    assert fields == {
        "target": "tls/443",
        "protocol": "tls",
        "host": "host.example",
        "address": "2001:db8::",
        "port": 443,
        "verdict": "open",
        "reason": None,
        "connect_seconds": 0.0123,
        "handshake_seconds": 0.0251,
        "answer_seconds": None,
        "questions": None,
        "path_mtu_at_least": 1_280,
        "path_mtu_at_most": 1_500,
        "tls_version": "TLSv1.3",
        "alpn": "h2",
        "alpn_refusal": None,
        "certificate": {
            "names": ["a.example", "b.example"],
            "issuer": "R11 (Let's Encrypt)",
            "begins": "2026-11-17T11:06:40Z",
            "ends": "2026-12-28T11:06:40Z",
            "trusted": True,
            "problems": [],
        },
    }
    assert set(fields_of(REFUSED, "h")) == set(fields)
    assert [fields_of(Finding(target=target(), address="", verdict=v), "h")["verdict"] for v in PortVerdict] == [
        "open",
        "refused",
        "filtered",
        "unreachable",
        "no_answer",
        "no_tls",
        "tls_failed",
    ]
