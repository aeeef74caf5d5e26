"""Passes the log on to its reader, and never lets the server wait for that."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

#: Bytes of the log that wait for its reader. Lines above it are dropped.
WAITING_MAX = 1024 * 1024

#: Seconds that the end of the process waits for the reader.
STOP_TIME = 2.0


class LogRelay:
    """Stands between standard output and its reader: a pipe, a file, the journal.

    A write to a pipe that is full blocks until somebody reads, and a write to a full disk fails. With this relay, the
    process writes to a pipe of its own, which one thread empties at once. Another thread passes the lines on. Lines
    that cannot be passed on are dropped and counted.

    :param descriptor: the descriptor of standard output.
    :param resumed: called in a thread when lines are passed on again after some were dropped.
    :param stop_time: seconds that :meth:`stop` waits for the reader.
    :ivar dropped: lines that were dropped.
    """

    def __init__(self, descriptor: int, resumed: Callable[[], object], stop_time: float = STOP_TIME) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._resumed = resumed
        self._stop_time = stop_time
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._is_torn = False  # whether the output ends with a part of a line
        self._changed = threading.Condition()

    def start(self) -> None:
        """Take the place of the descriptor."""
        self._output = os.dup(self._descriptor)
        source, entry = os.pipe()
        os.dup2(entry, self._descriptor)
        os.close(entry)
        threading.Thread(target=self._collect, args=(source,), daemon=True, name="log collector").start()
        self._writer = threading.Thread(target=self._pass_on, daemon=True, name="log writer")
        self._writer.start()

    def stop(self) -> None:
        """Pass on the waiting lines, and give the descriptor back.

        If the output takes no more, what is written from now on is discarded.
        """
        discard = os.open(os.devnull, os.O_WRONLY)
        os.dup2(discard, self._descriptor)  # the collector reads the end of its pipe
        os.close(discard)
        self._writer.join(self._stop_time)
        poll = select.poll()
        poll.register(self._output, select.POLLOUT)
        if not self._writer.is_alive() and any(events & select.POLLOUT for _, events in poll.poll(0)):
            os.dup2(self._output, self._descriptor)

    def _collect(self, source: int) -> None:
        """Empty the pipe, and queue whole lines."""
        rest = b""
        while data := os.read(source, 65_536):
            lines, newline, rest = (rest + data).rpartition(b"\n")
            self._queue(lines + newline)
        os.close(source)
        self._queue(rest)
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _queue(self, lines: bytes) -> None:
        with self._changed:
            if self._size + len(lines) > WAITING_MAX:
                self.dropped += lines.count(b"\n")
                return
            self._waiting.append(lines)
            self._size += len(lines)
            self._changed.notify()

    def _pass_on(self) -> None:
        reported = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                lines = self._waiting.popleft()
            unwritten = self._write(lines)
            with self._changed:
                self._size -= len(lines)
                self.dropped += unwritten.count(b"\n")
                dropped = self.dropped
            if not unwritten and dropped != reported:
                reported = dropped
                self._resumed()

    def _write(self, lines: bytes) -> bytes:
        """Write to the output. Return the rest that it does not take: the disk is full, or the reader is gone."""
        rest = b"\n" + lines if self._is_torn else lines
        while rest:
            try:
                written = os.write(self._output, rest)
            except BlockingIOError:  # somebody has made the output non-blocking
                select.select([], [self._output], [])
            except OSError:
                break
            else:
                self._is_torn = rest[written - 1 : written] != b"\n"
                rest = rest[written:]
        return rest
