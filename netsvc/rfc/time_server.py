"""The time server (RFC 868, on TCP)."""

from __future__ import annotations

from netsvc.limits.cause import Cause
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.rfc.time_octets import time_octets


class TimeProtocol(StreamProtocol):
    """Sends the time as four octets, and closes. It discards what the peer sends."""

    def connection_ready(self) -> None:
        self.send(time_octets(self.terms.wall()))
        self.finish()


class TimeFactory(StreamFactory):
    """Tells every connection the time.

    :param terms: the terms of the service.
    """

    def build_connection(self) -> TimeProtocol:
        return TimeProtocol()

    def refusal_notice(self, cause: Cause) -> bytes:
        """Return nothing: a client would take the first four bytes of a sentence for the time."""
        return b""
