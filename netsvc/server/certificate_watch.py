"""Warns of a certificate that is about to expire, once a day."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from netsvc.net.reactors import Clock
from netsvc.net.server_tls import ServerTLS, format_date

DAY = 86_400.0

#: The warning begins this many seconds before the certificate expires.
WARNED_BEFORE = 14 * DAY


class CertificateWatch(Service):
    """Logs a warning at the start and then once a day if the certificate has expired or expires within 14 days.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param tls: has the certificate.
    """

    log = Logger()

    def __init__(self, clock: Clock, tls: ServerTLS) -> None:
        self._clock = clock
        self._tls = tls
        self._daily = LoopingCall(self._check)
        timer: Any = clock
        self._daily.clock = timer

    def startService(self) -> None:
        super().startService()
        self._daily.start(DAY)

    def stopService(self) -> None:
        super().stopService()
        if self._daily.running:
            self._daily.stop()

    def _check(self) -> None:
        left = self._tls.expires - self._clock.seconds()
        if left <= WARNED_BEFORE:
            self.log.warn(
                "{path}: the certificate {verb} on {date}; renew it",
                path=self._tls.path,
                verb="expired" if left <= 0 else "expires",
                date=format_date(self._tls.expires),
            )
