"""Standard input as lines, standard output as clean text, standard error for the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.wire.framing import Framing, LineFraming, read
from netsvc.wire.text import clean

#: The longest line that is read from standard input, in bytes.
TYPED_MAX = 1_048_576


def notice(line: str) -> None:
    """Say one line on standard error."""
    blocking = os.get_blocking(2)
    os.set_blocking(2, True)  # where it shares a terminal with standard output, it is not, and would drop lines
    print(f"netsvc: {clean(line)}", file=sys.stderr, flush=True)
    os.set_blocking(2, blocking)


def is_terminal() -> bool:
    """Whether a person types."""
    return os.isatty(0)


@implementer(IHalfCloseableProtocol)
class Console(Protocol):
    """The person, or the pipe, that uses a command.

    :param typed: called with each line of standard input, without its end.
    :param ended: called at the end of standard input.
    :param framing: what a line is; another framing takes standard input otherwise.
    """

    transport: Any

    def __init__(
        self, typed: Callable[[bytes], object], ended: Callable[[], object], framing: Framing | None = None
    ) -> None:
        self._typed = typed
        self._ended = ended
        self._framing = framing or LineFraming(TYPED_MAX)
        self._closed: Deferred[None] = Deferred()
        self.unread: Deferred[None] = Deferred()  # nobody reads standard output any more

    def show(self, text: str) -> None:
        """Print a text, line by line, without anything that a terminal would obey."""
        lines = text.removesuffix("\n").split("\n")
        self.transport.write("".join(clean(line) + "\n" for line in lines).encode("utf-8"))

    def prompt(self, text: str) -> None:
        """Print a prompt, if there is a person to see it."""
        if is_terminal() and os.isatty(1):
            self.transport.write(text.encode("utf-8"))

    def pause(self) -> None:
        """Read no more of standard input for now."""
        if not self._closed.called:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read standard input again."""
        if not self._closed.called:
            self.transport.resumeProducing()

    def throttle(self, source: IPushProducer) -> None:
        """Pause ``source`` while standard output is full."""
        self.transport.registerProducer(source, True)

    def close(self) -> Deferred[None]:
        """Flush standard output. Fires when that is done."""
        if self.unread.called:
            self.pause()
            self.connectionLost()  # of which StandardIO says nothing, with its writer gone
        if not self._closed.called:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        return self._closed

    def dataReceived(self, data: bytes) -> None:
        for line in read(self._framing, data, lambda why: notice(f"not sent: {why}")):
            self._typed(line)

    def readConnectionLost(self) -> None:
        rest = self._framing.end()
        if rest is not None:
            self._typed(rest)
        self._ended()

    def writeConnectionLost(self) -> None:
        if not self.unread.called:
            self.unread.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._closed.called:
            self._closed.callback(None)


@asynccontextmanager
async def opened(reactor: Any, console: Console) -> AsyncIterator[Console]:
    """Connect ``console`` to standard input and output, and flush it in the end, unless Ctrl-C ended it.

    Both are left as they were: blocking, as a shell has them.
    """
    blocking = [(fd, os.get_blocking(fd)) for fd in (0, 1)]
    StandardIO(console, reactor=reactor)
    try:
        yield console
    except CancelledError:
        raise
    except Exception:
        await console.close()
        raise
    else:
        await console.close()
    finally:
        for fd, was in blocking:
            os.set_blocking(fd, was)
