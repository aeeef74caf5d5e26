"""Large reads, for connections whose bytes are passed on unchanged."""

from __future__ import annotations

from typing import Any

from netsvc.net.kernel_buffers import innermost_transport

#: Bytes that are read at once. With Twisted's 65,536, talk --listen needs a tenth more processor time for a GB.
PIECE_MAX = 131_072


def use_large_pieces(transport: Any, size: int = PIECE_MAX) -> None:
    """Let a connection read and queue up to ``size`` bytes at once.

    :param transport: of the protocol. It may be wrapped, in TLS for example.
    """
    innermost_transport(transport).bufferSize = size
