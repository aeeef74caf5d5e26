"""The addresses of host names."""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer

from netsvc.wire.address import is_ip


def resolve(reactor: object, host: str) -> Deferred[list[str]]:
    """Find the addresses of ``host``, which may be an address itself.

    :param reactor: provides ``IReactorPluggableNameResolver``.
    :return: fires with at least one address, in the resolver's order; fails with ``DNSLookupError`` if there is none.
    """
    if is_ip(host):
        found: Deferred[list[str]] = Deferred()
        found.callback([host])
        return found
    receiver = _Addresses(host)
    names = IReactorPluggableNameResolver(reactor)
    names.nameResolver.resolveHostName(receiver, host, transportSemantics="UDP")
    return receiver.found


@implementer(IResolutionReceiver)
class _Addresses:
    def __init__(self, host: str) -> None:
        self.found: Deferred[list[str]] = Deferred()
        self._host = host
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """The look-up cannot be cancelled, so this is not kept."""

    def addressResolved(self, address: IAddress) -> None:
        host: str = address.host  # type: ignore[attr-defined]  # IPv4Address or IPv6Address
        if host not in self._addresses:
            self._addresses.append(host)

    def resolutionComplete(self) -> None:
        if self._addresses:
            self.found.callback(self._addresses)
        else:
            self.found.errback(error.DNSLookupError(f"no address for {self._host}"))
