"""The TLVs of STAMP packets: type, length and value (RFC 8972, section 4)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

#: The flags of a TLV (RFC 8972, section 4). The sender sets U; the reflector sets U, M and I as they apply.
UNRECOGNIZED = 0x80
MALFORMED = 0x40
INTEGRITY_FAILED = 0x20

#: Octets before the value: flags, type and the length of the value.
TLV_HEADER = 4

#: Octets of the value of an HMAC TLV: an HMAC of SHA-256, cut (RFC 8972, section 4.8).
HMAC_VALUE = 16

_HEADER = Struct("!BBH")


class TlvType(IntEnum):
    """The types that have a name: 1 to 8 in RFC 8972, 9 and 10 in RFC 9503, 11 in RFC 9534.

    12 is that of draft-ietf-ippm-asymmetrical-pkts, which became RFC 10052.
    """

    RESERVED = 0
    EXTRA_PADDING = 1
    LOCATION = 2
    TIMESTAMP_INFORMATION = 3
    CLASS_OF_SERVICE = 4
    DIRECT_MEASUREMENT = 5
    ACCESS_REPORT = 6
    FOLLOW_UP_TELEMETRY = 7
    HMAC = 8
    DESTINATION_NODE_ADDRESS = 9
    RETURN_PATH = 10
    MICRO_SESSION_ID = 11
    #: It asks for longer answers, or for several of them.
    REFLECTED_TEST_PACKET_CONTROL = 12


class SyncSource(IntEnum):
    """The source that synchronizes a clock (RFC 8972, section 4.3). 0 is reserved: nothing is said."""

    UNKNOWN = 0
    NTP = 1
    PTP = 2
    SSU_BITS = 3
    SATELLITES = 4
    FREE_RUNNING = 5


class TimestampMethod(IntEnum):
    """Where a timestamp comes from (RFC 8972, section 4.3). 0 is reserved: nothing is said."""

    UNKNOWN = 0
    HARDWARE_ASSISTED = 1
    SOFTWARE_LOCAL = 2
    CONTROL_PLANE = 3


@dataclass(frozen=True, slots=True)
class StampTlv:
    """One TLV.

    :param type: 0 to 255, perhaps a :class:`TlvType`.
    :param value: its octets.
    :param flags: its flags. By default those with which a sender sends it.
    """

    type: int
    value: bytes = b""
    flags: int = UNRECOGNIZED


@dataclass(frozen=True, slots=True)
class ClassOfService:
    """The value of a Class of Service TLV (RFC 8972, section 4.4). DSCP are 0 to 63.

    :param dscp1: the DSCP with which the reflector is to answer.
    :param dscp2: the DSCP with which the question arrived.
    :param ecn: the ECN bits with which the question arrived.
    :param reverse_path: RP: 0 if the answer has ``dscp1``, 1 if the reflector's policy forbids it.
    """

    dscp1: int
    dscp2: int = 0
    ecn: int = 0
    reverse_path: int = 0

    def encode(self) -> bytes:
        """Return the 4 octets."""
        bits = self.dscp1 << 26 | self.dscp2 << 20 | self.ecn << 18 | self.reverse_path << 16
        return bits.to_bytes(4)


@dataclass(frozen=True, slots=True)
class TimestampInformation:
    """The value of a Timestamp Information TLV (RFC 8972, section 4.3).

    A sender leaves all at 0. Numbers that have no name yet are kept.

    :param sync_source_in: what synchronizes the clock of T2; a :class:`SyncSource`.
    :param method_in: where T2 comes from; a :class:`TimestampMethod`.
    :param sync_source_out: what synchronizes the clock of T3.
    :param method_out: where T3 comes from.
    """

    sync_source_in: int = 0
    method_in: int = 0
    sync_source_out: int = 0
    method_out: int = 0

    def encode(self) -> bytes:
        """Return the 4 octets."""
        return bytes((self.sync_source_in, self.method_in, self.sync_source_out, self.method_out))


def decode_class_of_service(value: bytes) -> ClassOfService | None:
    """Return the value of a Class of Service TLV, or None if it has not 4 octets."""
    if len(value) != 4:
        return None
    bits = int.from_bytes(value)
    return ClassOfService(bits >> 26, bits >> 20 & 0x3F, bits >> 18 & 3, bits >> 16 & 3)


def decode_timestamp_information(value: bytes) -> TimestampInformation | None:
    """Return the value of a Timestamp Information TLV, or None if it has not 4 octets."""
    return TimestampInformation(*value) if len(value) == 4 else None


def encode_tlvs(tlvs: Iterable[StampTlv]) -> bytes:
    """Return the octets of TLVs. A value has at most 65,535 octets."""
    return b"".join(_HEADER.pack(tlv.flags, tlv.type, len(tlv.value)) + tlv.value for tlv in tlvs)


def decode_tlvs(area: bytes) -> list[StampTlv]:
    """Return the TLVs in the octets after the base packet. It raises nothing, whatever the octets.

    If the last one is cut off, it has the M flag, and its value is the rest; if not even its header is whole, it has
    the type 0. A sender must not look at what follows a TLV with the M flag (RFC 8972, section 4).
    """
    tlvs = []
    for start, end in tlv_bounds(area):
        flags = area[start] | MALFORMED if end > len(area) else area[start]
        tlvs.append(StampTlv(tlv_type(area, start), area[start + TLV_HEADER : end], flags))
    return tlvs


def tlv_bounds(area: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each TLV starts and ends. The end of the last one is beyond the area if it is cut off."""
    start, length = 0, len(area)
    while start < length:
        end = start + TLV_HEADER
        if end <= length:
            end += area[start + 2] << 8 | area[start + 3]
        yield start, end
        start = end


