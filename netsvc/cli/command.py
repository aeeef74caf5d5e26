"""The base class of the subcommands, and what they say when they fail."""

from __future__ import annotations

import errno
from functools import partial
from socket import gaierror
from typing import Any, NoReturn

from click import UsageError
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from netsvc.errors import NetsvcError
from netsvc.net.error_words import bind_failure, connect_failure
from netsvc.net.host_names import AddressFamilyError, resolve
from netsvc.net.name_resolver import ascii_name
from netsvc.net.reactors import Clock, Reactor, cancel
from netsvc.net.tls_records import UnansweredConnectionLostError, UnexpectedTLSError
from netsvc.wire.address import AddressError, HostPort, is_ip, parse_address

#: Seconds to wait for a connection.
CONNECT_TIMEOUT = 30.0

#: The host to connect to if only a port is given, as in the classic programs.
DEFAULT_HOST = "127.0.0.1"


#: The error of OpenSSL for a server whose first bytes are not TLS.
_NO_TLS = (
    "wrong version number",
    "packet length too long",
    "record layer failure",
    "unexpected message",
    "http request",
)


class CommandError(NetsvcError):
    """The network or the peer failed: exit status 1. The text is one line, or empty if the error was printed before."""


class Command:
    """A subcommand, with the values of its parameters."""

    def install_reactor(self) -> None:
        """Install the reactor that the subcommand needs. By default, it is the one of Twisted for this system."""

    async def run(self, reactor: Reactor) -> None:
        """Run the subcommand. If it returns, it has succeeded.

        :raises CommandError: if the network or the peer failed.
        """
        raise NotImplementedError

    def peer_address(self, text: str, default_host: str | None = None) -> HostPort:
        """Parse the ``[HOST:]PORT`` of a peer.

        :param default_host: the host if ``text`` has none; None if ``text`` must have one.
        """
        try:
            where = parse_address(text)
        except AddressError as e:
            raise UsageError(str(e)) from None
        host = where.host or default_host
        if host is None:
            raise UsageError(f"{text}: the host is missing; write HOST:PORT")
        if not where.port:
            raise UsageError(f"{text}: port 0 cannot be connected to; choose 1 to 65535")
        try:
            return HostPort(ascii_name(host), where.port)  # Twisted refuses some names that IDNA maps to others
        except UnicodeError:
            raise UsageError(f"{host[:64]!r} is not a host name") from None

    async def listening_string(self, reactor: Reactor, text: str) -> str:
        """Return ``text`` as a listening string: a host name of this host is replaced by its address."""
        try:
            where = parse_address(text)
        except AddressError:
            return text  # the listener reports what is wrong with it
        if where.host is None or is_ip(where.host):
            return text
        addresses = await resolve(reactor, where.host)
        return str(HostPort(addresses[0], where.port))


class ServerCommand:
    """A subcommand that installs the reactor of its choice and runs it until a signal stops it."""

    def serve(self) -> NoReturn:
        """Serve, and end the process.

        :raises CommandError: if the system failed.
        :raises UsageError: if the settings are wrong.
        """
        raise NotImplementedError


def explain(cause: BaseException, where: HostPort, source: HostPort | None = None) -> str:
    """Return one line about a failure of the network at ``where``.

    A cause that is not the network's is a mistake of the program, and is raised again.

    :param source: the local address and port, if the user has chosen one.
    """
    match cause:
        case error.ConnectionRefusedError() | ConnectionRefusedError():
            return f"{where}: connection refused; no program listens on this port, or a firewall blocks it"
        case error.TimeoutError() | error.TCPTimedOutError() | TimeoutError():
            return f"{where}: no answer; the host is down, or a firewall drops the packets"
        case AddressFamilyError():
            return f"{cause}, although -4, -6 or the source address asks for one"
        case error.DNSLookupError() | error.UnknownHostError() | gaierror():
            return _unknown_host(where)
        case error.ConnectBindError() | error.CannotListenError():
            return f"{_format_source(source) or where}: {bind_failure(_error_number(cause)) or _text(cause)}"
        case error.ConnectError() | OSError():
            return f"{where}: {connect_failure(_error_number(cause), where.host or '') or _text(cause)}"
        case UnexpectedTLSError() | UnansweredConnectionLostError():
            return f"{where}: {cause}"
        case error.ConnectionLost() | error.ConnectionAborted() | error.ConnectionDone():
            return f"{where}: connection lost; the data that was sent last may not have arrived"
        case error.MessageLengthError():
            return f"{where}: the message is too long for a datagram"
        case SSL.Error():
            return f"{where}: TLS failed: {_tls_failure(cause)}"
    if type(cause).__name__ in ("VerificationError", "CertificateError"):
        return f"{where}: TLS failed: the certificate is for another host"
    raise cause


def _unknown_host(where: HostPort) -> str:
    host = where.host or ""
    if "%" in host and is_ip(host):
        return f"{where}: {connect_failure(errno.ENODEV, host)}"
    return f"{host}: host not found; the name is wrong, or no name server answers"


def _format_source(source: HostPort | None) -> str:
    if source is None:
        return ""
    if source.host and not source.port:
        return f"source address {source.host}"
    return f"source {'address' if source.host else 'port'} {source}"


def _error_number(cause: BaseException) -> int:
    """Return the number of an error of the system, of Python's or of Twisted's; 0 if it has none."""
    number = getattr(getattr(cause, "socketError", cause), "errno", None) or getattr(cause, "osError", None)
    return number if isinstance(number, int) else 0


def _text(cause: BaseException) -> str:
    """Return what a failure without an error number says, without the words that Twisted puts before it."""
    return str(cause.args[-1] if cause.args and cause.args[-1] else "the system gives no reason")


def _tls_failure(cause: SSL.Error) -> str:
    """Return the reasons that OpenSSL gives, and a remedy if one is known."""
    reasons = ", ".join(str(item[-1]) for item in cause.args[0] if item) if cause.args else ""
    if "certificate verify failed" in reasons:
        return f"{reasons}; --ca FILE trusts another authority"
    if not reasons or any(sign in reasons for sign in _NO_TLS):
        return f"{reasons or 'the peer closed the connection'}; if the server does not speak TLS, leave out --tls"
    return reasons


@implementer(IPushProducer)
class PausableSource:
    """Lets a full consumer pause its source, and does not stop the source when the consumer is closed."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def pauseProducing(self) -> None:
        self._source.pauseProducing()

    def resumeProducing(self) -> None:
        self._source.resumeProducing()

    def stopProducing(self) -> None:
        """The consumer is closed. The source ends on its own."""


def sleep(clock: Clock, seconds: float) -> Deferred[None]:
    """Return a Deferred that fires with None after ``seconds``. It can be cancelled."""
    call: IDelayedCall | None = None
    done: Deferred[None] = Deferred(lambda _: cancel(call))
    call = clock.callLater(seconds, partial(done.callback, None))
    return done
