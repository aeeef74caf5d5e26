"""The packets of STAMP: a question of the sender and an answer of the reflector (RFC 8762, sections 4.2 and 4.3).

They have two modes. A packet of the unauthenticated mode begins with 44 octets, one of the authenticated mode with 112,
of which the last 16 are an HMAC. TLVs follow (``tlvs``). Where a function takes ``key``, None stands for the
unauthenticated mode.

The reflector does not use the classes. It makes an answer from the octets of the question in two steps, so that the
time of sending can be read last: :func:`prepare_answer`, then :func:`finish_answer`.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from struct import Struct

from netsvc.errors import NetsvcError
from netsvc.stamp.stamp_times import (
    NTP_EPOCH,
    SECOND,
    SECONDS_MASK,
    ErrorEstimate,
    decode_error_estimate,
    decode_time,
    encode_time,
)

#: Octets before the TLVs, without and with authentication (RFC 8762, sections 4.2.1 and 4.2.2).
BASE_LENGTH = 44
AUTHENTICATED_LENGTH = 112

#: Octets of the shortest question: that of TWAMP without padding (RFC 5357, section 4.1.2; RFC 8762, section 4.6).
SHORTEST_QUESTION = 14

#: Octets of the shortest answer of a TWAMP reflector (RFC 5357, section 4.2.1).
SHORTEST_ANSWER = 41

#: Octets of an HMAC: that of SHA-256, cut (RFC 8762, section 4.4).
HMAC_LENGTH = 16

#: An answer holds a time of about now: the largest difference of two clocks that :func:`looks_reflected` allows, in
#: seconds.
CLOCK_TOLERANCE = 3600

_SIGNED = AUTHENTICATED_LENGTH - HMAC_LENGTH

# The Z bit, in its octet and in the 16 bits of an error estimate.
_Z = 0x40
_Z_OF_ESTIMATE = 0x4000

# Sequence number, time, error estimate, SSID, zeros (RFC 8972, section 3, figures 1 and 3).
_QUESTION = Struct("!L8sHH28x")
_AUTHENTICATED_QUESTION = Struct("!L12x8sHH68x")

# Sequence number, time, error estimate, SSID, receive time; the sender's sequence number, time and error estimate; its
# TTL (RFC 8972, section 3, figures 2 and 4).
_ANSWER = Struct("!L8sHH8sL8sH2xB3x")
_ANSWER_NUMBERS = Struct("!LQHHQLQH2xB3x")
_AUTHENTICATED_ANSWER = Struct("!L12x8sHH4x8s8xL12x8sH6xB15x")

# The same in two parts. The first ends before the SSID. The second repeats octets of the question.
_HEAD = Struct("!LLLH").pack
_TAIL = Struct("!2sLL14s2xB3x").pack
_AUTHENTICATED_HEAD = Struct("!L12xLLH").pack
_AUTHENTICATED_TAIL = Struct("!2s4xLL8x4s12x10s6xB15x").pack

_TIME = Struct("!LL").unpack
_NO_TIME = bytes(8)
_MUST_BE_ZERO = bytes(28)


class StampFormatError(NetsvcError, ValueError):
    """The datagram is not a STAMP packet; the message says why."""


@dataclass(frozen=True, slots=True)
class StampQuestion:
    """A test packet of the Session-Sender.

    :param sequence: its sequence number, 32 bits.
    :param time: T1, when it was sent: nanoseconds since the Unix epoch.
    :param error_estimate: that of ``time``; it has the format of ``time``.
    :param ssid: the identifier of the session, 16 bits; 0 if there is none (RFC 8972, section 3).
    :param tlvs: the octets of the TLVs.
    """

    sequence: int
    time: int
    error_estimate: ErrorEstimate
    ssid: int = 0
    tlvs: bytes = b""


@dataclass(frozen=True, slots=True)
class StampAnswer:
    """A reflected test packet of the Session-Reflector. Times are nanoseconds since the Unix epoch.

    :param sequence: its own number if the reflector counts answers, otherwise that of the question; 32 bits.
    :param transmit_time: T3, when the answer was sent.
    :param error_estimate: that of ``transmit_time`` and ``receive_time``; it has their format.
    :param ssid: the identifier of the session, 16 bits.
    :param receive_time: T2, when the question was received.
    :param sender_sequence: the sequence number of the question.
    :param sender_time: T1, when the question was sent.
    :param sender_error_estimate: that of ``sender_time``; it has its format.
    :param sender_ttl: the TTL or the hop limit with which the question arrived.
    :param tlvs: the octets of the TLVs.
    """

    sequence: int
    transmit_time: int
    error_estimate: ErrorEstimate
    ssid: int
    receive_time: int
    sender_sequence: int
    sender_time: int
    sender_error_estimate: ErrorEstimate
    sender_ttl: int
    tlvs: bytes = b""


def encode_question(question: StampQuestion, key: bytes | None = None) -> bytes:
    """Return the octets of a question. With a key it is an authenticated one."""
    estimate = question.error_estimate
    time = encode_time(question.time, estimate.time_format)
    layout = _QUESTION if key is None else _AUTHENTICATED_QUESTION
    return _with_hmac(layout.pack(question.sequence, time, estimate.encode(), question.ssid), key) + question.tlvs


def decode_question(datagram: bytes, *, near: int, key: bytes | None = None) -> StampQuestion:
    """Parse a question. Octets that a question of TWAMP lacks are taken as zeros.

    :param near: about now, for the era of the time: nanoseconds since the Unix epoch.
    :param key: with a key, it must be an authenticated question with the right HMAC.
    :raises StampFormatError: and nothing else, whatever the octets.
    """
    if key is None:
        base = _base(datagram, SHORTEST_QUESTION, BASE_LENGTH)
        sequence, time, bits, ssid = _QUESTION.unpack(base)
    else:
        base = _genuine_base(datagram, key)
        sequence, time, bits, ssid = _AUTHENTICATED_QUESTION.unpack(base)
    estimate = decode_error_estimate(bits)
    time = decode_time(time, estimate.time_format, near=near)
    return StampQuestion(sequence, time, estimate, ssid, _tlvs_of(datagram, key))


def encode_answer(answer: StampAnswer, key: bytes | None = None) -> bytes:
    """Return the octets of an answer. With a key it is an authenticated one."""
    estimate, sender_estimate = answer.error_estimate, answer.sender_error_estimate
    layout = _ANSWER if key is None else _AUTHENTICATED_ANSWER
    base = layout.pack(
        answer.sequence,
        encode_time(answer.transmit_time, estimate.time_format),
        estimate.encode(),
        answer.ssid,
        encode_time(answer.receive_time, estimate.time_format),
        answer.sender_sequence,
        encode_time(answer.sender_time, sender_estimate.time_format),
        sender_estimate.encode(),
        answer.sender_ttl,
    )
    return _with_hmac(base, key) + answer.tlvs


def decode_answer(datagram: bytes, *, near: int, key: bytes | None = None) -> StampAnswer:
    """Parse an answer. Octets that an answer of TWAMP lacks, three at most, are taken as zeros.

    :param near: about now, for the era of the times: nanoseconds since the Unix epoch.
    :param key: with a key, it must be an authenticated answer with the right HMAC.
    :raises StampFormatError: and nothing else, whatever the octets.
    """
    if key is None:
        fields = _ANSWER.unpack(_base(datagram, SHORTEST_ANSWER, BASE_LENGTH))
    else:
        fields = _AUTHENTICATED_ANSWER.unpack(_genuine_base(datagram, key))
    sequence, transmit, bits, ssid, receive, sender_sequence, sender_time, sender_bits, ttl = fields
    estimate, sender_estimate = decode_error_estimate(bits), decode_error_estimate(sender_bits)
    return StampAnswer(
        sequence,
        decode_time(transmit, estimate.time_format, near=near),
        estimate,
        ssid,
        decode_time(receive, estimate.time_format, near=near),
        sender_sequence,
        decode_time(sender_time, sender_estimate.time_format, near=near),
        sender_estimate,
        ttl,
        _tlvs_of(datagram, key),
    )


def unpack_answer(datagram: bytes) -> tuple[int, ...]:
    """Return the fields of an unauthenticated answer as numbers, in their order. Times and estimates are not decoded.

    The fields are the sequence number, T3, the error estimate, the SSID and T2; the sequence number, the time and the
    error estimate of the question; and its TTL. This takes a fifth of the time of :func:`decode_answer`.

    :raises StampFormatError: and nothing else, whatever the octets.
    """
    if len(datagram) == BASE_LENGTH:  # the usual case, without a copy
        return _ANSWER_NUMBERS.unpack(datagram)
    return _ANSWER_NUMBERS.unpack(_base(datagram, SHORTEST_ANSWER, BASE_LENGTH))


def ssid_of(question: bytes) -> int:
    """Return the identifier of the session of an unauthenticated question of 14 octets or more.

    It is 0 if the 28 octets after it are not all zeros, as a sender of STAMP must write them (RFC 8972, section 3).
    They are then padding of TWAMP, which may be random (RFC 5357, section 4.1.2): each question would begin a session.
    """
    rest = question[16:BASE_LENGTH]
    if (rest != _MUST_BE_ZERO and any(rest)) or len(question) < 16:
        return 0
    return question[14] << 8 | question[15]


def authenticated_ssid_of(question: bytes) -> int:
    """Return the identifier of the session of an authenticated question of 112 octets or more."""
    return question[26] << 8 | question[27]


def is_genuine(packet: bytes, key: bytes) -> bool:
    """Whether an authenticated packet has the HMAC of its first 96 octets (RFC 8762, section 4.4).

    The comparison takes the same time for each HMAC that is wrong.
    """
    expected = hmac.digest(key, packet[:_SIGNED], "sha256")[:HMAC_LENGTH]
    return hmac.compare_digest(expected, packet[_SIGNED:AUTHENTICATED_LENGTH])


def looks_reflected(question: bytes, now: int) -> bool:
    """Whether an unauthenticated question has a time of about now where an answer has T2, and a question has zeros.

    Such a datagram comes from another reflector, or from an echo server that sent an answer back. To answer it begins a
    loop (CVE-2024-2169). The time is found in both formats, whatever the Z bit says. A question with random octets
    there is taken for an answer once in 300,000 times. An answer whose clock differs by more than an hour is not found.

    :param now: nanoseconds since the Unix epoch.
    """
    time = question[16:24]
    return time != _NO_TIME and len(question) >= SHORTEST_ANSWER and _is_about(time, now)


def looks_reflected_authenticated(question: bytes, now: int) -> bool:
    """Do the same for an authenticated question of 112 octets or more."""
    time = question[32:40]
    return time != _NO_TIME and _is_about(time, now)


def prepare_answer(question: bytes, receive_time: int, ttl: int) -> bytes:
    """Return an answer's octets from its SSID on, octets 14 to 43. Those of the TLVs may be added.

    A hot path: with :func:`finish_answer` 1 microsecond.

    :param question: an unauthenticated one of 14 octets or more.
    :param receive_time: T2 in nanoseconds since the Unix epoch. It is written in the format of the question.
    :param ttl: the TTL or the hop limit with which the question arrived.
    """
    seconds, rest = divmod(receive_time, SECOND)
    if question[12] & _Z:
        return _TAIL(question[14:16], seconds & SECONDS_MASK, rest, question[:14], ttl)
    return _TAIL(question[14:16], (seconds + NTP_EPOCH) & SECONDS_MASK, (rest << 32) // SECOND, question[:14], ttl)


def finish_answer(question: bytes, sequence: int, error_estimate: int, tail: bytes, transmit_time: int) -> bytes:
    """Return the answer.

    :param sequence: that of the answer.
    :param error_estimate: 16 bits, with a Z bit of 0. It is set to that of the question.
    :param tail: what :func:`prepare_answer` returned.
    :param transmit_time: T3 in nanoseconds since the Unix epoch. It is written in the format of the question.
    """
    seconds, rest = divmod(transmit_time, SECOND)
    if question[12] & _Z:
        return _HEAD(sequence, seconds & SECONDS_MASK, rest, error_estimate | _Z_OF_ESTIMATE) + tail
    return _HEAD(sequence, (seconds + NTP_EPOCH) & SECONDS_MASK, (rest << 32) // SECOND, error_estimate) + tail


def prepare_authenticated_answer(question: bytes, receive_time: int, ttl: int) -> bytes:
    """Return an authenticated answer's octets from its SSID to its HMAC, octets 26 to 95.

    :param question: an authenticated one of 112 octets or more, whose HMAC is right.
    :param receive_time: T2 in nanoseconds since the Unix epoch. It is written in the format of the question.
    :param ttl: the TTL or the hop limit with which the question arrived.
    """
    seconds, rest = divmod(receive_time, SECOND)
    if not question[24] & _Z:
        seconds, rest = seconds + NTP_EPOCH, (rest << 32) // SECOND
    return _AUTHENTICATED_TAIL(question[26:28], seconds & SECONDS_MASK, rest, question[:4], question[16:26], ttl)


def finish_authenticated_answer(
    question: bytes, sequence: int, error_estimate: int, tail: bytes, transmit_time: int, key: bytes
) -> bytes:
    """Return the answer, with its HMAC. The TLVs may be added.

    :param sequence: that of the answer.
    :param error_estimate: 16 bits, with a Z bit of 0. It is set to that of the question.
    :param tail: what :func:`prepare_authenticated_answer` returned.
    :param transmit_time: T3 in nanoseconds since the Unix epoch. It is written in the format of the question.
    :param key: that of the session.
    """
    seconds, rest = divmod(transmit_time, SECOND)
    if question[24] & _Z:
        error_estimate |= _Z_OF_ESTIMATE
    else:
        seconds, rest = seconds + NTP_EPOCH, (rest << 32) // SECOND
    return _with_hmac(_AUTHENTICATED_HEAD(sequence, seconds & SECONDS_MASK, rest, error_estimate) + tail, key)


def _is_about(time: bytes, now: int) -> bool:
    """Whether the seconds of a timestamp, in one of the formats, are those of now, within the tolerance."""
    ahead: int = _TIME(time)[0] - now // SECOND + CLOCK_TOLERANCE
    return ahead & SECONDS_MASK <= 2 * CLOCK_TOLERANCE or ahead - NTP_EPOCH & SECONDS_MASK <= 2 * CLOCK_TOLERANCE


def _with_hmac(base: bytes, key: bytes | None) -> bytes:
    return base if key is None else base + hmac.digest(key, base, "sha256")[:HMAC_LENGTH]


def _base(datagram: bytes, shortest: int, length: int) -> bytes:
    if len(datagram) < shortest:
        raise StampFormatError(f"the datagram has {len(datagram)} octets, and a packet has {shortest} or more")
    return datagram[:length].ljust(length, b"\0")


def _genuine_base(datagram: bytes, key: bytes) -> bytes:
    """Return the octets before the HMAC."""
    base = _base(datagram, AUTHENTICATED_LENGTH, AUTHENTICATED_LENGTH)
    if not is_genuine(base, key):
        raise StampFormatError("the HMAC is wrong; give both sides the same key for this SSID")
    return base[:_SIGNED]


def _tlvs_of(datagram: bytes, key: bytes | None) -> bytes:
    return datagram[BASE_LENGTH if key is None else AUTHENTICATED_LENGTH :]
