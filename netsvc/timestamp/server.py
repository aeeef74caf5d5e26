"""The timestamp server: it answers datagrams, and cannot be used to attack others."""

from __future__ import annotations

from netsvc.limits.cause import Cause
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.net.datagram_responder import DatagramResponder
from netsvc.net.terms import Terms
from netsvc.timestamp.format import TimestampFormatter, is_timestamp_reply
from netsvc.wire.datagram import Datagram


class TimestampProtocol(DatagramResponder):
    """Answers a datagram with ``[ctime]``, a space and its bytes, unless its guard refuses it.

    :param terms: the terms of the service.
    :param guard: decides which datagrams are answered. Protocols that share a guard share its limits.
    """

    def __init__(self, terms: Terms, guard: DatagramGuard | None = None) -> None:
        super().__init__(terms, guard)
        self._formatter = TimestampFormatter()

    def replies_to(self, admitted: list[Datagram]) -> list[Datagram]:
        prefix = self._formatter.prefix(self.terms.wall())
        replies = []
        new = tuple.__new__
        for datagram in admitted:
            payload, peer, local, _, _, _, _ = datagram
            if payload[:1] == b"[" and is_timestamp_reply(payload):
                self.refuse(Cause.OWN_REPLY, datagram)
                continue
            # As Datagram(...) does, in a third of its time.
            replies.append(new(Datagram, (prefix + payload, peer, local, None, None, None, None)))
        return replies
