from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from twisted.internet import error

from netsvc.net.socket_errors import report_connect_error


class Transport:
    """A transport whose connection fails, and the error that the system has for its socket."""

    def __init__(self, pending: int) -> None:
        self.reasons: list[Any] = []
        self.socket = self
        self._pending = pending

    def getsockopt(self, level: int, option: int) -> int:
        return self._pending

    def failIfNotConnected(self, reason: error.ConnectError) -> None:
        self.reasons.append(reason)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENETUNREACH, error.NoRouteError),
        (errno.EHOSTUNREACH, error.ConnectError),
        (errno.ECONNREFUSED, error.ConnectionRefusedError),
    ],
)
def test_a_connection_fails_with_the_error_that_the_system_has_ready(number: int, expected: type[Exception]) -> None:
    transport = Transport(number)
    report_connect_error(transport)
    transport.failIfNotConnected(error.ConnectError())
    [reason] = transport.reasons
    assert (type(reason), reason.osError, str(os.strerror(number)) in str(reason)) == (expected, number, True)


def test_a_reason_that_is_known_stays() -> None:
    for reason, pending in ((error.ConnectError(errno.EPERM, "no"), errno.ENETUNREACH), (error.TimeoutError(), 0)):
        transport = Transport(pending)
        report_connect_error(transport)
        transport.failIfNotConnected(reason)
        assert transport.reasons == [reason]
