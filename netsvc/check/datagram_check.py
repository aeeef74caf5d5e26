"""Checks UDP ports: whether a question is answered, refused, or neither."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred, maybeDeferred

from netsvc.check.check_target import CheckTarget
from netsvc.check.finding import Finding, PathMtu, PortVerdict, verdict_of_error
from netsvc.check.udp_question import TOKEN_SIZE, question_for
from netsvc.linux.connected_socket import IP_HEADER, UDP_HEADER, known_path_mtu, report_all_errors
from netsvc.net.datagram_protocol import ConnectedDatagramProtocol, listen_for
from netsvc.net.reactors import Reactor, cancel, monotonic_of

#: How often a question is sent: a datagram may be lost.
TRIES = 3


async def check_datagrams(reactor: Reactor, target: CheckTarget, address: str, seconds: float) -> Finding:
    """Check a UDP port at one address.

    :param seconds: how long to wait for an answer. The question is sent three times meanwhile.
    """
    asking = _Asking(reactor, target, address, seconds)
    try:
        port = listen_for(reactor, asking, address)
    except error.CannotListenError as e:
        verdict, reason = verdict_of_error(getattr(e.socketError, "errno", 0) or 0, address, seconds)
        return Finding(target=target, address=address, verdict=verdict, reason=reason)
    try:
        return await asking.finding
    finally:
        await maybeDeferred(port.stopListening)


class _Asking(ConnectedDatagramProtocol):
    """Asks, and asks again.

    :ivar finding: fires with the result.
    """

    def __init__(self, reactor: Reactor, target: CheckTarget, address: str, seconds: float) -> None:
        super().__init__(address, target.port)
        self.finding: Deferred[Finding] = Deferred()
        self._reactor = reactor
        self._clock = monotonic_of(reactor)
        self._seconds = seconds
        self._question = question_for(target.port)
        self._sent: dict[bytes, float] = {}  # the times of the questions, by their tokens
        self._size = 0
        self._unknown = Finding(target=target, address=address, verdict=PortVerdict.NO_ANSWER)
        self._timer: Any = None
        self._at_most: int | None = None

    def startProtocol(self) -> None:
        handle = self.transport.getHandle()
        report_all_errors(handle)
        try:
            super().startProtocol()
        except socket.gaierror:  # of an IP address: its zone is unknown
            self._fail(errno.ENODEV)
            return
        except OSError as e:
            self._fail(e.errno or 0)
            return
        self._at_most = known_path_mtu(handle)
        self._headers = IP_HEADER[handle.family] + UDP_HEADER
        self._ask()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        now = self._clock()
        times = [sent for token, sent in self._sent.items() if self._question.answers(token, datagram)]
        # Any datagram of the peer's shows that the port is open. Only one with the token shows how long it took.
        seconds = now - times[0] if times else now - next(iter(self._sent.values())) if len(self._sent) == 1 else None
        mtu = PathMtu(self._size + self._headers, self._at_most)
        self._end(replace(self._unknown, verdict=PortVerdict.OPEN, answer_seconds=seconds, path_mtu=mtu))

    def closed(self, reason: Exception) -> None:
        if isinstance(reason, error.ConnectionRefusedError):
            self._fail(errno.ECONNREFUSED)
        else:
            self._fail(getattr(reason, "errno", None) or 0)

    def _ask(self) -> None:
        if len(self._sent) == TRIES:
            self._end(replace(self._unknown, reason=self._no_answer(), path_mtu=PathMtu(at_most=self._at_most)))
            return
        token = os.urandom(TOKEN_SIZE)
        datagram = self._question.datagram(token)
        self._size = len(datagram)
        self._sent[token] = self._clock()
        self._timer = self._reactor.callLater(self._seconds / TRIES, self._ask)
        try:
            self.transport.write(datagram)
        except OSError as e:
            self._fail(e.errno or 0)

    def _no_answer(self) -> str:
        return (
            f"no answer to {TRIES} questions ({self._question.name}) within {self._seconds:g} s; "
            "open or filtered, UDP does not tell"
        )

    def _fail(self, number: int) -> None:
        verdict, reason = verdict_of_error(number, self.peer[0], self._seconds)
        self._end(replace(self._unknown, verdict=verdict, reason=reason))

    def _end(self, finding: Finding) -> None:
        cancel(self._timer)
        if not self.finding.called:
            self.finding.callback(replace(finding, questions=len(self._sent)))
