"""TLS of a client: whom it trusts, and the certificate that it presents."""

from __future__ import annotations

from dataclasses import dataclass

from click import UsageError
from OpenSSL import crypto
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import (
    Certificate,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)

from netsvc.net.error_words import failure_words
from netsvc.wire.zones import without_zone


@dataclass(frozen=True)
class ClientTLS:
    """TLS for a connection that this side opens.

    :param ca: path of a PEM file with the authority to trust in place of those of the system.
    :param certificate: path of a PEM file with this side's certificate, followed by its chain.
    :param key: path of its key; by default it is in the same file.
    """

    ca: str | None
    certificate: str | None = None
    key: str | None = None

    def secured(self, endpoint: IStreamClientEndpoint, host: str) -> IStreamClientEndpoint:
        """Return an endpoint that adds TLS to another one.

        :param host: the name or the address for which the server must have a certificate.
        :raises UsageError: if a file cannot be used.
        """
        trust = trustRootFromCertificates(_certificates("--ca", self.ca)) if self.ca else platformTrust()
        own, extra = None, {}
        if self.certificate:
            chain = _certificates("--cert", self.certificate)
            path = self.key or self.certificate
            try:
                key = KeyPair.load(_content("--key", path), crypto.FILETYPE_PEM)
                own = PrivateCertificate.fromCertificateAndKeyPair(chain[0], key)
            except (crypto.Error, ValueError):
                raise UsageError(
                    f"--key {path}: no PEM key without a passphrase that belongs to {self.certificate}; name its key"
                ) from None
            extra = {"extraCertChain": [one.original for one in chain[1:]]} if chain[1:] else {}
        name = without_zone(host)  # no certificate contains a zone
        return wrapClientTLS(optionsForClientTLS(name, trust, own, extraCertificateOptions=extra), endpoint)


def _content(flag: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1_048_576)
    except OSError as e:
        problem = failure_words(e)
        raise UsageError(f"{flag} {path}: {problem}; name a PEM file that can be read") from None


def _certificates(flag: str, path: str) -> list[Certificate]:
    end = b"-----END CERTIFICATE-----"
    pieces = [piece + end for piece in _content(flag, path).split(end)[:-1]]
    try:
        found = [Certificate.loadPEM(piece[piece.index(b"-----BEGIN CERTIFICATE-----") :]) for piece in pieces]
    except (crypto.Error, ValueError):
        found = []
    if not found:
        raise UsageError(f"{flag} {path}: the file contains no PEM certificate; name one that does")
    return found
