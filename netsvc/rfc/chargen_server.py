"""The character generator (RFC 864, on TCP): it sends lines for as long as the peer reads them."""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IDelayedCall

from netsvc.net.connection_state import ConnectionState
from netsvc.net.reactors import cancel
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms
from netsvc.rfc.character_lines import CHARACTER_LINES

#: Pieces of 7,030 bytes that all connections together are sent per reactor iteration; each takes up to 50 us. They take
#: turns, so peers that read without end delay the other services by at most 3 ms.
PIECES_PER_ITERATION = 64


class ChargenProtocol(StreamProtocol):
    """Sends lines of characters until the peer closes its side. It discards what the peer sends.

    While more than 64 KiB wait for the peer, it sends nothing. All connections send the same bytes object, so what
    waits for them takes no memory of its own.
    """

    factory: ChargenFactory

    def connection_ready(self) -> None:
        self.factory.take_turn(self)

    def send_piece(self) -> None:
        """It is the turn of this connection: send 7,030 bytes, and wait for the next turn."""
        if self.state is ConnectionState.OPEN:
            self.active = True  # the peer reads
            self.send(CHARACTER_LINES)
            if not self.output_blocked:
                self.factory.take_turn(self)

    def received(self, data: bytes) -> None:
        """Do nothing: the base class has counted the bytes."""

    def resume_processing(self) -> None:
        super().resume_processing()
        self.factory.take_turn(self)

    def begin_drain(self) -> None:
        """The server stops, and the stream has no end: send what is queued and close."""
        self.finish()

    def displaced(self) -> None:
        """Send nothing: a sentence would be no part of the stream."""


class ChargenFactory(StreamFactory):
    """Sends lines of characters to every connection.

    :param terms: the terms of the service.
    """

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._turns: OrderedDict[ChargenProtocol, None] = OrderedDict()  # an ordered set
        self._next_turns: IDelayedCall | None = None

    def build_connection(self) -> ChargenProtocol:
        return ChargenProtocol()

    def take_turn(self, connection: ChargenProtocol) -> None:
        """Let a connection send its next piece when those before it have sent theirs."""
        self._turns[connection] = None
        if self._next_turns is None:
            self._next_turns = self.terms.clock.callLater(0, self._send_pieces)

    def connection_closed(self, connection: StreamProtocol) -> None:
        super().connection_closed(connection)
        if not self.connections:
            self._turns.clear()
            cancel(self._next_turns)
            self._next_turns = None

    def _send_pieces(self) -> None:
        turns = self._turns
        for _ in range(min(PIECES_PER_ITERATION, len(turns))):
            turns.popitem(last=False)[0].send_piece()
        self._next_turns = self.terms.clock.callLater(0, self._send_pieces) if turns else None
