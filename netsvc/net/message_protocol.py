"""A stream of messages, processed one by one, with a bound on the number per reactor iteration."""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall

from netsvc.limits.cause import Cause
from netsvc.net.connection_state import ConnectionState, InputState
from netsvc.net.reactors import cancel
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.wire.framing import FramingError, MessageSource

#: Bytes that are read from one peer after the server began to stop. Rate limits no longer apply then.
DRAIN_INPUT_MAX = 65_536

M = TypeVar("M")


class MessageProtocol(StreamProtocol, Generic[M]):
    """A connection whose stream is messages. A subclass overrides :meth:`message_received`.

    :param framing: finds the messages in the stream.
    """

    bytes_are_activity = False  # but messages are: single bytes that trickle in do not keep a connection open

    #: As how many messages the last one counts for the bound per reactor iteration.
    message_weight = 1

    _next_batch: IDelayedCall | None = None
    _busy = False  # whether the next batch is due in the next iteration
    _messages_paused = False
    _dropped_counted = False
    _line_since = 0.0
    _drain_input_left = DRAIN_INPUT_MAX

    def __init__(self, framing: MessageSource[M]) -> None:
        super().__init__()
        self.framing = framing

    # Overridden by a subclass

    def message_received(self, message: M) -> None:
        """Process one message, without its framing."""
        raise NotImplementedError

    def unfinished_message_received(self, message: M) -> None:
        """Process what the end of the stream has cut off, or completed. By default, it is a message."""
        self.message_received(message)

    def message_refused(self, reason: str) -> None:
        """The peer broke the framing. ``reason`` is one line for the peer."""

    def pace(self) -> float:
        """Return the seconds until the next message may be processed; 0 for now."""
        return 0.0

    def delayed(self) -> None:
        """The next message waits for :meth:`pace`."""

    # Called by a subclass

    def pause_messages(self) -> None:
        """Process no further message until :meth:`resume_messages`: an earlier one is not done yet."""
        self._messages_paused = True
        self.pause_reading()

    def resume_messages(self) -> None:
        """Process messages again."""
        if self._messages_paused:
            self._messages_paused = False
            self._process_unless_scheduled()

    def count_dropped(self) -> None:
        """Count the messages that were read and will not be processed."""
        if self.accepts_input and not self._dropped_counted and (waiting := self.framing.waiting()):
            self._dropped_counted = True
            self.terms.counters.drop_lines(waiting, self.peer)

    @property
    def has_unprocessed_input(self) -> bool:
        if self._messages_paused:
            return self.accepts_input
        if self.output_blocked:  # the messages that were read wait until the peer reads
            return self.accepts_input and self.framing.waiting() > 0
        return self._next_batch is not None

    # Called by the base class

    def received(self, data: bytes) -> None:
        self.framing.receive(data)
        if self.factory.draining:
            self._drain_input_left -= len(data)
            if self._drain_input_left <= 0:
                self.stop_reading()
        self._process_unless_scheduled()

    def input_ended(self) -> None:
        self._process_unless_scheduled()

    def resume_processing(self) -> None:
        self._process_unless_scheduled()

    def check_idle(self, now: float) -> bool:
        waiting = self.has_unprocessed_input or self.output_blocked or self.input is InputState.PAUSED
        limit = self.terms.limits.line_timeout
        if self.active or waiting or not self.framing.has_partial():
            self._line_since = now
        elif 0 < limit <= now - self._line_since and self.accepts_input:
            # The bound is absolute: bytes that trickle in meanwhile do not extend it.
            self.message_refused(Cause.LINE_TIMEOUT.sentence)
            self.finish(Cause.LINE_TIMEOUT)
            return True
        return super().check_idle(now)

    def begin_drain(self) -> None:
        """The server stops: process what was read, and what is still read, without a limit of the rate."""
        super().begin_drain()
        if self._next_batch is not None:
            self._next_batch.reset(0)
            self._set_busy(True)

    def lost(self) -> None:
        if not self.framing.waiting():
            self._cancel_batch()  # nothing waits for the rate
        self._process_unless_scheduled()

    def displace(self) -> None:
        self.count_dropped()
        super().displace()

    def abort(self) -> None:
        self.count_dropped()
        super().abort()

    def closed(self) -> None:
        self._cancel_batch()

    # Internal

    def _cancel_batch(self) -> None:
        cancel(self._next_batch)
        self._next_batch = None
        self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        if busy != self._busy:
            self._busy = busy
            self.terms.message_share.busy += 1 if busy else -1

    def _process_unless_scheduled(self) -> None:
        if self._next_batch is None:
            self._process()

    def _process(self) -> None:
        """Process messages until none is left, the peer must read first, or this iteration's bound is reached."""
        draining = self.factory.draining
        left = self.terms.message_share.messages()
        while left > 0:
            if self._messages_paused or self.output_blocked or not self.accepts_input:
                return
            wait = 0.0 if draining else self.pace()
            if wait and (self.state is not ConnectionState.LOST or self.framing.waiting()):
                self._schedule(wait)
                self.delayed()
                return
            if not self._process_one():
                self._all_processed()
                return
            left -= self.message_weight
        self._schedule(0)

    def _all_processed(self) -> None:
        """Every complete message is processed: read on, or close if the input has ended."""
        if self.input is InputState.ENDED:
            self._process_end()
            self.finish()
        elif self.state is ConnectionState.LOST:
            self.finish()
        else:
            self.resume_reading()

    def _schedule(self, seconds: float) -> None:
        """Stop reading, and process the next messages after ``seconds``."""
        self.pause_reading()
        self._set_busy(not seconds)
        self._next_batch = self.terms.clock.callLater(seconds, self._process_scheduled)

    def _process_scheduled(self) -> None:
        self._next_batch = None
        self._set_busy(False)
        try:
            self._process()
        except Exception:
            # No later event would end the connection.
            if self.state is ConnectionState.LOST:
                self.finish()
            else:
                self.abort()
            raise

    def _process_one(self) -> bool:
        """Process one message or refusal. Return whether there was one."""
        try:
            message = self.framing.next_message()
        except FramingError as e:
            self.active = True
            self.terms.counters.refuse(Cause.LINE_TOO_LONG, self.peer)
            self.message_refused(str(e))
            return True
        if message is None:
            return False
        self.active = True
        self.message_received(message)
        return True

    def _process_end(self) -> None:
        """Process the message that the end of the stream completes."""
        rest = self.framing.end()
        if rest is not None and self.accepts_input:
            self.unfinished_message_received(rest)
