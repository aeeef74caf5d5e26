"""Echo of datagrams (RFC 862, on UDP)."""

from __future__ import annotations

from netsvc.net.datagram_responder import DatagramResponder
from netsvc.wire.datagram import Datagram


class EchoDatagramProtocol(DatagramResponder):
    """Sends each datagram back to its source, unless its guard refuses it.

    An echo cannot tell a question from the reply of another echo. Two of them at ports above 1023 can be made to answer
    each other by one forged datagram; the rate limit of the guard bounds that.

    :param terms: the terms of the service.
    :param guard: decides which datagrams are answered. Protocols that share a guard share its limits.
    """

    def replies_to(self, admitted: list[Datagram]) -> list[Datagram]:
        return admitted
