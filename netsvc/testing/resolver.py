"""Names on a simulated network."""

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

from netsvc.wire.address import is_ip

#: Returns the addresses of a name, and the seconds that the answer takes.
Lookup = Callable[[str], tuple[Sequence[str], float]]


@implementer(IHostnameResolver)
class Resolver:
    """Resolves the names that a network knows.

    :param clock: of the host that asks.
    :param lookup: knows the names.
    """

    def __init__(self, clock: IReactorTime, lookup: Lookup) -> None:
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
        addresses, delay = ([hostName], 0.0) if is_ip(hostName) else self._lookup(hostName)
        kinds = addressTypes or (IPv4Address, IPv6Address)
        found = [
            kind(transportSemantics, address, portNumber)  # type: ignore[arg-type]  # "TCP" or "UDP", as was asked
            for address in addresses
            for kind in [IPv6Address if ":" in address else IPv4Address]
            if kind in kinds
        ]
        resolution = _Resolution(hostName, resolutionReceiver, found)
        resolutionReceiver.resolutionBegan(resolution)
        resolution.due = self._clock.callLater(delay, resolution.answer)
        return resolution


@implementer(IHostResolution)
class _Resolution:
    due: Any

    def __init__(self, name: str, receiver: IResolutionReceiver, found: Sequence[IPv4Address | IPv6Address]) -> None:
        self.name = name
        self._receiver = receiver
        self._found = found

    def answer(self) -> None:
        for address in self._found:
            self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()

    def cancel(self) -> None:
        """Answer no more."""
        if self.due.active():
            self.due.cancel()
            self._receiver.resolutionComplete()
