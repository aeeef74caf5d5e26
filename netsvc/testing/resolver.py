"""The name resolver of a simulated host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorTime,
    IResolutionReceiver,
)
from zope.interface import implementer

from netsvc.testing.stack import is_ip_address

#: Takes a name. Returns its addresses, and the seconds that the lookup takes.
LookupFunction = Callable[[str], tuple[Sequence[str], float]]


@implementer(IHostnameResolver)
class Resolver:
    """Resolves the names of a simulated network.

    :param clock: the clock of the host.
    :param lookup: returns the addresses of a name.
    """

    def __init__(self, clock: IReactorTime, lookup: LookupFunction) -> None:
        self._clock = clock
        self._lookup = lookup

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        addresses, delay = ([hostName], 0.0) if is_ip_address(hostName) else self._lookup(hostName)
        wanted_types = addressTypes or (IPv4Address, IPv6Address)
        found = [
            kind(transportSemantics, address, portNumber)  # type: ignore[arg-type]  # "TCP" or "UDP", as requested
            for address in addresses
            for kind in [IPv6Address if ":" in address else IPv4Address]
            if kind in wanted_types
        ]
        resolution = _Resolution(hostName, resolutionReceiver, found)
        resolutionReceiver.resolutionBegan(resolution)
        resolution.timer = self._clock.callLater(delay, resolution.complete)
        return resolution


@implementer(IHostResolution)
class _Resolution:
    timer: Any

    def __init__(self, name: str, receiver: IResolutionReceiver, found: Sequence[IPv4Address | IPv6Address]) -> None:
        self.name = name
        self._receiver = receiver
        self._found = found

    def complete(self) -> None:
        for address in self._found:
            self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()

    def cancel(self) -> None:
        """Complete the resolution now, without an address."""
        if self.timer.active():
            self.timer.cancel()
            self._receiver.resolutionComplete()
