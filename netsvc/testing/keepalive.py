"""TCP keepalive: an idle end asks from time to time whether its peer still has the connection."""

from __future__ import annotations

import socket

from netsvc.testing.events import EventQueue
from netsvc.testing.pipe import Pipe, StreamEnd

#: Seconds without a sign of life before the first probe, seconds between two probes, and the number of unanswered
#: probes after which the connection times out. Linux: tcp_keepalive_time, tcp_keepalive_intvl, tcp_keepalive_probes.
IDLE, INTERVAL, PROBES = 7_200, 75, 9

_ENABLED = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
_IDLE = (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", 4))
_INTERVAL = (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", 5))
_PROBES = (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", 6))

#: The options that change the timer.
OPTIONS = frozenset([_ENABLED, _IDLE, _INTERVAL, _PROBES])


class KeepAlive:
    """The keepalive timer of one end (RFC 9293, section 3.8.4). It reads the options of the socket.

    :param pipe: the pipe from this end to its peer.
    """

    def __init__(self, end: StreamEnd, pipe: Pipe, events: EventQueue) -> None:
        self._end = end
        self._pipe = pipe
        self._events = events
        self._unanswered = 0
        self._check_number = 0  # an earlier check is void

    def restart(self) -> None:
        """The options have changed."""
        self._unanswered = 0
        self._check_at(max(self._end.heard_at + self._option(_IDLE, IDLE), self._events.now))

    def _option(self, option: tuple[int, int], default: int) -> int:
        return self._end.options.get(option) or default

    def _check_at(self, time: float) -> None:
        self._check_number += 1
        if self._end.options.get(_ENABLED):
            self._events.call_at(time, self._check, self._check_number)

    def _check(self, number: int) -> None:
        if number != self._check_number or self._end.has_no_connection:
            return
        now = self._events.now
        due = self._end.heard_at + self._option(_IDLE, IDLE)
        if self._pipe.space() < self._end.send_limit:  # retransmissions find out
            self._unanswered = 0
            self._check_at(now + self._option(_IDLE, IDLE))
        elif now < due:
            self._unanswered = 0
            self._check_at(due)
        elif self._unanswered >= self._option(_PROBES, PROBES):
            self._pipe.time_out()
        else:
            self._unanswered += 1
            self._pipe.probe(self._probe_arrives)
            self._check_at(now + self._option(_INTERVAL, INTERVAL))

    def _probe_arrives(self) -> None:
        arrival = self._pipe.send_acknowledgement()
        if arrival is not None:
            self._events.call_at(arrival, self._answer_arrives)

    def _answer_arrives(self) -> None:
        if self._pipe.reaches_source():
            self._unanswered = 0
            self._end.heard_at = self._events.now
