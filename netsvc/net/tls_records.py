"""The signs of a peer that speaks TLS on a connection without TLS (RFC 8446, section 5.1)."""

from __future__ import annotations

import re

from twisted.internet.error import ConnectionLost

from netsvc.errors import NetsvcError

#: The beginning of an alert, with its level, or of a ClientHello. Version 3.0 to 3.4 is that of a record.
_RECORD = re.compile(rb"\x15\x03[\x00-\x04]\x00\x02[\x01\x02]|\x16\x03[\x00-\x04]..\x01", re.DOTALL)


class UnexpectedTLSError(NetsvcError):
    """The peer speaks TLS, and this side does not."""

    def __init__(self) -> None:
        super().__init__("the other side speaks TLS; add --tls")


class UnansweredConnectionLostError(NetsvcError, ConnectionLost):
    """The connection was lost before the peer had sent anything, as by a TLS server that received something else."""

    def __str__(self) -> str:
        return "connection lost; the data that was sent last may not have arrived; if the server expects TLS, add --tls"


def begins_with_tls(data: bytes) -> bool:
    """Whether the first bytes of a peer are a TLS alert, which refuses what it received, or a ClientHello."""
    return _RECORD.match(data) is not None
