"""TLS for a server: certificate and key come from files, which are read again when they change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, trustRootFromCertificates
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from netsvc.errors import NetsvcError
from netsvc.limits.admission import HANDSHAKE_RATE
from netsvc.limits.numbers import check_number
from netsvc.net.error_words import failure_words
from netsvc.net.reactors import Clock, monotonic_of
from netsvc.net.tls_handshakes import HandshakeTurns, TurnTakingTLS

#: Seconds between two checks whether the files have changed. The check happens at a new connection.
CHECK_INTERVAL = 1.0

#: Bytes of the longest file that is read.
FILE_MAX = 1024 * 1024

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class CertificateError(NetsvcError, ValueError):
    """A certificate or key file cannot be used; the message says why.

    :ivar path: the path of that file.
    :ivar remedy: what to do about it.
    """

    def __init__(
        self, path: str, problem: str, remedy: str = "name PEM files that belong together and that you may read"
    ) -> None:
        super().__init__(problem)
        self.path = path
        self.remedy = remedy


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """TLS 1.2 or newer, with a certificate that is read again when its files change.

    If changed files cannot be used, that is logged and the previous certificate stays: a file may be half-written, or
    its certificate may have expired. If the certificate in use expires, it stays as well.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param certificate: path of a PEM file with the certificate, followed by its chain.
    :param key: path of a PEM file; empty if the key is in the same file.
    :param client_ca: path of a PEM file with certificate authorities. A client must present a certificate that one of
        them issued. Empty for no client certificates.
    :param handshake_rate: handshakes per second of all hosts together; 0 for no limit. Further ones wait.
    :ivar expires: when the certificate in use expires, in seconds since the epoch.
    :raises CertificateError: for files that cannot be used, and for a certificate that has expired.
    :raises ConfigError: for a rate that is negative or not a number.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        certificate: str,
        key: str = "",
        client_ca: str = "",
        *,
        handshake_rate: float = HANDSHAKE_RATE,
    ) -> None:
        check_number("handshake_rate", handshake_rate, whole=False)
        self._clock = clock
        self._monotonic = monotonic_of(clock)
        self._turns = HandshakeTurns(clock, self._monotonic, handshake_rate)
        self._certificate = certificate
        self._key = key or certificate
        self._client_ca = client_ca
        self._checked = self._monotonic()
        self._files_read = self._state()
        self._options = self._load()

    def wrap(self, factory: IProtocolFactory) -> IProtocolFactory:
        """Return a factory that runs the protocols of ``factory`` over TLS."""
        return _SecuredFactory(self, self._turns, self._clock, factory)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        now = self._monotonic()
        if now - self._checked >= CHECK_INTERVAL:
            self._checked = now
            if self._state() != self._files_read:
                self.reload()
        return SSL.Connection(self._options.getContext(), None)

    def reload(self) -> None:
        """Read the files again. New connections use what they contain."""
        self._files_read = self._state()
        try:
            self._options = self._load()
        except CertificateError as e:
            self.log.error("{path}: {problem}; the previous certificate stays in use", path=e.path, problem=str(e))
        else:
            self.log.info("{path}: certificate reloaded", path=self._certificate)

    def _state(self) -> list[tuple[int, int, int] | None]:
        """Return inode, size and time of change of each file; None for one that cannot be read."""
        found: list[tuple[int, int, int] | None] = []
        for path in (self._certificate, self._key, self._client_ca):
            try:
                status = os.stat(path)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found

    def _load(self) -> CertificateOptions:
        chain = load_certificates(self._certificate)
        expires = _end_of_validity(chain[0])
        if expires <= self._clock.seconds():
            raise CertificateError(self._certificate, f"the certificate expired on {format_date(expires)}", "renew it")
        try:
            key = KeyPair.load(_content(self._key), crypto.FILETYPE_PEM)
        except crypto.Error:
            raise CertificateError(self._key, "no PEM key without a passphrase") from None
        trust = trustRootFromCertificates(load_certificates(self._client_ca)) if self._client_ca else None
        options = CertificateOptions(
            privateKey=key.original,
            certificate=chain[0].original,
            extraCertChain=[one.original for one in chain[1:]],
            trustRoot=trust,
        )
        try:
            options.getContext().check_privatekey()
        except (SSL.Error, crypto.Error):
            raise CertificateError(
                self._key, f"the key does not belong to the certificate in {self._certificate}"
            ) from None
        # A client may offer protocols by ALPN. Twisted's callback chooses an empty name, which OpenSSL 4 refuses.
        options.getContext().set_alpn_select_callback(lambda _connection, _offered: SSL.NO_OVERLAPPING_PROTOCOLS)
        self.expires = expires
        return options

    @property
    def path(self) -> str:
        """The path of the file with the certificate."""
        return self._certificate


class _SecuredFactory(TLSMemoryBIOFactory):
    """Twisted's factory, except that a peer that the wrapped factory refuses is closed. Twisted's would wrap None."""

    noisy = False

    def __init__(self, tls: ServerTLS, turns: HandshakeTurns, clock: Any, factory: IProtocolFactory) -> None:
        super().__init__(tls, False, factory, clock)
        self._turns = turns

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.wrappedFactory.buildProtocol(addr)
        if protocol is None:
            return None
        connection = TurnTakingTLS(self, protocol)
        connection.turns = self._turns
        return connection


def format_date(seconds: float) -> str:
    """Return the day of a time in seconds since the epoch, in UTC: ``2026-11-24``."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _end_of_validity(certificate: Certificate) -> float:
    """Return when a certificate expires, in seconds since the epoch."""
    text = certificate.original.get_notAfter().decode("ascii")  # YYYYMMDDhhmmssZ
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _content(path: str) -> bytes:
    """Return the content of a regular file. Opening a FIFO or a device must not block the server."""
    try:
        with open(path, "rb", buffering=0, opener=_open_without_blocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CertificateError(path, "not a regular file")
            content = file.read(FILE_MAX + 1) or b""
    except OSError as e:
        raise CertificateError(path, f"cannot be read: {failure_words(e)}") from None
    if len(content) > FILE_MAX:
        raise CertificateError(path, "longer than 1 MiB")
    return content


def _pem_blocks(content: bytes) -> Iterator[bytes]:
    """Find the certificates of a PEM file, in linear time."""
    begin = content.find(_BEGIN)
    while begin >= 0 and (end := content.find(_END, begin)) >= 0:
        end += len(_END)
        yield content[begin:end] + b"\n"
        begin = content.find(_BEGIN, end)


def load_certificates(path: str) -> list[Any]:
    """Return the certificates of a PEM file.

    :raises CertificateError: if it cannot be read, or there are none.
    """
    content = _content(path)
    try:
        found = [Certificate.loadPEM(pem) for pem in _pem_blocks(content)]
    except crypto.Error:
        found = []
    if not found:
        raise CertificateError(path, "no PEM certificate")
    return found
