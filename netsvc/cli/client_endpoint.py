"""Where a client connects to: TCP, or TLS that verifies the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click import UsageError
from OpenSSL import crypto
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates

from netsvc.cli.command import CONNECT_TIMEOUT
from netsvc.net.reactors import Reactor
from netsvc.wire.address import HostPort
from netsvc.wire.zones import without_zone


def client_endpoint(reactor: Reactor, where: HostPort, *, tls: bool, ca: str) -> IStreamClientEndpoint:
    """Return the endpoint of a client.

    :param tls: whether to use TLS.
    :param ca: the file of the authority to trust; empty for those of the system.
    :raises UsageError: if that file cannot be used.
    """
    host = where.host or ""
    endpoint = HostnameEndpoint(reactor, host, where.port, timeout=CONNECT_TIMEOUT)
    if not tls:
        return endpoint
    name = without_zone(host)  # no certificate contains a zone
    return wrapClientTLS(optionsForClientTLS(name, trustRoot=_authority(ca) if ca else platformTrust()), endpoint)


def _authority(path: str) -> Any:
    try:
        return trustRootFromCertificates([Certificate.loadPEM(Path(path).read_bytes())])
    except OSError as e:
        problem = (e.strerror or str(e)).lower()
        raise UsageError(f"--ca {path}: {problem}; name a PEM file that can be read") from None
    except crypto.Error:
        raise UsageError(f"--ca {path}: the file contains no PEM certificate; name one that does") from None
