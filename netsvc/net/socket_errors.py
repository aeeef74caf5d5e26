"""The pending error of a socket, which Twisted does not report."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet import error


def pending_error(transport: Any) -> OSError | None:
    """Return the error that the system holds ready for a socket; None if there is none.

    EPollReactor reports a connection that was reset as one that was closed in order, if there is nothing but the reset
    to read.
    """
    handle = getattr(transport, "socket", None)
    number = handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if handle else 0
    return OSError(number, os.strerror(number)) if number else None


def close_reason(port: Any) -> Exception:
    """Return why a connected datagram port was closed. Call it in ``stopProtocol``.

    EPollReactor takes the ICMP message "port unreachable" as the end of the port: it calls ``stopProtocol`` and not
    ``connectionRefused``.

    :param port: the transport, which ``stopProtocol`` finds replaced by None.
    """
    pending = pending_error(port)
    if pending is None:
        return error.ConnectionDone()
    return error.ConnectionRefusedError() if pending.errno == errno.ECONNREFUSED else pending


def report_connect_error(transport: Any) -> None:
    """Let a TCP transport that is connecting fail with the error that the system holds ready.

    If an ICMP message refuses the connection, EPollReactor closes the socket without asking why.

    :param transport: of Twisted's ``IConnector``.
    """
    fail = transport.failIfNotConnected

    def ask_and_fail(reason: error.ConnectError) -> None:
        pending = None if getattr(reason, "osError", None) else pending_error(transport)
        fail(reason if pending is None else error.getConnectError((pending.errno, pending.strerror)))

    transport.failIfNotConnected = ask_and_fail
