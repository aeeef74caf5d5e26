"""How fast a member may say something, how long it may say nothing, and whether it is still there.

Every front end has one :class:`MemberPace` for each member, and asks it. It decides, and does nothing itself.
"""

from __future__ import annotations

from enum import Enum, auto

from netsvc.limits.token_bucket import TokenBucket

#: Lines per second, and lines at once, of one member. This is more than a person types, and less than makes the send
#: queues of the others overflow.
CHAT_RATE = 5.0
CHAT_BURST = 10

#: Members of one host (an IPv4 address or IPv6 /64) that may each use the full rate. If there are more, they share what
#: this many may say, whether or not the others talk. Otherwise one host could use its 64 connections to say 64 times as
#: much.
FULL_RATE_MEMBERS = 8

#: Seconds that the lines of a member must wait at its rate for the member to be told.
MENTIONED_DELAY = 1.0

#: Seconds without a line after which a member is disconnected, and seconds before that at which it is warned. Somebody
#: may read all day.
CHAT_IDLE_TIMEOUT = 43_200.0
WARNING_TIME = 300.0

#: Seconds without a sign of life after which a member is asked for one, and after which it counts as dead.
PROBE_TIME = 55.0
DEAD_TIME = 110.0


class Action(Enum):
    """The ways to treat a member that says nothing.

    :cvar NOTHING: it may stay.
    :cvar WARN: tell it that it is disconnected soon.
    :cvar CLOSE: it said nothing for too long.
    :cvar PROBE: ask it for a sign of life.
    :cvar GIVE_UP: it gave no sign of life.
    """

    NOTHING = auto()
    WARN = auto()
    CLOSE = auto()
    PROBE = auto()
    GIVE_UP = auto()

    __hash__ = object.__hash__


class MemberPace:
    """The pace of one member. All times are seconds of the same clock.

    :param rate: lines per second; 0 for no limit.
    :param burst: lines at once after a pause; 0 for no limit.
    :param idle_timeout: seconds without a line after which the member is disconnected; 0 for no limit.
    :param now: when the member joined.
    :param has_keepalive: whether its transport notices by itself that it is gone, as TCP keepalive does. If not, it is
        asked for a sign of life.
    """

    __slots__ = ("_active_at", "_bucket", "_has_keepalive", "_idle_timeout", "_probed_at", "_spoke", "_warned")

    def __init__(self, rate: float, burst: int, idle_timeout: float, now: float, *, has_keepalive: bool) -> None:
        # It starts with one token. Otherwise a peer that reconnects again and again could say more than one that stays.
        self._bucket = TokenBucket(rate, burst, now, 1)
        self._idle_timeout = idle_timeout
        self._has_keepalive = has_keepalive
        self._spoke = now
        self._active_at = now
        self._warned = False
        self._probed_at: float | None = None  # None if it has given a sign of life since

    def wait(self, now: float) -> float:
        """Return the seconds until the next line may be processed; 0 for now."""
        return self._bucket.wait(now)

    def spoke(self, now: float, cost: float = 1.0) -> None:
        """The member sent a line.

        :param cost: how many lines it counts as.
        """
        self._bucket.charge(now, cost)
        self._spoke = self._active_at = now
        self._warned = False
        self._probed_at = None

    def is_alive(self, now: float, cost: float = 0.0) -> None:
        """The member gave a sign of life that is no line, such as the answer to a probe.

        :param cost: how many lines it counts as for the rate.
        """
        self._bucket.charge(now, cost)
        self._active_at = now
        self._probed_at = None

    def seconds_left(self, now: float) -> float:
        """Return the seconds until the member is disconnected because it says nothing."""
        return self._spoke + self._idle_timeout - now

    def check(self, now: float) -> Action:
        """Return what to do about the member now. Each action is returned once."""
        if not self._has_keepalive:
            # It is silent as well while it is not read from. So the time to answer begins with the question.
            if self._probed_at is None:
                if now - self._active_at >= PROBE_TIME:
                    self._probed_at = now
                    return Action.PROBE
            elif now - self._probed_at >= DEAD_TIME - PROBE_TIME:
                return Action.GIVE_UP
        if self._idle_timeout:
            left = self.seconds_left(now)
            if left <= 0:
                return Action.CLOSE
            if left <= min(WARNING_TIME, self._idle_timeout / 2) and not self._warned:
                self._warned = True
                return Action.WARN
        return Action.NOTHING
