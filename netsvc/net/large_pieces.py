"""Large reads and queues, for connections whose bytes are passed on unchanged."""

from __future__ import annotations

from typing import Any

from netsvc.net.kernel_buffers import innermost_transport

#: Bytes that are read or queued at once. With Twisted's 65,536, a GB takes a third longer.
PIECE_MAX = 262_144


def use_large_pieces(transport: Any, size: int = PIECE_MAX) -> None:
    """Let a connection read and queue up to ``size`` bytes at once.

    :param transport: of the protocol. It may be wrapped, in TLS for example.
    """
    innermost_transport(transport).bufferSize = size
