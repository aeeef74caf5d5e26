"""The states of a conversation, and which event leads from one state to another.

As in h11's ``_state.py``, the transitions are a table, and no code decides what may follow what.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto


class ConversationState(Enum):
    """The state of one side of a conversation.

    :cvar CONNECTING: the connection or its TLS handshake is not complete.
    :cvar OPEN: this side may send.
    :cvar HALF_CLOSING: this side has ended its input. Some of its messages may still be queued.
    :cvar HALF_CLOSED: this side has ended its input, and the system has accepted all of its messages.
    :cvar CLOSING: a bye word was sent or received. Some messages of this side may still be queued.
    :cvar DISCONNECTING: nothing is left to send. However the connection ends now, the conversation has not failed.
    :cvar ENDED: the conversation is over.
    """

    CONNECTING = auto()
    OPEN = auto()
    HALF_CLOSING = auto()
    HALF_CLOSED = auto()
    CLOSING = auto()
    DISCONNECTING = auto()
    ENDED = auto()


class ConversationEvent(Enum):
    """An event that changes the state.

    :cvar CONNECTED: the connection and its TLS handshake are complete.
    :cvar INPUT_ENDED: this side has nothing more to send.
    :cvar BYE: a bye word was sent or received.
    :cvar FLUSHED: the system has accepted everything that this side sent.
    :cvar ABORTED: this side aborted the connection.
    :cvar LOST: the connection is lost, or this side ended a conversation that has none.
    """

    CONNECTED = auto()
    INPUT_ENDED = auto()
    BYE = auto()
    FLUSHED = auto()
    ABORTED = auto()
    LOST = auto()


class PeerInput(Enum):
    """The state of the peer's input, as far as this side knows. The other state describes this side.

    :cvar OPEN: more may arrive.
    :cvar ENDED: the peer has ended its input.
    :cvar ENDED_BEFORE_LAST_MESSAGE: this side has sent a message after that. If the peer had not only ended its input
        but closed the connection, it answers that message with a reset.
    """

    OPEN = auto()
    ENDED = auto()
    ENDED_BEFORE_LAST_MESSAGE = auto()


_S = ConversationState
_E = ConversationEvent

#: The state that follows each state at each event. An event that is missing is illegal in that state.
CONVERSATION_TRANSITIONS: Mapping[ConversationState, Mapping[ConversationEvent, ConversationState]] = {
    _S.CONNECTING: {
        _E.CONNECTED: _S.OPEN,
        _E.ABORTED: _S.DISCONNECTING,
        _E.LOST: _S.ENDED,
    },
    _S.OPEN: {
        _E.INPUT_ENDED: _S.HALF_CLOSING,
        _E.BYE: _S.CLOSING,
        _E.ABORTED: _S.DISCONNECTING,
        _E.LOST: _S.ENDED,
    },
    _S.HALF_CLOSING: {
        _E.FLUSHED: _S.HALF_CLOSED,
        _E.BYE: _S.CLOSING,
        _E.ABORTED: _S.DISCONNECTING,
        _E.LOST: _S.ENDED,
    },
    _S.HALF_CLOSED: {
        _E.BYE: _S.DISCONNECTING,
        _E.ABORTED: _S.DISCONNECTING,
        _E.LOST: _S.ENDED,
    },
    _S.CLOSING: {
        _E.FLUSHED: _S.DISCONNECTING,
        _E.BYE: _S.CLOSING,
        _E.ABORTED: _S.DISCONNECTING,
        _E.LOST: _S.ENDED,
    },
    _S.DISCONNECTING: {
        _E.FLUSHED: _S.DISCONNECTING,
        _E.BYE: _S.DISCONNECTING,
        _E.ABORTED: _S.DISCONNECTING,
        _E.LOST: _S.ENDED,
    },
    _S.ENDED: {},
}


def next_state(state: ConversationState, event: ConversationEvent) -> ConversationState:
    """Return the state that follows ``state`` at ``event``.

    :raises ValueError: if the event is illegal in that state. This is a mistake of the program, not of the peer.
    """
    try:
        return CONVERSATION_TRANSITIONS[state][event]
    except KeyError:
        raise ValueError(f"the event {event.name} is illegal in a conversation that is {state.name}") from None
