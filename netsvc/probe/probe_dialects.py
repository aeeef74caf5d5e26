"""The questions of a probe and the answers to them, in the language of each kind of responder."""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import NamedTuple, Protocol

from netsvc.errors import NetsvcError
from netsvc.probe.probe_payload import PROBE_SIZE_MAX, PayloadKind, ProbePayload
from netsvc.stamp.packets import BASE_LENGTH, StampFormatError, StampQuestion, encode_question, unpack_answer
from netsvc.stamp.stamp_times import (
    ErrorEstimate,
    TimeFormat,
    decode_error_estimate,
    decode_time_bits,
    encode_time,
)
from netsvc.stamp.tlvs import TLV_HEADER, UNRECOGNIZED, StampTlv, TlvType, encode_tlvs

#: Probes whose times of sending are remembered, to recognise their answers.
REMEMBERED_TIMES = 131_072

#: The number of the first question to a STAMP reflector. A stateful reflector begins with 0, and one that copies the
#: numbers of the questions with this, so that the first answer tells them apart.
FIRST_SEQUENCE = 1

_MASK = 0xFFFFFFFF

#: A reflector changes its estimate seldom.
_estimate = lru_cache(256)(decode_error_estimate)


class ReflectedTimes(NamedTuple):
    """The part of a STAMP answer that an echo has not. Times are nanoseconds since the epoch on the reflector's clock.

    :ivar sequence: the number of the answer, which a stateful reflector counts for itself.
    :ivar received: T2, when the question arrived.
    :ivar transmitted: T3, when the answer was sent.
    :ivar synchronized: whether the reflector claims that its clock is right.
    :ivar error: the seconds by which it may be wrong.
    :ivar ttl: the TTL or hop limit with which the question arrived; 255 if the reflector does not know.
    """

    sequence: int
    received: int
    transmitted: int
    synchronized: bool
    error: float
    ttl: int


class ParsedAnswer(NamedTuple):
    """An answer.

    :ivar kind: whether it is an answer to this run. The other fields have a meaning only if it is.
    :ivar sequence: the number of the question.
    :ivar times: of a STAMP reflector; None of any other responder.
    """

    kind: PayloadKind
    sequence: int = 0
    times: ReflectedTimes | None = None


class ProbeDialect(Protocol):
    """Makes the questions of one run to one target, and parses the answers."""

    def question(self, sequence: int, wall: int) -> bytes:
        """Return a question.

        :param sequence: its number. The numbers grow.
        :param wall: the time, in nanoseconds since the epoch.
        """

    def parse(self, datagram: bytes, wall: int) -> ParsedAnswer:
        """Parse what has arrived at ``wall``. It raises nothing, whatever the bytes."""


class EchoDialect:
    """For responders that send back what they receive (RFC 862), or put ``[ctime] `` in front of it.

    :param run: 8 random bytes.
    :param size: bytes of each datagram.
    """

    def __init__(self, run: bytes, size: int) -> None:
        self._payload = ProbePayload(run, size)

    def question(self, sequence: int, wall: int) -> bytes:
        return self._payload.encode(sequence, wall)

    def parse(self, datagram: bytes, wall: int) -> ParsedAnswer:
        parsed = self._payload.parse(datagram)
        return ParsedAnswer(parsed.kind, parsed.sequence)


class ProbeSizeError(NetsvcError, ValueError):
    """A question cannot have this size; the message says why."""


class StampDialect:
    """For STAMP reflectors, and those of TWAMP-light (RFC 8762). Questions are unauthenticated and have NTP's format.

    The sequence numbers of STAMP have 32 bits and begin with 1. An answer is that of a question if it repeats its
    number and its time.

    :param ssid: a random number from 1 to 65,535, the identifier of the session.
    :param size: bytes of each datagram: 44, or 48 and more, which are filled up with padding (RFC 8972).
    :raises ProbeSizeError: for any other size.
    """

    def __init__(self, ssid: int, size: int) -> None:
        padding = size - BASE_LENGTH - TLV_HEADER
        if size != BASE_LENGTH and not 0 <= padding <= PROBE_SIZE_MAX - BASE_LENGTH - TLV_HEADER:
            raise ProbeSizeError(f"a STAMP packet has {BASE_LENGTH} bytes, or {BASE_LENGTH + TLV_HEADER} or more")
        self._ssid = ssid
        self._tlvs = b"" if size == BASE_LENGTH else encode_tlvs([StampTlv(TlvType.EXTRA_PADDING, bytes(padding))])
        self._tail = b""
        self.claim(ErrorEstimate(False, TimeFormat.NTP, float("inf")))
        self._sent = array("Q", bytes(8 * REMEMBERED_TIMES))  # as the questions have them
        self._next = 0

    def claim(self, estimate: ErrorEstimate) -> None:
        """Tell in the questions from now on how right the clock is. The format of the estimate is NTP's."""
        self._tail = encode_question(StampQuestion(0, 0, estimate, self._ssid, self._tlvs))[12:]

    def question(self, sequence: int, wall: int) -> bytes:
        time = encode_time(wall, TimeFormat.NTP)
        self._sent[sequence % REMEMBERED_TIMES] = int.from_bytes(time)
        self._next = sequence + 1
        # As encode_question does, in less time.
        return (sequence + FIRST_SEQUENCE & _MASK).to_bytes(4) + time + self._tail

    def parse(self, datagram: bytes, wall: int) -> ParsedAnswer:
        try:
            counter, transmitted, bits, ssid, received, low, sent, _, ttl = unpack_answer(datagram)
        except StampFormatError:
            return ParsedAnswer(PayloadKind.NOT_A_PROBE)
        if ssid != self._ssid and ssid:
            return ParsedAnswer(PayloadKind.OTHER_RUN)
        sequence = self._whole_number(low)
        known = 0 <= self._next - 1 - sequence < REMEMBERED_TIMES and sequence >= 0
        if not known or self._sent[sequence % REMEMBERED_TIMES] != sent:
            return ParsedAnswer(PayloadKind.CORRUPTED if known and ssid else PayloadKind.OTHER_RUN)
        # A reflector of TWAMP-light writes zeros where STAMP has the SSID, and behind its 41 bytes whatever it likes.
        if ssid and not self._has_our_padding(datagram[BASE_LENGTH:]):
            return ParsedAnswer(PayloadKind.CORRUPTED)
        estimate = _estimate(bits)
        form = estimate.time_format
        times = ReflectedTimes(
            counter,
            decode_time_bits(received, form, wall),
            decode_time_bits(transmitted, form, wall),
            estimate.synchronized,
            estimate.error,
            ttl,
        )
        return ParsedAnswer(PayloadKind.OURS, sequence, times)

    def _whole_number(self, low: int) -> int:
        """Return the number of the newest question whose lower 32 bits are ``low``."""
        newest = self._next - 1
        return newest - (newest + FIRST_SEQUENCE - low & _MASK)

    def _has_our_padding(self, tlvs: bytes) -> bool:
        """Whether the TLVs have come back. A reflector that does not know them copies the U flag."""
        if not self._tlvs:  # none were sent: some reflectors append octets
            return True
        return tlvs[1:] == self._tlvs[1:] and tlvs[0] & ~UNRECOGNIZED == 0
