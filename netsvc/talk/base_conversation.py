"""The common part of conversations on streams and in datagrams: the state, the bye words and the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from netsvc.errors import NetsvcError
from netsvc.net.reactors import Clock
from netsvc.talk.conversation_state import ConversationEvent, ConversationState, next_state
from netsvc.talk.restartable_timer import RestartableTimer

#: Seconds of silence after which this side ends the conversation once it has ended its input, where the peer cannot be
#: told so: over TLS, which Twisted cannot half-close, and in datagrams.
PEER_SILENCE = 1.0


class NotSentError(NetsvcError):
    """The message was not sent; the text says why."""


def ignore_notice(line: str) -> None:
    """Discard a notice."""


class BaseConversation:
    """One side of a conversation, without its transport.

    A subclass moves the state with :meth:`advance`, passes messages on with :meth:`deliver`, and ends with
    :meth:`finish`.

    :param clock: a reactor, or ``twisted.internet.task.Clock`` in a test.
    :param message_received: called with each message of the peer. It may contain any character: clean it before you
        print it.
    :param notice: called with one line about any other event that a user should know.
    :param bye: the words that end the conversation when they are sent or received, in upper or lower case.
    :param bytes_received: called with the bytes that arrive, unchanged, instead of ``message_received``.
    :ivar ended: fires with None when the conversation is over, or fails if the network ended it.
    :ivar state: the state. Only :meth:`advance` changes it.
    :ivar bytes_received: for subclasses: the callback for bytes; None if messages are delivered.
    :ivar notice: for subclasses: the callback for notices.
    :ivar silence: for subclasses: runs while the peer is silent. The end of the conversation cancels it.
    """

    def __init__(
        self,
        clock: Clock,
        message_received: Callable[[str], object],
        notice: Callable[[str], object],
        bye: Sequence[str],
        bytes_received: Callable[[bytes], object] | None,
    ) -> None:
        self.ended: Deferred[None] = Deferred()
        self.state = ConversationState.CONNECTING
        self.notice = notice
        self.bytes_received = bytes_received
        self.silence = RestartableTimer(clock)
        self._message_received = message_received
        self._bye_words = frozenset(word.casefold() for word in bye)

    @property
    def sending_ended(self) -> bool:
        """Whether this side can send no further messages."""
        return self.state not in (ConversationState.CONNECTING, ConversationState.OPEN)

    # For subclasses

    def advance(self, event: ConversationEvent) -> None:
        """Move to the state that follows at ``event``.

        :raises ValueError: if the event is illegal in the present state.
        """
        self.state = next_state(self.state, event)

    def check_open(self) -> None:
        """Check that messages can be sent.

        :raises NotSentError: before the connection is complete, and after this side has ended its input.
        """
        if self.state is ConversationState.CONNECTING:
            raise NotSentError("the connection is not complete yet")
        if self.sending_ended:
            raise NotSentError("the conversation is over")

    def is_bye(self, message: bytes) -> bool:
        """Whether ``message`` is a bye word."""
        return message.decode("utf-8", "replace").strip().casefold() in self._bye_words

    def deliver(self, message: bytes) -> bool:
        """Pass on a message of the peer.

        :return: whether it is a bye word.
        """
        if self.bytes_received is not None:
            self.bytes_received(message)
            return False
        self._message_received(message.decode("utf-8", "replace"))
        return self.is_bye(message)

    def finish(self, failure: Failure | None = None) -> None:
        """End the conversation, if that has not happened before.

        :param failure: the reason, if the network ended it.
        """
        self.silence.cancel()
        if self.state is not ConversationState.ENDED:
            self.advance(ConversationEvent.LOST)
            self.ended.callback(failure)
