"""Which datagrams a service answers. Loops and floods get no answer.

A server that answers every datagram can be made to talk to another one for ever by one forged datagram
(CVE-2024-2169).
"""

from __future__ import annotations

from math import inf

from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.limits.numbers import check_number
from netsvc.limits.token_bucket import SourceBuckets

#: Services send from ports below this one; clients send from ports above.
PRIVILEGED_PORTS = 1024

#: Bytes of the longest datagram that is answered by default.
MAX_SIZE = 1_400


class DatagramGuard:
    """Decides which datagrams are answered.

    :param buckets: how many answers each source may have.
    :param max_size: the longest datagram that is answered, in bytes; 0 for no limit.
    :param networks: the networks whose datagrams are answered.
    :param from_services: the networks from which a datagram may come that a service could have sent: from a privileged
        port, or from the service's own port number. By default, no such datagram is answered.
    :raises ConfigError: for a size that is negative or not a whole number.
    """

    def __init__(
        self,
        buckets: SourceBuckets | None = None,
        max_size: int = MAX_SIZE,
        networks: NetworkRules | None = None,
        from_services: NetworkRules | None = None,
    ) -> None:
        check_number("udp_max_size", max_size, whole=True)
        self._buckets = SourceBuckets() if buckets is None else buckets
        self._max_size = max_size or inf
        self._networks = networks or None  # without rules, it is not asked
        self._from_services = from_services or None

    def check(self, size: int, host: str, port: int, own_port: int, now: float) -> Cause | None:
        """Return why a datagram is not answered; None if it is.

        :param size: of the datagram, in bytes.
        :param host: its source address.
        :param port: its source port.
        :param own_port: the port that received it.
        :param now: the time in seconds.
        """
        if size > self._max_size:
            return Cause.DATAGRAM_TOO_LONG
        if port < PRIVILEGED_PORTS or port == own_port:  # echo, daytime, DNS, NTP, ...
            trusted = self._from_services
            if trusted is None or port == 0 or not trusted.allows(host):  # nothing can be sent to port 0
                return Cause.PRIVILEGED_PORT if port < PRIVILEGED_PORTS else Cause.OWN_PORT
        if self._networks is not None and not self._networks.allows(host):
            return Cause.NOT_ALLOWED
        if not self._buckets.admits(host, now):
            return Cause.DATAGRAM_RATE
        return None
