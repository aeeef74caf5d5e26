"""The questions of datagrams to which the server behind a port answers: DNS, NTP, STAMP, or netsvc's own timestamps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Random bytes that make a question its own.
TOKEN_SIZE = 8


@dataclass(frozen=True, slots=True)
class UdpQuestion:
    """A kind of question.

    :param name: of the protocol.
    :param datagram: returns the question with a token.
    :param answers: whether a datagram is the answer to the question with a token.
    """

    name: str
    datagram: Callable[[bytes], bytes]
    answers: Callable[[bytes, bytes], bool]


def _dns(token: bytes) -> bytes:
    """Return a query for the SOA record of the root (RFC 1035): id, recursion desired, one question."""
    return token[:2] + b"\1\0" + b"\0\1\0\0\0\0\0\0" + b"\0" + b"\0\6\0\1"


def _answers_dns(token: bytes, datagram: bytes) -> bool:
    return len(datagram) >= 12 and datagram[:2] == token[:2] and bool(datagram[2] & 0x80)


def _ntp(token: bytes) -> bytes:
    """Return a client's packet of NTP version 4 (RFC 5905), whose transmit timestamp is the token."""
    return b"\x23" + bytes(39) + token


def _answers_ntp(token: bytes, datagram: bytes) -> bool:
    return len(datagram) >= 48 and datagram[24:32] == token


def _stamp(token: bytes) -> bytes:
    """Return a sender's packet of STAMP (RFC 8762): sequence number, timestamp, error estimate, zero."""
    return token[:4] + token + b"\0\1" + bytes(30)


def _answers_stamp(token: bytes, datagram: bytes) -> bool:
    return len(datagram) >= 44 and datagram[24:28] == token[:4]


def _timestamp(token: bytes) -> bytes:
    return b"netsvc check " + token.hex().encode("ascii")


def _answers_timestamp(token: bytes, datagram: bytes) -> bool:
    return datagram.endswith(_timestamp(token))


#: The questions for ports that have one of their own.
_QUESTIONS = {
    53: UdpQuestion("DNS", _dns, _answers_dns),
    123: UdpQuestion("NTP", _ntp, _answers_ntp),
    862: UdpQuestion("STAMP", _stamp, _answers_stamp),
}

#: The question for every other port. A netsvc server answers it, and so does an echo server.
_DEFAULT = UdpQuestion("timestamp", _timestamp, _answers_timestamp)


def question_for(port: int) -> UdpQuestion:
    """Return the question that a server on this port probably answers."""
    return _QUESTIONS.get(port, _DEFAULT)
