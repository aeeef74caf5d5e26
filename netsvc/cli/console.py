"""The standard streams: input in lines or pieces, output as safe text or exact bytes, standard error for notices."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer

from netsvc.cli.command import CommandError
from netsvc.cli.input_descriptor import InputDescriptor
from netsvc.cli.output_descriptor import OutputDescriptor
from netsvc.cli.progress import Progress
from netsvc.net.error_words import failure_words
from netsvc.net.reactors import Reactor
from netsvc.wire.framing import Framing, LineFraming, messages_in
from netsvc.wire.text import clean

#: Bytes of the longest line of standard input, with its line end.
INPUT_LINE_MAX = 1_048_576


def notice(line: str) -> None:
    """Print one line to standard error."""
    blocking = os.get_blocking(2)
    os.set_blocking(2, True)  # a terminal shared with standard output is non-blocking, and would drop lines
    with suppress(OSError):  # the reader of standard error is gone: there is no place for the line
        print(f"netsvc: {clean(line)}", file=sys.stderr, flush=True)
    os.set_blocking(2, blocking)


def print_line(line: str) -> None:
    """Print one line to standard output, without characters that a terminal would interpret.

    :raises BrokenPipeError: if the reader of standard output has closed it.
    :raises CommandError: if the line cannot be written for another reason.
    """
    try:
        print(clean(line), flush=True)
    except BrokenPipeError:
        raise
    except OSError as e:
        discard_output()
        raise CommandError(f"standard output: {failure_words(e)}") from None


def discard_output() -> None:
    """Let what is still to be written to standard output be lost. Otherwise Python writes it again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def is_terminal() -> bool:
    """Whether standard input is a terminal."""
    return os.isatty(0)


def excerpt(line: bytes) -> str:
    """Return the beginning of a line, to name it in a notice."""
    return line.decode("utf-8", "replace")[:64] or "(an empty line)"


class Console:
    """Standard input and standard output of a command. :func:`standard_streams` opens them.

    :param line_received: called with each line of standard input, without its line end, or with each other message.
    :param input_ended: called at the end of standard input.
    :param framing: divides standard input into lines, or into other messages.
    :param path: a file that is written in the place of standard output.
    :ivar output_closed: fires with None when nothing more can be written to standard output.
    """

    def __init__(
        self,
        line_received: Callable[[bytes], object],
        input_ended: Callable[[], object],
        framing: Framing | None = None,
        path: str | None = None,
    ) -> None:
        self.output_closed: Deferred[None] = Deferred()
        self._line_received = line_received
        self._input_ended = input_ended
        self._framing = framing or LineFraming(INPUT_LINE_MAX)
        self._path = path
        self._progress: Progress | None = None
        self._input: InputDescriptor
        self._output: OutputDescriptor

    @property
    def output_is_full(self) -> bool:
        """Whether the reader of standard output is slower than what is written."""
        return self._output.is_full

    def write(self, data: bytes) -> None:
        """Write bytes unchanged."""
        self._output.write(data)

    def print_text(self, text: str) -> None:
        """Print a text line by line, without characters that a terminal would interpret."""
        self._output.write(self.text_as_bytes(text))

    @staticmethod
    def text_as_bytes(text: str) -> bytes:
        """Return the bytes that :meth:`print_text` writes."""
        lines = text.removesuffix("\n").split("\n")
        return "".join(clean(line) + "\n" for line in lines).encode("utf-8")

    def notice(self, line: str) -> None:
        """Print one line to standard error, behind the data that was written before."""
        self._output.notice(line)

    def prompt(self, text: str) -> None:
        """Print a prompt if standard input and standard output are terminals."""
        if is_terminal() and os.isatty(1):
            self._output.write(text.encode("utf-8"))

    def show_progress(self, reactor: Reactor, transferred: Callable[[], int]) -> None:
        """Show how many bytes were transferred, from now to the end.

        :param transferred: returns the number of bytes so far.
        """
        self._progress = Progress(reactor, transferred)

    def pause_input(self) -> None:
        """Stop reading standard input."""
        self._input.pauseProducing()

    def resume_input(self) -> None:
        """Read standard input again."""
        self._input.resumeProducing()

    @property
    def source(self) -> InputDescriptor:
        """Standard input, as the producer of what is sent."""
        return self._input

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause ``producer``, the source of what is printed, while standard output is full."""
        self._output.register_producer(producer)

    # For standard_streams

    def open(self, reactor: Reactor) -> None:
        """Open the streams, and read standard input.

        :raises CommandError: if the file cannot be opened.
        """
        fd = 1
        if self._path is not None:
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            except OSError as e:
                raise CommandError(self._failure_text(self._path, e)) from None
        os.set_blocking(fd, False)
        self._input = InputDescriptor(reactor, self._received, self._ended)
        self._output = OutputDescriptor(reactor, self._print_notice, fd)
        self._output.closed.addCallback(lambda _: self._output_closed())
        self._input.resumeProducing()

    def close(self) -> Deferred[None]:
        """Read no more, and flush standard output. The Deferred fires when that is done."""
        self._input.stopProducing()
        self._output.unregister_producer()
        if self._progress is not None:
            self._progress.stop()
        return self._output.flush()

    def detach(self) -> None:
        """Leave the reactor at once."""
        self._input.stopProducing()
        self._output.detach()
        if self._progress is not None:
            self._progress.stop()

    def check(self) -> None:
        """Check that everything could be read and written.

        :raises CommandError: if the system has refused it. That the reader of a pipe has closed it is no failure.
        """
        if self._output.failure is not None:
            raise CommandError(self._failure_text(self._path or "standard output", self._output.failure))
        if self._input.failure is not None:
            raise CommandError(self._failure_text("standard input", self._input.failure))

    # The rest is private

    def _print_notice(self, line: str) -> None:
        if self._progress is not None:
            self._progress.erase()
        notice(line)

    def _failure_text(self, name: str, failure: OSError) -> str:
        return f"{name}: {failure_words(failure)}"

    def _received(self, data: bytes) -> None:
        for line in messages_in(self._framing, data, lambda reason: self.notice(f"not sent: {reason}")):
            self._line_received(line)

    def _ended(self) -> None:
        rest = self._framing.end()
        if rest is not None:
            self._line_received(rest)
        self._input_ended()

    def _output_closed(self) -> None:
        self.output_closed.callback(None)


@asynccontextmanager
async def standard_streams(reactor: Reactor, console: Console) -> AsyncIterator[Console]:
    """Connect ``console`` to standard input and output. At the end, flush the output, except after Ctrl-C.

    Both streams are left blocking or non-blocking as they were: a shell expects them to be blocking.

    :raises CommandError: if the system has refused to write the output, whatever else has failed.
    """
    blocking = [(fd, os.get_blocking(fd)) for fd in (0, 1)]
    try:
        console.open(reactor)
        try:
            yield console
        except CancelledError:
            raise
        except Exception:
            await console.close()
            console.check()
            raise
        else:
            await console.close()
            console.check()
        finally:
            console.detach()
    finally:
        for fd, was_blocking in blocking:
            with suppress(OSError):
                os.set_blocking(fd, was_blocking)
