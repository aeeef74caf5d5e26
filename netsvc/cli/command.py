"""What every subcommand is: options that can run, and that fail in one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.usage import Options, UsageError
from zope.interface import implementer

from netsvc import __version__
from netsvc.net.datagram_protocol import resolve
from netsvc.wire.address import AddressError, HostPort, is_ip, parse_address

#: Seconds to wait for a connection.
CONNECT_TIMEOUT = 30.0

#: Whom a port alone means, as in the classic programs.
DEFAULT_HOST = "127.0.0.1"


class CommandError(Exception):
    """The network or the peer did not do its part; the text is one line, or none if it was said. Exit status 1."""


class VersionedOptions(Options):
    """Options whose version is netsvc's, not Twisted's."""

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"netsvc {__version__}")
        raise SystemExit(0)


class Command(VersionedOptions):
    """Options of a subcommand, and what it does."""

    async def run(self, reactor: Any) -> None:
        """Do it. Returning is success.

        :raises CommandError: the network or the peer failed.
        """
        raise NotImplementedError

    def address(self, text: str, host: str | None = None) -> HostPort:
        """Parse ``[HOST:]PORT``.

        :param host: what a missing host means; None when it must not be missing.
        """
        try:
            where = parse_address(text)
        except AddressError as e:
            raise UsageError(str(e)) from None
        if where.host is None:
            if host is None:
                raise UsageError(f"the host is missing before {text}; write HOST:PORT")
            where = HostPort(host, where.port)
        if not where.port:
            raise UsageError("nobody can be reached at port 0")
        return where

    async def listening(self, reactor: Any, text: str) -> str:
        """Return the listening string that ``[HOST:]PORT`` is, whose host may be a name of this host."""
        try:
            where = parse_address(text)
        except AddressError:
            return text  # whoever listens says what is wrong with it
        if where.host is None or is_ip(where.host):
            return text
        return str(HostPort((await resolve(reactor, where.host))[0], where.port))

    def number(self, flag: str, kind: Callable[[str], Any]) -> Any:
        """Return the positive number that ``flag`` was given."""
        try:
            value = kind(self[flag])
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise UsageError(f"--{flag} {self[flag]}: give a number above 0")
        return value


def explain(cause: BaseException, where: HostPort) -> str:
    """Say in one line why the network did not do its part at ``where``.

    A cause that is not the network's is raised again: it is our own fault.
    """
    match cause:
        case error.ConnectionRefusedError():
            return f"{where}: connection refused; nobody listens there, or a firewall says so"
        case error.TimeoutError() | error.TCPTimedOutError():
            return f"{where}: no answer; the host is down, or a firewall drops what it is sent"
        case error.DNSLookupError() | error.UnknownHostError():
            return f"{where.host}: there is no such host, or no name server answers"
        case error.NoRouteError() | error.ConnectError():
            return f"{where}: {cause.osError or cause}"
        case error.ConnectionLost() | error.ConnectionAborted() | error.ConnectionDone():
            return f"{where}: connection lost; what was sent last may not have arrived"
        case error.MessageLengthError():
            return f"{where}: too long for a datagram"
        case SSL.Error():
            reasons = ", ".join(str(item[-1]) for item in cause.args[0] if item) if cause.args else ""
            return f"{where}: TLS failed: {reasons or 'the peer closed the connection'}"
        case OSError():
            return f"{where}: {(cause.strerror or str(cause)).lower()}"
    if type(cause).__name__ in ("VerificationError", "CertificateError"):
        return f"{where}: TLS failed: the certificate is for another host"
    raise cause


@implementer(IPushProducer)
class Flow:
    """Lets a full consumer pause what feeds it, and leaves it alone when the consumer is gone."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def pauseProducing(self) -> None:
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        self._source.resumeProducing()

    def stopProducing(self) -> None:
        """The consumer is gone; the source has an end of its own."""


def sleep(reactor: Any, seconds: float) -> Deferred[None]:
    """Return what fires with None after ``seconds``, and can be cancelled."""
    call = None
    done: Deferred[None] = Deferred(lambda _: call.cancel() if call else None)
    call = reactor.callLater(seconds, partial(done.callback, None))
    return done
