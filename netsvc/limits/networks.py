"""Networks as people write them (``192.0.2.0/24``, ``2001:db8::/32``, ``192.0.2.1``), and who is in them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


class NetworkError(ValueError):
    """A text that is no network; the text of the error says why."""


def parse_network(text: str) -> Network:
    """Return the network that ``text`` is; an address is a network of one.

    :raises NetworkError: for a text that is neither.
    """
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise NetworkError("neither a network nor an address") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


class Networks:
    """Who may come: from the allowed networks, or from anywhere if none is named; never from the denied ones.

    :param allow: networks, as :func:`parse_network` takes them.
    :param deny: likewise.
    :raises NetworkError: for a text that is no network.
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self._allow = tuple(map(parse_network, allow))
        self._deny = tuple(map(parse_network, deny))

    def allows(self, host: str) -> bool:
        """Whether the address ``host`` may come. An IPv4 address inside IPv6 is the IPv4 address."""
        if not self._allow and not self._deny:
            return True
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if any(address in network for network in self._deny):
            return False
        return not self._allow or any(address in network for network in self._allow)
