"""The TLVs of an answer, made from those of the question.

They take exactly as many octets (RFC 8762, section 4.3). The reflector understands Extra Padding, Timestamp
Information, Class of Service and HMAC. All others return with the U flag, among them the one that asks for longer
answers or more of them: no TLV makes an answer longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from netsvc.stamp.tlvs import (
    HMAC_VALUE,
    INTEGRITY_FAILED,
    MALFORMED,
    TLV_HEADER,
    UNRECOGNIZED,
    ClassOfService,
    SyncSource,
    TimestampInformation,
    TimestampMethod,
    TlvType,
    tlv_bounds,
    tlv_hmac,
    tlv_type,
    tlvs_are_genuine,
)

#: The TLVs of a question that are looked at. A datagram has room for 16,000.
MAXIMUM_TLVS = 32

_UNDERSTOOD = frozenset((TlvType.EXTRA_PADDING, TlvType.TIMESTAMP_INFORMATION, TlvType.CLASS_OF_SERVICE, TlvType.HMAC))

#: Octets of the values (RFC 8972, sections 4.3 and 4.4). That of the HMAC is verified with it.
_LENGTHS: dict[int, int] = {TlvType.TIMESTAMP_INFORMATION: 4, TlvType.CLASS_OF_SERVICE: 4}


@dataclass(frozen=True, slots=True)
class TlvFacts:
    """The facts with which the TLVs of one answer are filled in.

    :param question_sequence: the sequence number of the question, for the HMAC.
    :param answer_sequence: the sequence number of the answer, for the HMAC.
    :param traffic_class: the octet of the IP header, DSCP and ECN, with which the question arrived; None if unknown.
    :param sync_source: what synchronizes the clock.
    :param key: the key of the session, or None if it has none.
    :param authenticated: whether the question has the authenticated mode. Its TLVs must then have an HMAC.
    """

    question_sequence: int
    answer_sequence: int
    traffic_class: int | None = None
    sync_source: SyncSource = SyncSource.UNKNOWN
    key: bytes | None = None
    authenticated: bool = False


@dataclass(frozen=True, slots=True)
class ReflectedTlvs:
    """The TLVs of an answer.

    :param area: their octets, as many as those of the question.
    :param dscp: the DSCP with which to send the answer; None if the question does not ask for one.
    """

    area: bytes
    dscp: int | None = None


def reflect_tlvs(area: bytes, facts: TlvFacts) -> ReflectedTlvs:
    """Return the TLVs of the answer to a question.

    :param area: the octets of the question after its base packet, whatever they are.
    """
    # TWAMP pads with zeros (RFC 5357, section 4.1.2). The type 0 is reserved, so these are no TLVs.
    if area.count(0) == len(area):
        return ReflectedTlvs(area)
    bounds = list(islice(tlv_bounds(area), MAXIMUM_TLVS + 1))
    # RFC 8972, section 4: a reflector that does not support TLVs copies them. Their senders have set the U flag.
    if len(bounds) > MAXIMUM_TLVS:
        return ReflectedTlvs(area)
    answer = bytearray(area)
    types = [tlv_type(area, start) for start, _ in bounds]
    # RFC 8972, section 4.8: the HMAC is verified before any TLV is used. If that fails, the reflector stops, copies
    # the TLVs and sets the I flag of each.
    if not _are_trusted(area, types, facts):
        for start, _ in bounds:
            answer[start] |= INTEGRITY_FAILED
        return ReflectedTlvs(bytes(answer))
    dscp = _fill(answer, bounds, types, facts)
    if TlvType.HMAC in types:
        # RFC 8972, section 4.8: the HMAC covers the sequence number of the answer and the TLVs before it.
        start = bounds[types.index(TlvType.HMAC)][0]
        answer[start] = 0
        value = tlv_hmac(facts.answer_sequence, bytes(answer[:start]), facts.key or b"")
        answer[start + TLV_HEADER : start + TLV_HEADER + HMAC_VALUE] = value
    return ReflectedTlvs(bytes(answer), dscp)


def _are_trusted(area: bytes, types: list[int], facts: TlvFacts) -> bool:
    """Whether the TLVs may be used (RFC 8972, section 4.8)."""
    # An HMAC that is there must be right. Without a key it cannot be verified.
    if TlvType.HMAC in types:
        return facts.key is not None and tlvs_are_genuine(area, facts.question_sequence, facts.key)
    # In the authenticated mode there must be one, unless the only TLV is padding.
    return not facts.authenticated or types == [TlvType.EXTRA_PADDING]


def _fill(answer: bytearray, bounds: list[tuple[int, int]], types: list[int], facts: TlvFacts) -> int | None:
    """Set the flags and the values of the TLVs. Return the DSCP of the answer."""
    dscp = None
    for (start, end), kind in zip(bounds, types, strict=True):
        # RFC 8972, section 4: the U flag is 1 if the reflector does not understand the type, otherwise 0.
        understood = kind in _UNDERSTOOD and (kind != TlvType.CLASS_OF_SERVICE or facts.traffic_class is not None)
        answer[start] = 0 if understood else UNRECOGNIZED
        # Section 4: the M flag is 1 if the rest of the packet is shorter than the TLV, or the type does not have this
        # length. As the sender must not look at what follows, it is copied.
        length = end - start - TLV_HEADER
        if end > len(answer) or (understood and length != _LENGTHS.get(kind, length)):
            answer[start] |= MALFORMED
            break
        if not understood:
            continue
        value = slice(start + TLV_HEADER, end)
        if kind == TlvType.TIMESTAMP_INFORMATION:
            # Section 4.3: the kernel's clock, read by software, makes T2 and T3.
            source, method = facts.sync_source, TimestampMethod.SOFTWARE_LOCAL
            answer[value] = TimestampInformation(source, method, source, method).encode()
        elif kind == TlvType.CLASS_OF_SERVICE:
            answer[value], dscp = _class_of_service(bytes(answer[value]), facts, dscp)
    return dscp


def _class_of_service(value: bytes, facts: TlvFacts, dscp: int | None) -> tuple[bytes, int]:
    """Return the value of a Class of Service TLV, and the DSCP of the answer (RFC 8972, section 4.4).

    The answer has the DSCP that the first such TLV asks for. In a further one that asks for another DSCP, RP is 1.
    """
    asked, received = value[0] >> 2, facts.traffic_class or 0
    if dscp is None:
        dscp = asked
    return ClassOfService(asked, received >> 2, received & 3, int(asked != dscp)).encode(), dscp
