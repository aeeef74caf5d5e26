"""The sessions of a stateful reflector: it counts its answers to each, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

#: Seconds after which a session without a question ends: REFWAIT of TWAMP (RFC 5357).
IDLE = 900.0

#: The number of sessions by default.
SESSIONS_MAX = 10_000

#: Seconds without a question after which a kept session may lose its place to a new one.
HOLD = 60.0

_SEQUENCE_MASK = 0xFFFFFFFF


class _Session:
    __slots__ = ("asked", "next_sequence")

    def __init__(self, now: float) -> None:
        self.asked = now
        self.next_sequence = 0


class StampSessions(Generic[K]):
    """Counts the answers of each session.

    A stateful reflector numbers the answers of each session, so that the sender can tell questions that were lost from
    answers that were lost (RFC 8762, section 4). The numbers begin with 0 and wrap after 2**32.

    A forger can begin any number of sessions. So a new session is on probation, with half of the places: each further
    one takes the place of the one that has not asked for longest. A session that asks again is kept. It takes one of
    the other places: a free one, or that of the session that has not asked for longest, if that has not asked for a
    minute. If there is none, the new session stays on probation. Forged sessions that ask again every minute can thus
    keep new sessions on probation, but they cannot end a session that asks at least once a minute.

    :param maximum: the number of sessions. A session takes about 450 bytes. With 0 the reflector is stateless.
    :param idle: seconds without a question after which a session begins anew.
    """

    def __init__(self, maximum: int, idle: float = IDLE) -> None:
        self._kept: OrderedDict[K, _Session] = OrderedDict()  # the one that has not asked for longest comes first
        self._probation: OrderedDict[K, _Session] = OrderedDict()  # likewise
        self._kept_max = maximum // 2
        self._probation_max = maximum - self._kept_max
        self._idle = idle

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._kept) + len(self._probation)

    def next_sequence(self, key: K, now: float) -> int | None:
        """Return the sequence number of the next answer to a session, or None if the reflector is stateless.

        A stateless reflector repeats the sequence number of the question (RFC 8762, section 4).

        A hot path: 0.3 microseconds for a kept session.

        :param key: what tells the session from others: the addresses, the ports and the SSID (RFC 8972, section 3).
        :param now: seconds of a monotonic clock.
        """
        session = self._kept.get(key)
        if session is None:
            session = self._newcomer(key, now)
            if session is None:
                return None
        else:
            self._kept.move_to_end(key)
        if now - session.asked > self._idle:
            session.next_sequence = 0
        session.asked = now
        sequence = session.next_sequence
        session.next_sequence = sequence + 1 & _SEQUENCE_MASK
        return sequence

    def forget_idle(self, now: float) -> None:
        """Remove the sessions that have been idle for too long."""
        for sessions in (self._kept, self._probation):
            while sessions and now - _oldest(sessions).asked > self._idle:
                sessions.popitem(last=False)

    def _newcomer(self, key: K, now: float) -> _Session | None:
        """Return a session that is not kept, or not yet. Return None if there is no place at all."""
        session = self._probation.pop(key, None)
        if session is None:
            if not self._probation_max:
                return None
            if len(self._probation) >= self._probation_max:
                self._probation.popitem(last=False)
            session = self._probation[key] = _Session(now)
        elif self._make_place(now):
            self._kept[key] = session
        else:
            self._probation[key] = session
        return session

    def _make_place(self, now: float) -> bool:
        """Whether there is a place for one more kept session. One that has not asked for a while gives up its own."""
        if len(self._kept) < self._kept_max:
            return True
        if not self._kept or now - _oldest(self._kept).asked <= HOLD:
            return False
        self._kept.popitem(last=False)
        return True


def _oldest(sessions: OrderedDict[K, _Session]) -> _Session:
    """Return the session that has not asked for longest."""
    return next(iter(sessions.values()))
