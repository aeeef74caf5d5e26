"""The certificate of a server: from two files, and from what they hold now, without a restart."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator, IProtocolFactory, IReactorTime
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, trustRootFromCertificates
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

#: Seconds between two looks at whether the files have changed; there is none without a connection.
LOOK = 1.0

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class CertificateError(ValueError):
    """The files cannot be served with; the text says why, in one line.

    :ivar path: the file at fault.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """TLS 1.2 or newer, with a certificate that is read again when its files change.

    Files that cannot be used, half-written ones say, are logged and the certificate before them stays.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param certificate: path of a PEM file: the certificate, and behind it the chain.
    :param key: path of a PEM file; empty if the key is in the same file.
    :param client_ca: path of a PEM file; a client has to show a certificate of one of the authorities in it. Empty to
        ask for none.
    :raises CertificateError: for files that cannot be used.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, certificate: str, key: str = "", client_ca: str = "") -> None:
        self._clock = clock
        self._certificate = certificate
        self._key = key or certificate
        self._client_ca = client_ca
        self._looked = clock.seconds()
        self._read = self._state()
        self._options = self._load()

    def wrap(self, factory: IProtocolFactory) -> IProtocolFactory:
        """Return a factory whose connections speak TLS and are then those of ``factory``."""
        return _SecuredFactory(self, False, factory, self._clock)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        now = self._clock.seconds()
        if not 0 <= now - self._looked < LOOK:
            self._looked = now
            if self._state() != self._read:
                self.reload()
        return SSL.Connection(self._options.getContext(), None)

    def reload(self) -> None:
        """Read the files again; connections that come from now on get what they hold."""
        self._read = self._state()
        try:
            self._options = self._load()
        except CertificateError as e:
            self.log.error("{path}: {problem}; the certificate stays as it was", path=e.path, problem=str(e))
        else:
            self.log.info("{path}: read again", path=self._certificate)

    def _state(self) -> list[tuple[int, int, int] | None]:
        """Return what changes when a file does."""
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
        chain = _certificates(self._certificate)
        try:
            key = KeyPair.load(_content(self._key), crypto.FILETYPE_PEM)
        except crypto.Error:
            raise CertificateError(self._key, "no key in PEM without a passphrase") from None
        trust = trustRootFromCertificates(_certificates(self._client_ca)) if self._client_ca else None
        options = CertificateOptions(
            privateKey=key.original,
            certificate=chain[0].original,
            extraCertChain=[one.original for one in chain[1:]],
            trustRoot=trust,
        )
        try:
            options.getContext().check_privatekey()
        except (SSL.Error, crypto.Error):
            raise CertificateError(self._key, f"not the key of the certificate in {self._certificate}") from None
        return options


class _SecuredFactory(TLSMemoryBIOFactory):
    """Twisted's factory, which would make a connection of nothing where the wrapped one refuses a peer."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.wrappedFactory.buildProtocol(addr)
        return None if protocol is None else self.protocol(self, protocol)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise CertificateError(path, f"cannot be read: {(e.strerror or str(e)).lower()}") from None


def _certificates(path: str) -> list[Any]:
    try:
        found = [Certificate.loadPEM(pem) for pem in _CERTIFICATE.findall(_content(path))]
    except crypto.Error:
        found = []
    if not found:
        raise CertificateError(path, "no certificate in PEM")
    return found
