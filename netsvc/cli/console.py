"""Standard input as lines, standard output as safe text, standard error for notices."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, IReactorFDSet
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.net.reactors import Reactor
from netsvc.wire.framing import Framing, LineFraming, messages_in
from netsvc.wire.text import clean

#: Bytes of the longest line of standard input, with its line end.
INPUT_LINE_MAX = 1_048_576


def notice(line: str) -> None:
    """Print one line to standard error."""
    blocking = os.get_blocking(2)
    os.set_blocking(2, True)  # a terminal shared with standard output is non-blocking, and would drop lines
    print(f"netsvc: {clean(line)}", file=sys.stderr, flush=True)
    os.set_blocking(2, blocking)


def discard_output() -> None:
    """Let what is still to be written to standard output be lost. Otherwise Python writes it again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def is_terminal() -> bool:
    """Whether standard input is a terminal."""
    return os.isatty(0)


def excerpt(line: bytes) -> str:
    """Return the beginning of a line, to name it in a notice."""
    return line.decode("utf-8", "replace")[:64] or "(an empty line)"


@implementer(IHalfCloseableProtocol)
class Console(Protocol):
    """Standard input and standard output of a command.

    :param line_received: called with each line of standard input, without its line end.
    :param input_ended: called at the end of standard input.
    :param framing: divides standard input into lines, or into other messages.
    :ivar output_closed: fires with None when standard output was closed by its reader.
    """

    transport: Any

    def __init__(
        self,
        line_received: Callable[[bytes], object],
        input_ended: Callable[[], object],
        framing: Framing | None = None,
    ) -> None:
        self._line_received = line_received
        self._input_ended = input_ended
        self._framing = framing or LineFraming(INPUT_LINE_MAX)
        self._closed: Deferred[None] = Deferred()
        self.output_closed: Deferred[None] = Deferred()

    def print_text(self, text: str) -> None:
        """Print a text line by line, without characters that a terminal would interpret."""
        lines = text.removesuffix("\n").split("\n")
        self.transport.write("".join(clean(line) + "\n" for line in lines).encode("utf-8"))

    def prompt(self, text: str) -> None:
        """Print a prompt if standard input and standard output are terminals."""
        if is_terminal() and os.isatty(1):
            self.transport.write(text.encode("utf-8"))

    def pause_input(self) -> None:
        """Stop reading standard input."""
        if not self._closed.called:
            self.transport.pauseProducing()

    def resume_input(self) -> None:
        """Read standard input again."""
        if not self._closed.called:
            self.transport.resumeProducing()

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause ``producer``, the source of what is printed, while standard output is full."""
        self.transport.registerProducer(producer, True)

    def close(self) -> Deferred[None]:
        """Flush standard output. The Deferred fires when that is done."""
        if self.output_closed.called:
            self.pause_input()
            self.connectionLost()  # StandardIO does not call it once its writer is closed
        if not self._closed.called:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        return self._closed

    def dataReceived(self, data: bytes) -> None:
        for line in messages_in(self._framing, data, lambda reason: notice(f"not sent: {reason}")):
            self._line_received(line)

    def readConnectionLost(self) -> None:
        rest = self._framing.end()
        if rest is not None:
            self._line_received(rest)
        self._input_ended()

    def writeConnectionLost(self) -> None:
        if not self.output_closed.called:
            self.output_closed.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._closed.called:
            self._closed.callback(None)


@asynccontextmanager
async def standard_streams(reactor: Reactor, console: Console) -> AsyncIterator[Console]:
    """Connect ``console`` to standard input and output. At the end, flush the output, except after Ctrl-C.

    Both streams are left blocking or non-blocking as they were: a shell expects them to be blocking.
    """
    blocking = [(fd, os.get_blocking(fd)) for fd in (0, 1)]
    StandardIO(console, reactor=IReactorFDSet(reactor))
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
        for fd, was_blocking in blocking:
            os.set_blocking(fd, was_blocking)
