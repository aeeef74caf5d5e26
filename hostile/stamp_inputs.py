"""STAMP under random input, for ``hostile.fuzz``: the formats, and the reflector without and with keys.

The reflector gets each input as it is, and behind the octets of a question, so that the TLVs are reached. With keys it
gets it with right HMACs as well. No answer may be longer than its question and the zeros that fill it up, each answer
must be one that the sender can read, and no answer that comes back may be answered.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.task import Clock

from netsvc.limits.admission import Admission
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.net.terms import Terms
from netsvc.stamp.packets import (
    AUTHENTICATED_LENGTH,
    BASE_LENGTH,
    HMAC_LENGTH,
    SHORTEST_QUESTION,
    StampAnswer,
    StampFormatError,
    StampQuestion,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
    is_genuine,
    looks_reflected,
    looks_reflected_authenticated,
)
from netsvc.stamp.server import SessionKey, StampReflector
from netsvc.stamp.stamp_keys import StampKeys
from netsvc.stamp.stamp_sessions import StampSessions
from netsvc.stamp.stamp_times import ErrorEstimate, TimeFormat
from netsvc.stamp.tlvs import StampTlv, TlvType, decode_tlvs, encode_tlvs, sign_tlvs
from netsvc.wire.datagram import Datagram

_NOW = 1_800_000_000
_NANOSECONDS = _NOW * 1_000_000_000
_KEY = bytes(range(32))
_LONGEST = 65_507  # octets of a datagram
_LONGEST_READ = 8_192  # octets of TLVs that are read: a sender reads answers to what it has sent itself
_SIGNED = AUTHENTICATED_LENGTH - HMAC_LENGTH

_QUESTIONS = [
    StampQuestion(7, _NANOSECONDS - 5_000, ErrorEstimate(True, time_format, 0.001), 17) for time_format in TimeFormat
]
_ANSWER = StampAnswer(
    *(7, _NANOSECONDS, ErrorEstimate(True, TimeFormat.NTP, 0.001), 17, _NANOSECONDS),
    *(7, _NANOSECONDS, ErrorEstimate(True, TimeFormat.NTP, 0.001), 64),
)
_QUESTION = encode_question(_QUESTIONS[0])
_SIGNED_QUESTION = encode_question(_QUESTIONS[0], _KEY)

#: The words of which inputs are made: packets and their parts, TLVs, and TLVs that are cut off.
STAMP_WORDS = (
    *(encode_question(question)[:length] for question in _QUESTIONS for length in (14, 16, 41, BASE_LENGTH)),
    *(encode_question(question, _KEY) for question in _QUESTIONS),
    *(encode_answer(_ANSWER), encode_answer(_ANSWER, _KEY), bytes(4), bytes(28), bytes(96), b"\xff" * 8),
    *(encode_tlvs([StampTlv(kind, bytes(length))]) for kind in TlvType for length in (0, 4, HMAC_LENGTH)),
    *(encode_tlvs([StampTlv(TlvType.EXTRA_PADDING, bytes(9))])[:length] for length in (1, 2, 3, 8)),
    *(encode_tlvs([StampTlv(TlvType.CLASS_OF_SERVICE, b"\xb8\0\0\0")]), sign_tlvs(b"", 7, _KEY)),
    *(b"\x80\xfe\0\4", b"\x80\1\xff\xff", b"\x80\10\0\20"),
)


def _reflector(keys: StampKeys | None = None) -> StampReflector:
    clock = Clock()
    clock.advance(_NOW)
    guard = DatagramGuard(SourceBuckets(0, 0, 0), max_size=0)
    terms = Terms.on(clock, admission=Admission.unlimited())
    return StampReflector(terms, guard, sessions=StampSessions[SessionKey](1_000), keys=keys)


_REFLECTOR, _KEYED_REFLECTOR = _reflector(), _reflector(StampKeys({}, _KEY))


def stamp_formats(data: bytes) -> None:
    """Read packets and TLVs."""
    data = data[:_LONGEST]
    for key in (None, _KEY):
        for decode in (decode_question, decode_answer):
            with suppress(StampFormatError):
                decode(data, near=_NANOSECONDS, key=key)
    decode_tlvs(data[:_LONGEST_READ])


def stamp_questions(data: bytes) -> None:
    """Send questions to a reflector without keys."""
    for question in (data[:_LONGEST], (_QUESTION + data)[:_LONGEST]):
        answered = len(question) >= SHORTEST_QUESTION and not looks_reflected(question, _NANOSECONDS)
        _check(_REFLECTOR, question, answered)


def stamp_questions_with_hmac(data: bytes) -> None:
    """Send questions to a reflector with keys: with the HMACs that the input has, and with right ones."""
    base = data[:_SIGNED].ljust(_SIGNED, b"\0")
    base += hmac.digest(_KEY, base, "sha256")[:HMAC_LENGTH]
    tlvs = sign_tlvs(data[: _LONGEST - 200], _QUESTIONS[0].sequence, _KEY)
    for question in (data[:_LONGEST], base + data[_SIGNED : _LONGEST - HMAC_LENGTH], _SIGNED_QUESTION + tlvs):
        answered = (
            len(question) >= AUTHENTICATED_LENGTH
            and is_genuine(question, _KEY)
            and not looks_reflected_authenticated(question, _NANOSECONDS)
        )
        _check(_KEYED_REFLECTOR, question, answered, _KEY)


def _check(reflector: StampReflector, question: bytes, answered: bool, key: bytes | None = None) -> None:
    """Send a question, and check its answer."""
    base_length = BASE_LENGTH if key is None else AUTHENTICATED_LENGTH
    number = question[-1] if question else 0
    peer = (f"192.0.2.{number}", 1_024 + number)
    asked = Datagram(question, peer, ttl=number or None, traffic_class=number if number < 128 else None)
    answers = list(reflector.batch_received([asked]))
    assert len(answers) == answered, f"{len(answers)} answers to {question!r}"
    for answer in answers:
        length = len(answer.payload)
        assert length == max(base_length, len(question)), f"{length} octets answer {question!r}"
        decode_tlvs(decode_answer(answer.payload, near=_NANOSECONDS, key=key).tlvs[:_LONGEST_READ])
        assert not list(reflector.batch_received([Datagram(answer.payload, peer)])), f"a loop begins with {question!r}"


STAMP_PARSERS: dict[str, Callable[[bytes], None]] = {
    "stamp-formats": stamp_formats,
    "stamp": stamp_questions,
    "stamp-hmac": stamp_questions_with_hmac,
}
