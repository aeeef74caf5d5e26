"""Standard output, or a file in its place, with the notices that belong between its bytes."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer, IReactorFDSet, IReadWriteDescriptor
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReadWriteDescriptor)
class OutputDescriptor:
    """Writes to a descriptor at once. It queues what a full pipe or terminal does not take, and pauses the source.

    The order in which data and notices were given is the order in which they appear.

    :param print_notice: prints one line to standard error.
    :ivar closed: fires with None when nothing more can be written.
    :ivar failure: why nothing more can be written. It is None before, and if the reader has closed a pipe.
    :ivar is_full: whether something is queued.
    """

    def __init__(self, reactor: object, print_notice: Callable[[str], object], fd: int = 1) -> None:
        self.closed: Deferred[None] = Deferred()
        self.failure: OSError | None = None
        self._reactor = IReactorFDSet(reactor)
        self._print_notice = print_notice
        self._fd = fd
        self._queue: deque[memoryview | str] = deque()
        self._producer: IPushProducer | None = None
        self._flushed: Deferred[None] | None = None
        # A pipe whose reader is gone reports an error. The reactor tells only those who wait for something.
        self._watches_reader = stat.S_ISFIFO(os.fstat(fd).st_mode)
        if self._watches_reader:
            self._reactor.addReader(self)

    @property
    def is_full(self) -> bool:
        return bool(self._queue)

    def write(self, data: bytes) -> None:
        """Write ``data`` unchanged. It is discarded if nothing more can be written."""
        if self.closed.called or not data:
            return
        rest = memoryview(data)
        if not self._queue:
            rest = self._write_some(rest)
            if not rest:
                return
        self._append(rest)

    def notice(self, line: str) -> None:
        """Print one line to standard error when everything before it is written."""
        if self._queue and not self.closed.called:
            self._append(line)
        else:
            self._print_notice(line)

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause ``producer`` while something is queued. It replaces the producer before."""
        self._producer = producer
        if self._queue:
            producer.pauseProducing()

    def unregister_producer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def flush(self) -> Deferred[None]:
        """Return a Deferred that fires when nothing is queued any more."""
        if not self._queue or self.closed.called:
            return succeed(None)
        if self._flushed is None:
            self._flushed = Deferred()
        return self._flushed

    def detach(self) -> None:
        """Leave the reactor."""
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)

    # Called by the reactor

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "standard output"

    def doRead(self) -> None:
        """There is nothing to read. The reactor tells by this, too, that the reader is gone."""
        self.connectionLost()

    def doWrite(self) -> None:
        while self._queue and not self.closed.called:
            first = self._queue[0]
            if isinstance(first, str):
                self._queue.popleft()
                self._print_notice(first)
                continue
            rest = self._write_some(first)
            if self.closed.called:
                return
            if rest:
                self._queue[0] = rest
                return
            self._queue.popleft()
        self._reactor.removeWriter(self)
        if self._flushed is not None:
            flushed, self._flushed = self._flushed, None
            flushed.callback(None)
        if self._producer is not None and not self._queue:
            self._producer.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._close(None)

    # The rest is private

    def _append(self, item: memoryview | str) -> None:
        if not self._queue:
            self._reactor.addWriter(self)
            if self._producer is not None:
                self._producer.pauseProducing()
        self._queue.append(item)

    def _write_some(self, data: memoryview) -> Any:
        """Write as much as is accepted. Return the rest."""
        while data:
            try:
                written = os.write(self._fd, data)
            except InterruptedError:
                continue
            except BlockingIOError:
                return data
            except OSError as e:
                self._close(None if e.errno in (errno.EPIPE, errno.EIO) else e)
                return data[:0]
            data = data[written:]
        return data

    def _close(self, failure: OSError | None) -> None:
        """Give up the output. Print the notices that were queued behind its data."""
        if self.closed.called:
            return
        self.detach()
        self.failure = failure
        queued, self._queue = self._queue, deque()
        for item in queued:
            if isinstance(item, str):
                self._print_notice(item)
        self.closed.callback(None)
        if self._flushed is not None:
            flushed, self._flushed = self._flushed, None
            flushed.callback(None)
