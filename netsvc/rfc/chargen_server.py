"""The character generator (RFC 864, on TCP): it sends lines for as long as the peer reads them."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall

from netsvc.net.connection_state import ConnectionState
from netsvc.net.reactors import cancel
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.rfc.character_lines import CHARACTER_LINES


class ChargenProtocol(StreamProtocol):
    """Sends lines of characters until the peer closes its side. It discards what the peer sends.

    In each reactor iteration it sends 7,030 bytes, so that a peer which reads without end does not delay the others.
    While more than 64 KiB wait for the peer, it sends nothing. All connections send the same bytes object, so what
    waits for them takes no memory of its own.
    """

    _next_piece: IDelayedCall | None = None

    def connection_ready(self) -> None:
        self._send_piece()

    def received(self, data: bytes) -> None:
        """Do nothing: the base class has counted the bytes."""

    def resume_processing(self) -> None:
        super().resume_processing()
        self._send_piece()

    def begin_drain(self) -> None:
        """The server stops, and the stream has no end: send what is queued and close."""
        self.finish()

    def displaced(self) -> None:
        """Send nothing: a sentence would be no part of the stream."""

    def closed(self) -> None:
        cancel(self._next_piece)

    def _send_piece(self) -> None:
        cancel(self._next_piece)
        if self.state is ConnectionState.OPEN and not self.output_blocked:
            self.active = True  # the peer reads
            self.send(CHARACTER_LINES)
            self._next_piece = self.terms.clock.callLater(0, self._send_piece)


class ChargenFactory(StreamFactory):
    """Sends lines of characters to every connection.

    :param terms: the terms of the service.
    """

    def build_connection(self) -> ChargenProtocol:
        return ChargenProtocol()
