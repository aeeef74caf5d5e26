"""The STAMP reflector (RFC 8762, RFC 8972): it answers test packets, and cannot be used to attack others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from netsvc.limits.cause import Cause
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.linux.clock_state import ClockState, read_clock_state
from netsvc.net.datagram_responder import DatagramResponder
from netsvc.net.reactors import tells_wall_time, wall_nanoseconds_of
from netsvc.net.terms import Terms
from netsvc.stamp.packets import (
    AUTHENTICATED_LENGTH,
    BASE_LENGTH,
    SHORTEST_QUESTION,
    authenticated_ssid_of,
    finish_answer,
    finish_authenticated_answer,
    is_genuine,
    looks_reflected,
    looks_reflected_authenticated,
    prepare_answer,
    prepare_authenticated_answer,
    ssid_of,
)
from netsvc.stamp.stamp_keys import StampKeys
from netsvc.stamp.stamp_sessions import StampSessions
from netsvc.stamp.stamp_times import ErrorEstimate, TimeFormat
from netsvc.stamp.tlv_reflection import TlvFacts, reflect_tlvs
from netsvc.stamp.tlvs import SyncSource
from netsvc.wire.address import format_address
from netsvc.wire.datagram import Datagram, SocketAddress

#: Seconds for which the state of the clock is kept, and an idle session at most after its end.
UPDATE_INTERVAL = 1.0

#: The TTL that is reported if the system does not tell it (RFC 5357, section 4.2.1).
UNKNOWN_TTL = 255

_NO_TIME = bytes(8)

#: A session: the address and the port of the sender, the local address, the bound address and port, and the SSID.
SessionKey = tuple[SocketAddress, bytes | None, str, int]


class StampReflector(DatagramResponder):
    """Answers each test packet with its times, unless its guard refuses it.

    T2 is the time of the kernel, if the datagrams carry it. T3 is read for each answer, right before it is sent. An
    answer is as long as its question, or as the base packet of 44 octets if the question is shorter.

    :param terms: the terms of the service.
    :param guard: decides which datagrams are answered. Reflectors that share a guard share its limits.
    :param sessions: counts the answers of each session; None for a stateless reflector, which copies the sequence
        number of the question.
    :param keys: the keys of the authenticated mode; None for the unauthenticated mode. With keys, other packets are
        refused.
    :param clock_state: tells how right the clock is, once a second; None if the system does not tell. By default that
        of the system on a real reactor; on any other nothing is claimed.
    """

    def __init__(
        self,
        terms: Terms,
        guard: DatagramGuard | None = None,
        *,
        sessions: StampSessions[SessionKey] | None = None,
        keys: StampKeys | None = None,
        clock_state: Callable[[], ClockState | None] | None = None,
    ) -> None:
        super().__init__(terms, guard)
        self._sessions = sessions
        self._keys = keys
        self._wall = wall_nanoseconds_of(terms.clock)
        if clock_state is None:
            clock_state = read_clock_state if tells_wall_time(terms.clock) else _no_claim
        self._read_clock_state = clock_state
        self._bound = ""
        self._error_estimate = 0
        self._sync_source = SyncSource.UNKNOWN
        self._next_update = float("-inf")

    def startProtocol(self) -> None:
        super().startProtocol()
        bound = self.transport.getHost()
        self._bound = format_address(bound.host, bound.port)
        self._update(self.terms.monotonic())  # the first answer is as fast as the others

    def replies_to(self, admitted: list[Datagram]) -> Iterator[Datagram]:
        return self._answers(admitted) if self._keys is None else self._authenticated_answers(admitted, self._keys)

    def _answers(self, admitted: Sequence[Datagram]) -> Iterator[Datagram]:
        # Hot, at 1.6 us: the port sends each answer before it asks for the next one, so T3 is right for each.
        wall, now, sessions, bound = self._wall, self.terms.monotonic(), self._sessions, self._bound
        self._update(now)
        new = tuple.__new__
        for datagram in admitted:
            question, peer, local, _, ttl, _, received = datagram
            length = len(question)
            if received is None:
                received = wall()
            if length < SHORTEST_QUESTION:
                self.refuse(Cause.STAMP_INVALID, datagram)
                continue
            if question[16:24] != _NO_TIME and looks_reflected(question, received):
                self.refuse(Cause.OWN_REPLY, datagram)
                continue
            sequence = None
            if sessions is not None:
                sequence = sessions.next_sequence((peer, local, bound, ssid_of(question)), now)
            if sequence is None:
                sequence = int.from_bytes(question[:4])
            tail = prepare_answer(question, received, UNKNOWN_TTL if ttl is None else ttl)
            traffic_class = None
            if length > BASE_LENGTH:
                area, traffic_class = self._reflect_tlvs(datagram, BASE_LENGTH, sequence)
                tail += area
            answer = finish_answer(question, sequence, self._error_estimate, tail, wall())
            # As Datagram(...) does, in a third of its time.
            yield new(Datagram, (answer, peer, local, None, None, traffic_class, None))

    def _authenticated_answers(self, admitted: Sequence[Datagram], keys: StampKeys) -> Iterator[Datagram]:
        now = self.terms.monotonic()
        self._update(now)
        for datagram in admitted:
            question, peer, local, _, ttl, _, received = datagram
            if len(question) < AUTHENTICATED_LENGTH:
                is_question = len(question) >= SHORTEST_QUESTION  # but an unauthenticated one
                self.refuse(Cause.STAMP_HMAC if is_question else Cause.STAMP_INVALID, datagram)
                continue
            ssid = authenticated_ssid_of(question)
            key = keys.key_for(ssid)
            if key is None or not is_genuine(question, key):
                self.refuse(Cause.STAMP_HMAC, datagram)
                continue
            if received is None:
                received = self._wall()
            if looks_reflected_authenticated(question, received):
                self.refuse(Cause.OWN_REPLY, datagram)
                continue
            sequence = None
            if self._sessions is not None:
                sequence = self._sessions.next_sequence((peer, local, self._bound, ssid), now)
            if sequence is None:
                sequence = int.from_bytes(question[:4])
            tail = prepare_authenticated_answer(question, received, UNKNOWN_TTL if ttl is None else ttl)
            area, traffic_class = b"", None
            if len(question) > AUTHENTICATED_LENGTH:
                area, traffic_class = self._reflect_tlvs(datagram, AUTHENTICATED_LENGTH, sequence, key)
            base = finish_authenticated_answer(question, sequence, self._error_estimate, tail, self._wall(), key)
            yield Datagram(base + area, peer, local, traffic_class=traffic_class)

    def _reflect_tlvs(
        self, datagram: Datagram, base_length: int, sequence: int, key: bytes | None = None
    ) -> tuple[bytes, int | None]:
        """Return the TLVs of the answer, and its traffic class; None for that of the socket."""
        question = datagram.payload
        facts = TlvFacts(
            int.from_bytes(question[:4]),
            sequence,
            datagram.traffic_class,
            self._sync_source,
            key,
            authenticated=key is not None,
        )
        reflected = reflect_tlvs(question[base_length:], facts)
        return reflected.area, None if reflected.dscp is None else reflected.dscp << 2

    def _update(self, now: float) -> None:
        """Ask how right the clock is, and forget idle sessions, once a second."""
        if now < self._next_update:
            return
        self._next_update = now + UPDATE_INTERVAL
        state = self._read_clock_state()
        if state is None:
            self._sync_source, estimate = SyncSource.UNKNOWN, ErrorEstimate(False, TimeFormat.NTP, math.inf)
        else:
            # The kernel does not tell what keeps its clock right.
            self._sync_source = SyncSource.UNKNOWN if state.synchronized else SyncSource.FREE_RUNNING
            estimate = ErrorEstimate(state.synchronized, TimeFormat.NTP, state.error)
        self._error_estimate = estimate.encode()
        if self._sessions is not None:
            self._sessions.forget_idle(now)


def _no_claim() -> ClockState | None:
    """Tell nothing about the clock: it is not that of the system."""
    return None
