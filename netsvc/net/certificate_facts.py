"""The content of a certificate: its names, its issuer and its time."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import crypto


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The content of a certificate, unverified.

    :param names: the host names and IP addresses it is for; the common name if it has none.
    :param issuer: the name of the issuer, with its organisation.
    :param begins: when it becomes valid, in seconds since the epoch.
    :param ends: when it expires.
    """

    names: tuple[str, ...]
    issuer: str
    begins: float
    ends: float


def certificate_facts(certificate: crypto.X509) -> CertificateFacts:
    """Return what a certificate says. A peer may have sent anything; parts that have no meaning are left out."""
    parsed = certificate.to_cryptography()
    return CertificateFacts(
        names=_alternative_names(parsed) or _values(parsed.subject, NameOID.COMMON_NAME),
        issuer=_issuer(parsed.issuer),
        begins=parsed.not_valid_before_utc.timestamp(),
        ends=parsed.not_valid_after_utc.timestamp(),
    )


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return ()
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _issuer(name: x509.Name) -> str:
    common, organisations = _values(name, NameOID.COMMON_NAME), _values(name, NameOID.ORGANIZATION_NAME)
    if common and organisations:
        return f"{common[0]} ({organisations[0]})"
    return next(iter((*common, *organisations)), "an issuer without a name")


def _values(name: x509.Name, kind: x509.ObjectIdentifier) -> tuple[str, ...]:
    return tuple(str(attribute.value) for attribute in name.get_attributes_for_oid(kind))
