"""The discard servers (RFC 863), on TCP and on UDP: they read everything and answer nothing."""

from __future__ import annotations

from collections.abc import Sequence

from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.net.datagram_responder import CountedDatagramService
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms
from netsvc.wire.datagram import Datagram


class DiscardProtocol(StreamProtocol):
    """Discards what the peer sends, until the peer closes its side. It sends nothing."""

    def received(self, data: bytes) -> None:
        """Do nothing: the base class has counted the bytes."""

    def displaced(self) -> None:
        """Send nothing."""


class DiscardFactory(StreamFactory):
    """Discards what each connection sends.

    :param terms: the terms of the service.
    """

    def build_connection(self) -> DiscardProtocol:
        return DiscardProtocol()

    def refusal_notice(self, cause: Cause) -> bytes:
        """Return nothing: this service sends nothing."""
        return b""


class DiscardDatagramProtocol(CountedDatagramService):
    """Discards datagrams. It answers none, so their number needs no limit.

    :param terms: the terms of the service.
    :param networks: the networks whose datagrams are counted as received. Others are counted as refused.
    """

    def __init__(self, terms: Terms, networks: NetworkRules | None = None) -> None:
        super().__init__(terms)
        self._networks = networks or None

    def batch_received(self, batch: Sequence[Datagram]) -> list[Datagram]:
        networks = self._networks
        for datagram in batch:
            self.terms.counters.received_bytes += len(datagram.payload)
            if networks is not None and not networks.allows(datagram.peer[0]):
                self.refuse(Cause.NOT_ALLOWED, datagram)
        return []