def tlv_type(area: bytes, start: int) -> int:
    """Return the type of the TLV that starts there; 0 if its header is cut off."""
    return area[start + 1] if start + TLV_HEADER <= len(area) else TlvType.RESERVED


def tlv_hmac(sequence: int, preceding: bytes, key: bytes) -> bytes:
    """Return the value of an HMAC TLV (RFC 8972, section 4.8).

    :param sequence: the sequence number of the packet.
    :param preceding: the TLVs before it.
    """
    return hmac.digest(key, sequence.to_bytes(4) + preceding, "sha256")[:HMAC_VALUE]


def sign_tlvs(area: bytes, sequence: int, key: bytes) -> bytes:
    """Return the octets of TLVs with an HMAC TLV behind. Extra Padding TLVs may be added."""
    return area + encode_tlvs([StampTlv(TlvType.HMAC, tlv_hmac(sequence, area, key))])


def tlvs_are_genuine(area: bytes, sequence: int, key: bytes) -> bool:
    """Whether there is an HMAC TLV, in its place and right. The comparison takes the same time for each wrong one.

    :param sequence: the sequence number of the packet that the TLVs follow.
    """
    start = _hmac_start(area)
    if start is None:
        return False
    value = area[start + TLV_HEADER : start + TLV_HEADER + HMAC_VALUE]
    return hmac.compare_digest(tlv_hmac(sequence, area[:start], key), value)


def _hmac_start(area: bytes) -> int | None:
    """Return where the HMAC TLV starts, or None if there is none, or it has another length, or is not in its place.

    RFC 8972, section 4.8: only Extra Padding TLVs may follow it. In any other place its verification has failed.
    """
    found = None
    for start, end in tlv_bounds(area):
        kind = tlv_type(area, start)
        if found is not None and kind != TlvType.EXTRA_PADDING:
            return None
        if found is None and kind == TlvType.HMAC:
            if end > len(area) or end - start != TLV_HEADER + HMAC_VALUE:
                return None
            found = start
    return found
