"""Standard input as a producer of pieces of bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer, IReactorFDSet, IReadDescriptor
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.net.large_pieces import PIECE_MAX

#: Bytes that are read at once. One piece fills the queue of a connection, so the next one is read when it is sent.
#: Twisted copies pieces that wait together: with pieces that just fit, the processor time of a GB was 1.2 s in place of
#: 0.65 s.
INPUT_PIECE_MAX = 4 * PIECE_MAX


@implementer(IReadDescriptor, IPushProducer)
class InputDescriptor:
    """Reads a descriptor: a terminal, a pipe, a socket or a file. It begins when it is resumed.

    Twisted's own reads 8 KiB at a time.

    :param received: called with each piece.
    :param ended: called once, at the end.
    :ivar failure: why it could not be read to its end; None if it could.
    """

    def __init__(
        self, reactor: object, received: Callable[[bytes], object], ended: Callable[[], object], fd: int = 0
    ) -> None:
        self.failure: OSError | None = None
        self._reactor = IReactorFDSet(reactor)
        self._received = received
        self._ended = ended
        self._fd = fd
        self._reading = False
        self._at_end = False

    def resumeProducing(self) -> None:
        """Read."""
        if not self._at_end:
            self._reading = True
            self._reactor.addReader(self)

    def pauseProducing(self) -> None:
        """Read no more until it is resumed."""
        self._reading = False
        self._reactor.removeReader(self)

    def stopProducing(self) -> None:
        """Read no more, and report no end."""
        self.pauseProducing()
        self._at_end = True

    # Called by the reactor

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "standard input"

    def doRead(self) -> None:
        if not self._reading:  # it was paused after the reactor had learned that there is something to read
            return
        try:
            piece = os.read(self._fd, INPUT_PIECE_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            if e.errno != errno.EIO:  # which is how a terminal reports that it is gone
                self.failure = e
            piece = b""
        if piece:
            self._received(piece)
        else:
            self.connectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._reactor.removeReader(self)
        if not self._at_end:
            self._at_end = True
            self._ended()
