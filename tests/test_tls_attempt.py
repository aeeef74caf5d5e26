"""A handshake that is only looked at, in memory, with Python's own TLS as the server."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from netsvc.check.finding import PeerCertificate, TlsFacts
from netsvc.check.tls_attempt import OFFER_REFUSED, TlsAttempt, TlsOutcome, checking_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Tests")


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> SSL.Context:
    """A context that trusts the authority."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return checking_context(authorities=str(path))


def server_context(issued: trustme.LeafCert, alpn: Iterable[str] = ()) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Server:
    """A TLS server in memory."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def receive(self, data: bytes) -> bytes:
        self._incoming.write(data)
        with suppress(ssl.SSLError):  # it wants more, or has sent an alert
            self.tls.do_handshake()
        return self._outgoing.read()


def handshake(attempt: TlsAttempt, server: Server) -> TlsAttempt:
    """Let both talk until the client has nothing to send."""
    to_send = attempt.begin()
    while to_send:
        to_send = attempt.receive(server.receive(to_send))
    return attempt


def facts_of(attempt: TlsAttempt) -> TlsFacts:
    assert attempt.outcome is TlsOutcome.COMPLETE, attempt.reason
    assert attempt.facts is not None
    return attempt.facts


def certificate_of(attempt: TlsAttempt) -> PeerCertificate:
    certificate = facts_of(attempt).certificate
    assert certificate is not None
    return certificate


def test_a_complete_handshake_tells_version_alpn_and_certificate(authority: trustme.CA, trusting: SSL.Context) -> None:
    issued = authority.issue_cert("host.example", "192.0.2.1")
    server = Server(server_context(issued, ["http/1.1", "h2"]))
    attempt = handshake(TlsAttempt(trusting, "host.example"), server)
    facts = facts_of(attempt)
    assert (facts.version, facts.alpn) == ("TLSv1.3", "http/1.1")
    certificate = certificate_of(attempt)
    assert certificate.names == ("host.example", "192.0.2.1")
    assert certificate.issuer == "Tests"
    assert certificate.problems == ()
    assert certificate.begins < datetime.now(UTC).timestamp() < certificate.ends


def test_the_end_of_a_complete_handshake_is_announced(authority: trustme.CA, trusting: SSL.Context) -> None:
    server = Server(server_context(authority.issue_cert("host.example")))
    attempt = handshake(TlsAttempt(trusting, "host.example"), server)
    server.receive(attempt.close())
    assert server.tls.read(1) == b""  # not "more is needed"


def test_an_old_version_is_told(authority: trustme.CA, trusting: SSL.Context) -> None:
    context = server_context(authority.issue_cert("host.example"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert facts_of(handshake(TlsAttempt(trusting, "host.example"), Server(context))).version == "TLSv1.2"


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
def test_the_certificate_of_an_ip_address_is_compared_with_it(
    host: str, authority: trustme.CA, trusting: SSL.Context
) -> None:
    issued = authority.issue_cert("192.0.2.1", "2001:db8::1", "fe80::1")
    assert certificate_of(handshake(TlsAttempt(trusting, host), Server(server_context(issued)))).problems == ()
    other = authority.issue_cert("192.0.2.2")
    [problem] = certificate_of(handshake(TlsAttempt(trusting, host), Server(server_context(other)))).problems
    assert problem == f"it is not for {host.partition('%')[0]}"


def test_a_name_of_other_letters_is_compared_in_ascii(authority: trustme.CA, trusting: SSL.Context) -> None:
    issued = authority.issue_cert("xn--mnchen-3ya.example")
    attempt = handshake(TlsAttempt(trusting, "münchen.example"), Server(server_context(issued)))
    assert certificate_of(attempt).problems == ()


def test_a_certificate_of_another_name_is_shown_with_the_problem(authority: trustme.CA, trusting: SSL.Context) -> None:
    issued = authority.issue_cert("other.example")
    certificate = certificate_of(handshake(TlsAttempt(trusting, "host.example"), Server(server_context(issued))))
    assert (certificate.names, certificate.problems) == (("other.example",), ("it is not for host.example",))


def test_a_certificate_that_has_expired_is_shown_with_all_problems(
    authority: trustme.CA, trusting: SSL.Context
) -> None:
    issued = authority.issue_cert("other.example", not_after=datetime.now(UTC) - timedelta(days=2))
    certificate = certificate_of(handshake(TlsAttempt(trusting, "host.example"), Server(server_context(issued))))
    assert certificate.problems == ("it has expired", "it is not for host.example")


def test_an_authority_that_is_not_trusted_is_one_problem(authority: trustme.CA) -> None:
    issued = authority.issue_cert("host.example")
    certificate = certificate_of(
        handshake(TlsAttempt(checking_context(), "host.example"), Server(server_context(issued)))
    )
    [problem] = certificate.problems
    assert problem.startswith("its authority is not among those of this host")


def test_a_server_that_wants_a_certificate_refuses_the_handshake(authority: trustme.CA, trusting: SSL.Context) -> None:
    context = server_context(authority.issue_cert("host.example"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the handshake is complete before the server says so
    context.verify_mode = ssl.CERT_REQUIRED
    attempt = handshake(TlsAttempt(trusting, "host.example"), Server(context))
    assert attempt.outcome is TlsOutcome.FAILED
    assert attempt.reason == "the server refuses the handshake: handshake failure"


#: A fatal alert, by its number (RFC 8446, section 6).
def alert(number: int) -> bytes:
    return bytes([21, 3, 3, 0, 2, 2, number])


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (70, "protocol version; it speaks other versions of TLS"),
        (112, "unrecognized name; it does not serve this name"),
        (116, "certificate required; it wants a certificate of the client"),
        (120, OFFER_REFUSED[0]),
        (80, OFFER_REFUSED[1]),
    ],
)
def test_an_alert_is_the_reason(number: int, words: str, trusting: SSL.Context) -> None:
    attempt = TlsAttempt(trusting, "host.example")
    attempt.begin()
    attempt.receive(alert(number))
    assert attempt.outcome is TlsOutcome.FAILED
    assert attempt.reason == f"the server refuses the handshake: {words}"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example ESMTP\r\n",
        b"\x16\x02",
        b"\x17\x03\x03\x00\x00",
        b"\0",
    ],
)
def test_a_server_that_answers_something_else_does_not_speak_tls(answer: bytes, trusting: SSL.Context) -> None:
    attempt = TlsAttempt(trusting, "host.example")
    attempt.begin()
    assert attempt.receive(answer) == b""
    assert attempt.outcome is TlsOutcome.NOT_TLS


@pytest.mark.parametrize("size", [1, 5, 100_000])
def test_a_server_that_echoes_the_client_does_not_speak_tls(size: int, trusting: SSL.Context) -> None:
    attempt = TlsAttempt(trusting, "host.example")
    hello = attempt.begin()
    for start in range(0, len(hello), size):
        attempt.receive(hello[start : start + size])
    assert attempt.outcome is TlsOutcome.NOT_TLS


def test_a_server_that_closes_at_once_does_not_speak_tls(trusting: SSL.Context) -> None:
    attempt = TlsAttempt(trusting, "host.example")
    attempt.begin()
    attempt.connection_lost()
    assert attempt.outcome is TlsOutcome.NOT_TLS


def test_a_server_that_closes_during_the_handshake_has_failed(authority: trustme.CA, trusting: SSL.Context) -> None:
    server = Server(server_context(authority.issue_cert("host.example")))
    attempt = TlsAttempt(trusting, "host.example")
    attempt.receive(server.receive(attempt.begin())[:20])
    attempt.connection_lost()
    assert (attempt.outcome, attempt.reason) == (
        TlsOutcome.FAILED,
        "the server closed the connection during the handshake",
    )


@given(st.binary(min_size=1, max_size=200), st.sampled_from([b"", b"\x16\x03\x03\0\x30\2", b"\x15\x03\x03\0\2"]))
def test_any_bytes_may_come(data: bytes, head: bytes) -> None:
    attempt = TlsAttempt(_CONTEXT, "host.example")
    attempt.begin()
    attempt.receive(head + data)
    attempt.receive(data)
    assert attempt.outcome is not TlsOutcome.COMPLETE
    attempt.connection_lost()
    assert attempt.outcome in (TlsOutcome.NOT_TLS, TlsOutcome.FAILED)


_CONTEXT = checking_context()


@given(st.integers(1, 50))
def test_the_pieces_in_which_the_server_answers_do_not_matter(size: int) -> None:
    server = Server(_SERVER)
    attempt = TlsAttempt(_CONTEXT, "host.example")
    to_send = attempt.begin()
    while to_send:
        answer = server.receive(to_send)
        to_send = b"".join(attempt.receive(answer[start : start + size]) for start in range(0, len(answer), size))
    assert attempt.outcome is TlsOutcome.COMPLETE


_SERVER = server_context(trustme.CA().issue_cert("host.example"))
