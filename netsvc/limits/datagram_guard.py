"""Which datagrams a timestamp server answers. Nonsense, loops and floods meet silence.

The classic server answers whatever comes, so one forged datagram between two of them makes both talk for ever
(CVE-2024-2169).
"""

from __future__ import annotations

from typing import Literal

from netsvc.limits.networks import Networks
from netsvc.limits.token_bucket import SourceBuckets

#: Services answer from ports below this one; people ask from above.
PRIVILEGED_PORTS = 1024

#: Bytes of the longest datagram that is answered by default.
MAX_SIZE = 1_400

Refusal = Literal["too long", "privileged port", "own port", "not allowed", "too many"]


class Guard:
    """Says which questions are answered.

    :param buckets: how many answers each source may have.
    :param max_size: the longest datagram that is answered, in bytes; 0 for no limit.
    :param networks: from where questions are answered.
    """

    def __init__(
        self, buckets: SourceBuckets | None = None, max_size: int = MAX_SIZE, networks: Networks | None = None
    ) -> None:
        self._buckets = SourceBuckets() if buckets is None else buckets
        self._max_size = max_size
        self._networks = Networks() if networks is None else networks

    def refusal(self, datagram: bytes, host: str, port: int, own_port: int, now: float) -> Refusal | None:
        """Say why ``datagram`` from ``host`` and ``port``, come to ``own_port`` at ``now``, is not to be answered.

        :return: None if it is.
        """
        if self._max_size and len(datagram) > self._max_size:
            return "too long"
        if port < PRIVILEGED_PORTS:  # echo, daytime, DNS, NTP, ...; and port 0, to which nothing can be sent
            return "privileged port"
        if port == own_port:
            return "own port"
        if not self._networks.allows(host):
            return "not allowed"
        if not self._buckets.admits(host, now):
            return "too many"
        return None
