"""The endpoint of a Redis server."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS

from netsvc.redis.redis_address import RedisAddress
from netsvc.redis.redis_client import ATTEMPT_TIMEOUT
from netsvc.wire.address import is_ip

#: Seconds after which the next address of a host is tried. Twisted waits so long, too, before it reports a refusal.
NEXT_ADDRESS_AFTER = 0.05


def redis_endpoint(reactor: Any, address: RedisAddress, trust_root: Any = None) -> IStreamClientEndpoint:
    """Return the endpoint that connects to a Redis server.

    With TLS it verifies the certificate and the name of the host.

    :param trust_root: the authorities to trust, as ``optionsForClientTLS`` takes them; by default those of the system.
    """
    if address.path:
        return UNIXClientEndpoint(reactor, address.path, timeout=ATTEMPT_TIMEOUT)
    endpoint = _tcp_endpoint(reactor, address.host, address.port)
    if not address.uses_tls:
        return endpoint
    return wrapClientTLS(optionsForClientTLS(address.host, trustRoot=trust_root), endpoint)


def _tcp_endpoint(reactor: Any, host: str, port: int) -> IStreamClientEndpoint:
    if not is_ip(host):
        return HostnameEndpoint(reactor, host, port, timeout=ATTEMPT_TIMEOUT, attemptDelay=NEXT_ADDRESS_AFTER)
    kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
    return kind(reactor, host, port, timeout=ATTEMPT_TIMEOUT)
