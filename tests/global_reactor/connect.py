"""How these tests connect a protocol of a simulated host."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as global_reactor  # noqa: TID251  as programs import it
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol

from netsvc.testing import Host, Network

reactor: Any = global_reactor


def connect(network: Network, client: Host, protocol: Any, port: int, server: str = "server") -> Any:
    """Connect a protocol of the client to a server. Returns the protocol."""
    return network.run(client.run(lambda: connectProtocol(HostnameEndpoint(reactor, server, port), protocol)))
