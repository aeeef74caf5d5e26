"""The states of a stream connection, and which may follow which."""

from __future__ import annotations

from enum import Enum, auto


class ConnectionState(Enum):
    """The state of a connection.

    :cvar NEW: there is no transport yet.
    :cvar HANDSHAKE: the TLS handshake is not complete. A service waits: data that it sends now is queued without a
        bound.
    :cvar OPEN: input is processed and output is sent.
    :cvar LOST: the connection is lost. The protocol still processes what it read before.
    :cvar FINISHING: the protocol discards input, sends its queue, and closes the connection.
    :cvar ABORTED: the connection was aborted; the transport has not confirmed it yet.
    :cvar CLOSED: the connection is lost, and no input waits.
    """

    NEW = auto()
    HANDSHAKE = auto()
    OPEN = auto()
    LOST = auto()
    FINISHING = auto()
    ABORTED = auto()
    CLOSED = auto()

    # Enum's own hash is a call of a Python function.
    __hash__ = object.__hash__


class InputState(Enum):
    """Whether the transport reads.

    :cvar READING: it does.
    :cvar PAUSED: the protocol has paused it.
    :cvar STOPPED: the server stops; nothing more is read.
    :cvar ENDED: the peer has closed its sending side; there is nothing left to read.
    """

    READING = auto()
    PAUSED = auto()
    STOPPED = auto()
    ENDED = auto()


_S = ConnectionState

#: The states in which data may still be sent.
SENDING = frozenset({_S.NEW, _S.HANDSHAKE, _S.OPEN})

#: The states that may follow each state.
TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    _S.NEW: frozenset({_S.HANDSHAKE, _S.OPEN, _S.FINISHING, _S.ABORTED, _S.CLOSED}),
    _S.HANDSHAKE: frozenset({_S.OPEN, _S.FINISHING, _S.ABORTED, _S.CLOSED}),
    _S.OPEN: frozenset({_S.LOST, _S.FINISHING, _S.ABORTED, _S.CLOSED}),
    _S.LOST: frozenset({_S.CLOSED}),
    _S.FINISHING: frozenset({_S.ABORTED, _S.CLOSED}),
    _S.ABORTED: frozenset({_S.CLOSED}),
    _S.CLOSED: frozenset(),
}


def check_transition(before: ConnectionState, after: ConnectionState) -> ConnectionState:
    """Return ``after``.

    :raises ValueError: if it may not follow ``before``: a fault of the protocol, not of the peer.
    """
    if after not in TRANSITIONS[before]:
        raise ValueError(f"a connection does not go from {before.name} to {after.name}")
    return after
