"""The client's side of a TLS handshake that is only looked at: bytes in, bytes out, and what became of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from typing import Any

from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.exceptions import CertificateError as UnusableCertificateError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from netsvc.check.finding import PeerCertificate, TlsFacts
from netsvc.net.certificate_facts import certificate_facts
from netsvc.wire.address import is_ip

#: The protocols that the client offers by ALPN (RFC 7301). Without an offer, a server does not say what it speaks.
ALPN_OFFERED = (b"h2", b"http/1.1")

#: Alerts of a server that speaks none of them. Twisted's servers send the second one on OpenSSL 4.
OFFER_REFUSED = ("no application protocol", "internal error")

_READ_MAX = 65_536

# Types of TLS records, and the message that a server begins with.
_ALERT, _HANDSHAKE, _SERVER_HELLO = 21, 22, 2

#: How OpenSSL names the alert of a server.
_ALERT_REASON = re.compile(r"(?:(?:tls|sslv3|ssl/tls|tlsv1\d?) alert|tlsv1) (.*)")

_ALERT_REMEDIES = {
    "certificate required": "; it wants a certificate of the client",
    "protocol version": "; it speaks other versions of TLS",
    "unrecognized name": "; it does not serve this name",
}

#: Errors of the verification, from x509_vfy.h of OpenSSL.
_VERIFY_ERRORS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its authority is not among those of this host",
    20: "its authority is not among those of this host, or the server does not send the whole chain",
    23: "it is revoked",
    24: "a certificate in the chain may not sign others",
    26: "it is not for servers",
}

#: Errors that follow from another one.
_CONSEQUENCES = {21: {18, 19, 20}, 27: set(_VERIFY_ERRORS)}


class TlsOutcome(Enum):
    """The outcome of a handshake."""

    COMPLETE = auto()
    NOT_TLS = auto()  # the server answered something else, or closed the connection at once
    FAILED = auto()


def checking_context(alpn: Sequence[bytes] = ALPN_OFFERED, authorities: str = "") -> SSL.Context:
    """Return a context with which handshakes are looked at: a certificate that is not trusted ends none.

    It accepts old versions and weak ciphers, because it is to tell what the server speaks. No data are sent.

    :param alpn: the protocols to offer.
    :param authorities: path of a PEM file with the authorities to trust; empty for those of the system.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_cipher_list(b"ALL:!aNULL:@SECLEVEL=0")
    if authorities:
        context.load_verify_locations(authorities)
    else:
        context.set_default_verify_paths()
    context.set_verify(SSL.VERIFY_PEER, _note_verification)
    if alpn:
        context.set_alpn_protos(list(alpn))
    return context


def checking_contexts(authorities: str = "") -> list[SSL.Context]:
    """Return a context that offers protocols by ALPN, and one for a server that refuses the offer.

    If the authorities are those of the system, this takes 10 ms.

    :param authorities: as for :func:`checking_context`.
    """
    return [checking_context(alpn, authorities) for alpn in (ALPN_OFFERED, ())]


def _note_verification(connection: SSL.Connection, _certificate: object, error: int, _depth: int, _ok: int) -> bool:
    errors: list[int] = connection.get_app_data()
    if error and error not in errors:
        errors.append(error)
    return True


class TlsAttempt:
    """One handshake.

    :param context: of :func:`checking_context`.
    :param host: the name or IP address of the server, which its certificate should have.
    :ivar outcome: what became of it; None while it goes on.
    :ivar reason: why it is not complete, in words.
    :ivar alert: the alert by which the server has refused it; empty if none.
    :ivar facts: of a handshake that is complete.
    :ivar has_answer: whether the server has sent anything.
    """

    def __init__(self, context: SSL.Context, host: str) -> None:
        self.outcome: TlsOutcome | None = None
        self.reason = self.alert = ""
        self.facts: TlsFacts | None = None
        self.has_answer = False
        self._host = host.partition("%")[0] if is_ip(host) else host.encode("idna").decode("ascii")
        self._head = b""
        self._errors: list[int] = []
        self._connection = SSL.Connection(context, None)
        self._connection.set_app_data(self._errors)
        self._connection.set_connect_state()
        if not is_ip(host):
            self._connection.set_tlsext_host_name(self._host.encode("ascii"))

    def begin(self) -> bytes:
        """Return the first bytes to send."""
        return self._proceed()

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the server. Return the bytes to send."""
        if self.outcome is not None:
            return b""
        self.has_answer = True
        if len(self._head) < 6:
            self._head += data[: 6 - len(self._head)]
            if not _may_be_tls(self._head):
                self.outcome = TlsOutcome.NOT_TLS
                return b""
        while data:
            taken = self._connection.bio_write(data)
            data = data[taken:]
        return self._proceed()

    def close(self) -> bytes:
        """Return the bytes that end a complete handshake in order."""
        if self.outcome is not TlsOutcome.COMPLETE:
            return b""
        with suppress(SSL.Error):
            self._connection.shutdown()
        return self._to_send()

    def connection_lost(self) -> None:
        """The connection is closed."""
        if self.outcome is None:
            self.outcome = TlsOutcome.FAILED if self.has_answer else TlsOutcome.NOT_TLS
            self.reason = "the server closed the connection during the handshake"

    def _proceed(self) -> bytes:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as e:
            self._failed(e)
        else:
            self.outcome = TlsOutcome.COMPLETE
            self.facts = TlsFacts(
                self._connection.get_protocol_version_name(),
                self._connection.get_alpn_proto_negotiated().decode("ascii", "replace"),
                self._peer_certificate(),
            )
        return self._to_send()

    def _failed(self, error: SSL.Error) -> None:
        self.outcome = TlsOutcome.FAILED
        reason = next((str(item[-1]) for item in error.args[0]), "") if error.args else ""
        if match := _ALERT_REASON.fullmatch(reason):
            self.alert = match[1]
            self.reason = f"the server refuses the handshake: {self.alert}{_ALERT_REMEDIES.get(self.alert, '')}"
        else:
            self.reason = f"OpenSSL refuses the handshake: {reason or 'the reason is unknown'}"

    def _to_send(self) -> bytes:
        pieces = []
        try:
            while True:
                pieces.append(self._connection.bio_read(_READ_MAX))
        except SSL.WantReadError:
            return b"".join(pieces)

    def _peer_certificate(self) -> PeerCertificate | None:
        certificate: crypto.X509 | None = self._connection.get_peer_certificate()
        if certificate is None:
            return None
        facts = certificate_facts(certificate)
        problems = [
            _VERIFY_ERRORS.get(error, f"OpenSSL does not trust it (error {error})")
            for error in self._errors
            if not _CONSEQUENCES.get(error, set()) & set(self._errors)
        ]
        if not self._is_for_host():
            problems.append(f"it is not for {self._host}")
        return PeerCertificate(facts.names, facts.issuer, facts.begins, facts.ends, tuple(problems))

    def _is_for_host(self) -> bool:
        verify: Any = partial(verify_ip_address if is_ip(self._host) else verify_hostname, self._connection)
        try:
            verify(self._host)
        except (VerificationError, UnusableCertificateError):
            return False
        return True


def _may_be_tls(head: bytes) -> bool:
    """Whether a server that speaks TLS may begin with these bytes: an alert, or a ServerHello."""
    kind, major = head[0], head[1:2]
    if kind not in (_ALERT, _HANDSHAKE) or major not in (b"", b"\3"):
        return False
    return kind == _ALERT or len(head) < 6 or head[5] == _SERVER_HELLO
