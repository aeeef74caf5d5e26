"""The connections of a chat client, and why one of them failed or was lost, in words."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.chat.chat_events import Event
from netsvc.chat.client_connection import ClientConnection, EventReceived, Opening
from netsvc.chat.program_lines import ReceivedEntry


@implementer(IStreamClientEndpoint)
class ConnectionWatch:
    """An endpoint that makes each connection by another one, and keeps what is known of the latest connection.

    :param endpoint: the other one.
    :param new_connection: makes the protocol of each connection; see :class:`~netsvc.chat.client.ChatClient`.
    :param where: the address, for messages.
    :param explain: returns one line about a failure; raises it again if it does not know it.
    :param tls_hint: what to do if the server expects TLS; empty if TLS is used.
    :param attempt_failed: called with one line when an attempt to connect has failed.
    :param answered: called when the server has sent something, before that is processed.
    :ivar connection: the latest connection; None before there is one.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        new_connection: Callable[[EventReceived, Opening], ClientConnection],
        where: object,
        *,
        explain: Callable[[BaseException], str],
        tls_hint: str,
        attempt_failed: Callable[[str], object],
        answered: Callable[[], object],
    ) -> None:
        self.connection: ClientConnection | None = None
        self._endpoint = endpoint
        self._new_connection = new_connection
        self._where = where
        self._explain = explain
        self._tls_hint = tls_hint
        self._attempt_failed = attempt_failed
        self._answered = answered
        self._failure: Failure | None = None
        self._has_answered = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        connecting.addErrback(self._report)
        return connecting

    def new_connection(self, received: EventReceived, opening: Opening) -> ClientConnection:
        """Make the protocol of a connection."""
        self._failure = None
        self._has_answered = False

        def watched(event: Event | ReceivedEntry) -> None:
            self._has_answered = True
            self._answered()
            received(event)

        self.connection = self._new_connection(watched, opening)
        self.connection.closed.addErrback(self._note)
        return self.connection

    def loss_text(self) -> str:
        """Return why the latest connection was lost."""
        if self._failure is not None:
            text = self._text(self._failure)
        else:
            text = f"{self._where}: the server closed the connection"
        reason = self.connection.ignored_text if self.connection is not None else ""
        if reason:
            return f"{text}: {reason}"  # a server that refuses a connection says why
        if not self._has_answered and self._tls_hint:
            return f"{text}; if it expects TLS, {self._tls_hint}"
        return text

    def _report(self, failure: Failure) -> Failure:
        if not failure.check(CancelledError):
            self._attempt_failed(self._text(failure))
        return failure

    def _note(self, failure: Failure) -> Failure:
        self._failure = failure
        return failure

    def _text(self, failure: Failure) -> str:
        cause = failure.value
        assert cause is not None
        if isinstance(cause, ConnectionLost | ConnectionAborted | ConnectionDone):
            return f"{self._where}: the connection was lost"
        try:
            return self._explain(cause)
        except Exception:
            return f"{self._where}: {cause}"
