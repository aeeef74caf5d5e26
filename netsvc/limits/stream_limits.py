"""The limits of one stream connection."""

from __future__ import annotations

from dataclasses import dataclass, fields

from netsvc.errors import ConfigError
from netsvc.limits.numbers import NO_LIMIT, check_number

#: Seconds for which a peer may acknowledge nothing of what is sent, if its ``stall_timeout`` is not longer. Of such a
#: peer too little may be queued for the stall timeout.
ACKNOWLEDGE_TIMEOUT = 60.0

#: Twisted's transports ask a producer to pause when more than this many bytes wait for the peer.
TRANSPORT_BUFFER = 65_536

#: The meaning of a ``receive_buffer`` of 0.
KERNEL_SIZE = "the kernel's own size"


@dataclass(frozen=True)
class StreamLimits:
    """The limits of one stream connection. Sizes are bytes, times are seconds, and 0 means no limit.

    :param queue_max: bytes that may be queued for the peer. If the queue stays above this for 0.5 s, the peer is
        disconnected. At least 65,536.
    :param stall_timeout: time for which more than 64 KiB may be queued without being read; then the peer is
        disconnected.
    :param close_timeout: time that a closing connection may make no progress; then the connection is aborted.
    :param handshake_timeout: time for a TLS handshake.
    :param line_timeout: time from the first byte of a line to its end, for services that read lines.
    :param idle_timeout: time without input; then the connection is closed.
    :param receive_buffer: bytes that the kernel keeps until they are read. Here 0 leaves the size to the kernel.
    :raises ConfigError: for a value that is negative, not finite or not a number, and for a ``queue_max`` from 1 to
        65,535.
    """

    queue_max: int = 262_144
    stall_timeout: float = 10.0
    close_timeout: float = 5.0
    handshake_timeout: float = 10.0
    line_timeout: float = 30.0
    idle_timeout: float = 600.0
    receive_buffer: int = 65_536

    def __post_init__(self) -> None:
        for limit in fields(self):
            zero = KERNEL_SIZE if limit.name == "receive_buffer" else NO_LIMIT
            check_number(limit.name, getattr(self, limit.name), whole=limit.type == "int", zero=zero)
        if 0 < self.queue_max < TRANSPORT_BUFFER:
            problem = "smaller than the transport's own buffer"
            raise ConfigError("queue_max", self.queue_max, problem, f"give {TRANSPORT_BUFFER} or more, or 0")

    @property
    def acknowledge_timeout(self) -> float:
        """Seconds for which a peer may acknowledge nothing; 0 for no limit, as for ``stall_timeout``."""
        return max(self.stall_timeout, ACKNOWLEDGE_TIMEOUT) if self.stall_timeout else 0.0
