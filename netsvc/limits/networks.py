"""Networks in their usual notation (``192.0.2.0/24``, ``2001:db8::/32``, ``192.0.2.1``), and rules made of them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from netsvc.errors import NetsvcError

IPNetwork = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")


class InvalidNetworkError(NetsvcError, ValueError):
    """The text is not a network; the message says why."""


def parse_network(text: str) -> IPNetwork:
    """Return the network that ``text`` names. An address is a network of one host.

    An IPv4 network inside IPv6 (``::ffff:192.0.2.0/120``) is returned as the IPv4 network.

    :raises InvalidNetworkError: for any other text.
    """
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise InvalidNetworkError("neither a network nor an address") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


class NetworkRules:
    """Which addresses are allowed: those in an allowed network, or all if none is named, except the denied ones.

    :param allow: a list of networks, as text or parsed.
    :param deny: likewise. It takes precedence.
    :raises InvalidNetworkError: for a text that is not a network, and for a single text instead of a list.
    """

    def __init__(self, allow: Iterable[str | IPNetwork] = (), deny: Iterable[str | IPNetwork] = ()) -> None:
        self._allow = _parsed("allow", allow)
        self._deny = _parsed("deny", deny)

    def __bool__(self) -> bool:
        """Whether there is any rule. Without one, every address is allowed."""
        return bool(self._allow or self._deny)

    def allows(self, host: str) -> bool:
        """Whether the IP address ``host`` is allowed.

        A mapped IPv4 address (``::ffff:192.0.2.1``) counts as the IPv4 address. Other IPv4 addresses inside IPv6 meet
        the rules for IPv4 as well: translated ones (``64:ff9b::/96``, RFC 6052) all rules; compatible ones
        (RFC 4291, 2.5.5.1) and 6to4 (``2002::/16``, RFC 3056) only ``deny``, because anybody can send from them.

        :raises InvalidNetworkError: for a text that is not an IP address.
        """
        if not self._allow and not self._deny:
            return True
        try:
            address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
        except ValueError:
            raise InvalidNetworkError(f"{host!r} is not an IP address") from None
        forgeable: IPv4Address | None = None
        translated: IPv4Address | None = None
        if isinstance(address, IPv6Address):
            number = int(address)
            if address.ipv4_mapped:
                address = address.ipv4_mapped
            elif address in _NAT64:
                translated = IPv4Address(number & 0xFFFFFFFF)
            elif number >> 32 == 0 and number > 1:
                forgeable = IPv4Address(number)
            else:
                forgeable = address.sixtofour
        if _any_in((address, translated, forgeable), self._deny):
            return False
        return not self._allow or _any_in((address, translated), self._allow)


def _any_in(addresses: Iterable[IPv4Address | IPv6Address | None], networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for address in addresses if address is not None for network in networks)


def _parsed(name: str, networks: Iterable[str | IPNetwork]) -> tuple[IPNetwork, ...]:
    if isinstance(networks, str) or not isinstance(networks, Iterable):
        raise InvalidNetworkError(f'{name} takes a list of networks; write {name}=["{networks}"]')
    return tuple(parse_network(network) if isinstance(network, str) else network for network in networks)
