"""The resolver of host names that netsvc's commands install in their reactor."""

from __future__ import annotations

from collections.abc import Sequence

import idna
from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from netsvc.wire.zones import zoned_host


def ascii_name(name: str) -> str:
    """Return a host name as DNS knows it. Letters outside ASCII are encoded by IDNA 2008, as in browsers (UTS #46).

    Python's own codec follows IDNA 2003, which knows another host under some names.

    :raises UnicodeError: if it is not a host name.
    """
    if not name.isascii():
        labels = idna.uts46_remap(name, std3_rules=False).split(".")
        # A label in ASCII may have an underscore, as those of _sip._tcp.example.org.
        name = ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    return name.encode("idna").decode("ascii")  # which checks the lengths, as socket.getaddrinfo will


@implementer(IHostnameResolver)
class NameResolver:
    """Resolves names as another resolver does, but encodes them by IDNA 2008, and keeps the zones of addresses.

    Twisted's endpoints take only the host from a resolved address and drop its scope. So here the host has the zone.

    :param resolver: resolves the names.
    """

    def __init__(self, resolver: IHostnameResolver) -> None:
        self._resolver = resolver

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        receiver = _ZoneKeeper(resolutionReceiver)
        try:
            encoded = ascii_name(hostName)
        except UnicodeError:  # of which Twisted's resolver would never report the end
            resolution = _NoResolution(hostName)
            resolutionReceiver.resolutionBegan(resolution)
            resolutionReceiver.resolutionComplete()
            return resolution
        return self._resolver.resolveHostName(receiver, encoded, portNumber, addressTypes, transportSemantics)


@implementer(IResolutionReceiver)
class _ZoneKeeper:
    def __init__(self, receiver: IResolutionReceiver) -> None:
        self._receiver = receiver

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        if isinstance(address, IPv6Address):
            host = zoned_host(address.host, address.scopeID)
            address = IPv6Address(address.type, host, address.port, address.flowInfo, address.scopeID)
        self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


@implementer(IHostResolution)
class _NoResolution:
    """The look-up of a text that is not a host name. It has ended."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: there is nothing to cancel."""
