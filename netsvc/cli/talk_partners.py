"""The listening side of ``netsvc talk``: one partner at a time, further callers are told that this side is busy."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.net.reactors import Clock, cancel
from netsvc.talk.stream_conversation import Conversation

#: The line for a caller while there is a conversation.
BUSY = b"busy: one conversation at a time\n"

#: Seconds after which such a caller is disconnected, and how many of them there may be meanwhile.
BUSY_TIMEOUT = 2.0
BUSY_MAX = 32


class PartnerFactory(Factory):
    """Gives the conversation that waits to the next caller. Tells further ones that this side is busy.

    :param tls: whether the line can be sent only after a handshake.
    """

    noisy = False

    def __init__(self, clock: Clock, *, tls: bool) -> None:
        self._clock = clock
        self._tls = tls
        self._waiting: Conversation | None = None
        self._refused = 0  # callers that are connected

    def wait_for(self, conversation: Conversation) -> Deferred[Conversation]:
        """Give ``conversation`` to the next caller. The Deferred fires when it is connected."""
        self._waiting = conversation
        return conversation.ready

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        conversation, self._waiting = self._waiting, None
        if conversation is not None or self._refused >= BUSY_MAX:
            return conversation
        return (_BusyTLS if self._tls else _Busy)(self)

    @property
    def clock(self) -> Clock:
        """The clock of the refusals."""
        return self._clock

    def count(self, change: int) -> None:
        """Count callers that are refused."""
        self._refused += change


class _Busy(Protocol):
    """Says that this side is busy, and discards what arrives until the caller ends, or for two seconds."""

    transport: Any

    def __init__(self, partners: PartnerFactory) -> None:
        self._partners = partners

    def connectionMade(self) -> None:
        self._partners.count(+1)
        self._deadline = self._partners.clock.callLater(BUSY_TIMEOUT, self.transport.abortConnection)
        self.tell()

    def tell(self) -> None:
        """Say it, and end the output. If all were closed at once, a caller that has sent something would be reset."""
        self.transport.write(BUSY)
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Discard it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._partners.count(-1)
        cancel(self._deadline)


@implementer(IHandshakeListener)
class _BusyTLS(_Busy):
    """The same after the handshake."""

    def tell(self) -> None:
        """Wait for the handshake."""

    def handshakeCompleted(self) -> None:
        self.transport.write(BUSY)
        self.transport.loseConnection()
