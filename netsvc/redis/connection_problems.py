"""Why there is no connection, in words."""

from __future__ import annotations

import os

from OpenSSL import SSL
from twisted.internet import error
from twisted.python.failure import Failure

from netsvc.net.error_words import failure_words
from netsvc.wire.text import clean


def connection_problem(failure: Failure) -> str:
    """Return one line about the end of a connection, or a failed attempt to connect, to Redis."""
    cause = failure.value
    match cause:
        case error.ConnectionRefusedError():
            return "connection refused"
        case error.TimeoutError():
            return "no answer to the connection attempt"
        case error.DNSLookupError() | error.UnknownHostError():
            return "host not found"
        case error.ConnectError(osError=int() as number):
            return os.strerror(number).lower()
        case error.ConnectionDone():
            return "Redis closed the connection"
        case error.ConnectionLost() | error.ConnectionAborted():
            return "the connection was lost"
        case SSL.Error():
            reasons = ", ".join(str(item[-1]) for item in cause.args[0] if item) if cause.args else ""
            return f"TLS failed: {reasons or 'Redis closed the connection'}"
        case OSError():
            return failure_words(cause)
    if type(cause).__name__ in ("VerificationError", "CertificateError"):
        return "TLS failed: the certificate is for another host"
    return clean(f"{type(cause).__name__}: {cause}")
