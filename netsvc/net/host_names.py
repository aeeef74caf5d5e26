"""The addresses of host names."""

from __future__ import annotations

import socket

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer

from netsvc.errors import NetsvcError
from netsvc.wire.address import family_of, is_ip
from netsvc.wire.zones import zoned_host

_FAMILIES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


class AddressFamilyError(NetsvcError, error.DNSLookupError):
    """The host has addresses, but none of the family that was asked for."""

    def __init__(self, host: str, family: int) -> None:
        super().__init__(f"{host}: no {_FAMILIES[family]} address")

    def __str__(self) -> str:
        return str(self.args[0])


def resolve(reactor: object, host: str, family: int = 0) -> Deferred[list[str]]:
    """Find the addresses of ``host``, which may be an address itself. A link-local address has its zone.

    :param reactor: provides ``IReactorPluggableNameResolver``.
    :param family: ``AF_INET`` or ``AF_INET6`` for the addresses of this family only; 0 for all.
    :return: fires with at least one address, in the resolver's order; fails with ``DNSLookupError`` if there is none.
    """
    receiver = _Addresses(host, family)
    if is_ip(host):
        receiver.add(host)
        receiver.resolutionComplete()
        return receiver.found
    names = IReactorPluggableNameResolver(reactor)
    names.nameResolver.resolveHostName(receiver, host, transportSemantics="UDP")
    return receiver.found


@implementer(IResolutionReceiver)
class _Addresses:
    def __init__(self, host: str, family: int) -> None:
        self.found: Deferred[list[str]] = Deferred()
        self._host = host
        self._family = family
        self._addresses: list[str] = []
        self._has_others = False

    def add(self, address: str) -> None:
        """Add an address, unless it is there already or is of another family than the one asked for."""
        if self._family not in (0, family_of(address)):
            self._has_others = True
        elif address not in self._addresses:
            self._addresses.append(address)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """The look-up cannot be cancelled, so this is not kept."""

    def addressResolved(self, address: IAddress) -> None:
        host: str = address.host  # type: ignore[attr-defined]  # IPv4Address or IPv6Address
        self.add(zoned_host(host, getattr(address, "scopeID", 0)))

    def resolutionComplete(self) -> None:
        if self._addresses:
            self.found.callback(self._addresses)
        elif self._has_others:
            self.found.errback(AddressFamilyError(self._host, self._family))
        else:
            self.found.errback(error.DNSLookupError(f"no address for {self._host}"))
