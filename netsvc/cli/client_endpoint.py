"""Where a client connects to: TCP, or TLS that verifies the server."""

from __future__ import annotations

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from netsvc.cli.command import CONNECT_TIMEOUT
from netsvc.cli.stream_peer import ClientTLS
from netsvc.net.reactors import Reactor
from netsvc.wire.address import HostPort


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
    return ClientTLS(ca or None, None, None).endpoint(host)(endpoint)
