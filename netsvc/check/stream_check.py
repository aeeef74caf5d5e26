"""Checks TCP ports, and the TLS behind them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IConnector
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc.check.check_target import CheckTarget
from netsvc.check.finding import Finding, PathMtu, PortVerdict, verdict_of_error
from netsvc.check.tls_attempt import OFFER_REFUSED, TlsAttempt, TlsOutcome
from netsvc.linux.connected_socket import handshake_seconds, known_path_mtu, longest_packet
from netsvc.net.deadline import Deadline
from netsvc.net.reactors import Reactor, monotonic_of
from netsvc.net.socket_errors import report_connect_error


async def check_stream(
    reactor: Reactor,
    target: CheckTarget,
    host: str,
    address: str,
    seconds: float,
    contexts: Sequence[SSL.Context],
    source: str = "",
) -> Finding:
    """Check a TCP port at one address.

    :param host: the name or address that the user has typed, which a certificate should have.
    :param seconds: how long to wait for the connection, and then for the handshake.
    :param contexts: for TLS: one that offers protocols by ALPN, and one for a server that refuses the offer. Empty for
        plain TCP.
    :param source: the local IP address; empty for that of the route.
    :raises CancelledError: if it is cancelled. The connection is closed then.
    """
    if not contexts:
        return await _check(reactor, target, address, seconds, None, source)
    offering, plain = contexts
    attempt = TlsAttempt(offering, host)
    finding = await _check(reactor, target, address, seconds, attempt, source)
    if attempt.alert not in OFFER_REFUSED:
        return finding
    again = await _check(reactor, target, address, seconds, TlsAttempt(plain, host), source)
    return again if again.tls is None else replace(again, tls=replace(again.tls, alpn_refusal=attempt.alert))


async def _check(
    reactor: Reactor, target: CheckTarget, address: str, seconds: float, attempt: TlsAttempt | None, source: str
) -> Finding:
    clock = monotonic_of(reactor)
    connection = _Connection(clock, attempt)
    factory = _ConnectionFactory(connection)
    began = clock()
    try:
        connector: Any = reactor.connectTCP(
            address, target.port, factory, timeout=seconds, bindAddress=(source, 0) if source else None
        )
        report_connect_error(connector.transport)
        await factory.connected
    except CancelledError:
        connector.disconnect()
        raise
    except (error.ConnectError, OSError) as e:
        verdict, reason = verdict_of_error(_error_number(e), address, seconds)
        return Finding(target=target, address=address, verdict=verdict, reason=reason)
    connected = Finding(
        target=target,
        address=address,
        verdict=PortVerdict.OPEN,
        connect_seconds=connection.handshake_seconds or connection.connected_at - began,
        connect_by_kernel=connection.handshake_seconds is not None,
    )
    if attempt is not None:
        deadline = Deadline(reactor, clock, seconds, connection.give_up)
        try:
            await connection.ended
        except CancelledError:
            connection.transport.abortConnection()
            raise
        finally:
            deadline.cancel()
        connected = _with_tls(connected, connection, attempt, seconds)
    return replace(connected, path_mtu=connection.close())


def _with_tls(connected: Finding, connection: _Connection, attempt: TlsAttempt, seconds: float) -> Finding:
    """Return the finding about a connection, with what became of the handshake."""
    match attempt.outcome:
        case TlsOutcome.COMPLETE:
            handshake = connection.ended_at - connection.connected_at
            return replace(connected, handshake_seconds=handshake, tls=attempt.facts)
        case TlsOutcome.NOT_TLS:
            reason = f"the server does not speak TLS; try tcp/{connected.target.port}"
            return replace(connected, verdict=PortVerdict.NO_TLS, reason=reason)
        case TlsOutcome.FAILED:
            return replace(connected, verdict=PortVerdict.TLS_FAILED, reason=attempt.reason)
    if attempt.has_answer:
        reason = f"the handshake is not complete after {seconds:g} s; large packets may be lost on the way"
    else:
        reason = (
            f"no answer to the handshake within {seconds:g} s; "
            f"if the server does not speak TLS, try tcp/{connected.target.port}"
        )
    return replace(connected, verdict=PortVerdict.NO_ANSWER, reason=reason)


def _error_number(cause: error.ConnectError | OSError) -> int:
    """Return the number of the error of the system. Twisted's own timeout has none."""
    if isinstance(cause, socket.gaierror):  # of an IP address: its zone is unknown
        return errno.ENODEV
    if isinstance(cause, OSError):
        return cause.errno or 0
    if isinstance(cause, error.TimeoutError):
        return errno.ETIMEDOUT
    if isinstance(cause, error.ConnectionRefusedError):
        return errno.ECONNREFUSED
    return cause.osError if isinstance(cause.osError, int) else 0


class _ConnectionFactory(ClientFactory[Any]):
    """Makes one connection.

    :ivar connected: fires with None when it is made; fails if it is not.
    """

    noisy = False

    def __init__(self, connection: _Connection) -> None:
        self.connected: Deferred[None] = Deferred()
        self._connection = connection
        connection.made = self.connected.callback

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return self._connection

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self.connected.errback(reason)


class _Connection(Protocol):
    """Opens the connection, makes the handshake if there is one, and notes the times.

    :ivar made: is called with None when the connection is made.
    :ivar connected_at: when that was.
    :ivar handshake_seconds: how long that took, if the kernel tells.
    :ivar ended: fires with None when the TLS handshake has ended in any way.
    :ivar ended_at: when that was.
    """

    transport: Any

    def __init__(self, clock: Any, attempt: TlsAttempt | None) -> None:
        self.connected_at = self.ended_at = 0.0
        self.handshake_seconds: float | None = None
        self.ended: Deferred[None] = Deferred()
        self._clock = clock
        self.made: Callable[[None], object] = lambda _: None
        self._attempt = attempt
        self._handle: Any = None
        self._first_flight = 0

    def connectionMade(self) -> None:
        self.connected_at = self._clock()
        self._handle = self.transport.getHandle()
        self.handshake_seconds = handshake_seconds(self._handle)
        if self._attempt is not None:
            hello = self._attempt.begin()
            self._first_flight = len(hello)
            self.transport.write(hello)
        self.made(None)

    def dataReceived(self, data: bytes) -> None:
        if self._attempt is not None:
            self.transport.write(self._attempt.receive(data))
            if self._attempt.outcome is not None:
                self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._attempt is not None:
            self._attempt.connection_lost()
            self._end()

    def give_up(self) -> None:
        """The handshake takes too long."""
        self._end()

    def close(self) -> PathMtu:
        """Close the connection. Return what it tells about the path."""
        mtu = self._path_mtu()
        if self._attempt is not None:
            self.transport.write(self._attempt.close())
        self.transport.loseConnection()
        return mtu

    def _end(self) -> None:
        if not self.ended.called:
            self.ended_at = self._clock()
            self.ended.callback(None)

    def _path_mtu(self) -> PathMtu:
        at_most = known_path_mtu(self._handle)
        if self._attempt is None or not self._attempt.has_answer:
            return PathMtu(at_most=at_most)
        # The segment with the first flight, or its first part, has arrived whole: TCP lets nothing fragment it.
        return PathMtu(longest_packet(self._handle, self._first_flight), at_most)
