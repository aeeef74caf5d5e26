"""Why a connection or a port ended, when the reactor does not say."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet import error


def pending_error(transport: Any) -> OSError | None:
    """Return the error that the system holds ready for a socket, if there is one.

    EPollReactor reports a connection that was reset as one that was closed in order, if the reset is all there
    is to read.
    """
    handle = getattr(transport, "socket", None)
    number = handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if handle else 0
    return OSError(number, os.strerror(number)) if number else None


def why_closed(port: Any) -> Exception:
    """Return why a connected datagram port was closed, to be asked in ``stopProtocol``.

    EPollReactor takes the ICMP answer "nobody listens" for the end of the port, and calls ``stopProtocol`` instead
    of ``connectionRefused``.

    :param port: the transport, which ``stopProtocol`` finds replaced by None.
    """
    pending = pending_error(port)
    if pending is None:
        return error.ConnectionDone()
    return error.ConnectionRefusedError() if pending.errno == errno.ECONNREFUSED else pending
