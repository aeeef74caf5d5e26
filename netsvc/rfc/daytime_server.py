"""The daytime server (RFC 867, on TCP)."""

from __future__ import annotations

from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.rfc.daytime_line import daytime_line


class DaytimeProtocol(StreamProtocol):
    """Sends the time and closes. It discards what the peer sends, as RFC 867 demands."""

    def connection_ready(self) -> None:
        self.send(daytime_line(self.terms.wall()))
        self.finish()


class DaytimeFactory(StreamFactory):
    """Tells every connection the time.

    :param terms: the terms of the service.
    """

    def build_connection(self) -> DaytimeProtocol:
        return DaytimeProtocol()
