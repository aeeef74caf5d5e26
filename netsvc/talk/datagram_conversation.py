"""A conversation in datagrams. Each message is one datagram."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from twisted.internet import error
from twisted.python.failure import Failure

from netsvc.net.datagram_protocol import DatagramService, connect_port
from netsvc.net.error_words import failure_words
from netsvc.net.reactors import Clock
from netsvc.net.socket_errors import close_reason
from netsvc.talk.base_conversation import PEER_SILENCE, BaseConversation, NotSentError, ignore_notice
from netsvc.talk.conversation_state import ConversationEvent, ConversationState
from netsvc.wire.address import format_socket_address
from netsvc.wire.datagram import Datagram, SocketAddress


class DatagramConversation(BaseConversation, DatagramService):
    """One side of a conversation in datagrams. Pass it to ``listenUDP`` or to one of netsvc's own UDP ports.

    With ``peer`` the conversation is with that address. Without it, the sender of the first datagram becomes the peer.
    Datagrams from other addresses are ignored and reported in one notice each time the sender changes.

    :param clock: a reactor, or ``twisted.internet.task.Clock`` in a test.
    :param message_received: called with each message of the peer. It may contain any character: clean it before you
        print it.
    :param notice: called with one line about any other event that a user should know.
    :param peer: the IPv4 or IPv6 address and the port of the peer; None to wait for one.
    :param bye: the words that end the conversation when they are sent or received, in upper or lower case.
    :param bytes_received: called with each datagram of the peer, unchanged, instead of ``message_received``. Then no
        word of the peer's ends the conversation.
    """

    def __init__(
        self,
        clock: Clock,
        message_received: Callable[[str], object],
        notice: Callable[[str], object] = ignore_notice,
        *,
        peer: tuple[str, int] | None = None,
        bye: Sequence[str] = ("bye",),
        bytes_received: Callable[[bytes], object] | None = None,
    ) -> None:
        BaseConversation.__init__(self, clock, message_received, notice, bye, bytes_received)
        DatagramService.__init__(self, clock)
        self._is_client = peer is not None
        self._peer: SocketAddress | None = peer
        self._last_other_sender: SocketAddress | None = None

    def send(self, message: bytes) -> None:
        """Send one message. If it is a bye word, the conversation ends.

        :raises NotSentError: after the end, before there is a peer, or if the message is too long.
        """
        self.check_open()
        if self._peer is None:
            raise NotSentError("there is no peer yet; wait for its first message")
        too_long = f"{len(message):,} bytes are too long for a datagram"
        try:
            if self._is_client:
                self.transport.write(message)
            else:
                self.transport.write(message, self._peer)
        except error.MessageLengthError:
            raise NotSentError(too_long) from None
        except OSError as e:
            reason = too_long if e.errno == errno.EMSGSIZE else failure_words(e)
            raise NotSentError(reason) from None
        if self.is_bye(message):
            self.finish()

    def end(self) -> None:
        """End this side's input.

        A client receives messages until the peer has been silent for a second. A server receives them until a bye word.
        """
        if self.sending_ended:
            return
        self.advance(ConversationEvent.INPUT_ENDED)
        self.advance(ConversationEvent.FLUSHED)  # a datagram is sent at once or not at all
        if self._is_client:
            self._wait_for_silence()

    def abort(self) -> None:
        """End the conversation at once."""
        self.finish()

    def fail(self, reason: Exception) -> None:
        """End the conversation at once. It fails with ``reason``."""
        self.finish(Failure(reason))

    def startProtocol(self) -> None:
        self._port = self.transport
        if self._is_client and self._peer is not None:
            connect_port(self._port, *self._peer)
        self.advance(ConversationEvent.CONNECTED)

    def received(self, datagram: Datagram) -> None:
        if self.state is ConversationState.ENDED:
            return
        peer, sender = self._peer, datagram.peer
        if peer is None:
            self._peer = sender
            self.notice(f"talking to {format_socket_address(sender)}")
        elif sender != peer and not (self._is_client and sender[:2] == (peer[0].partition("%")[0], peer[1])):
            self._report_other_sender(sender, peer)
            return
        if self._is_client and self.sending_ended:
            self._wait_for_silence()
        if self.deliver(datagram.payload):
            self.finish()

    def connectionRefused(self) -> None:
        self.finish(Failure(error.ConnectionRefusedError()))

    def stopProtocol(self) -> None:
        DatagramService.stopProtocol(self)
        reason = close_reason(self._port) if self._is_client else error.ConnectionDone()
        self.finish(None if isinstance(reason, error.ConnectionDone) else Failure(reason))

    def _wait_for_silence(self) -> None:
        self.silence.restart(PEER_SILENCE, self.finish)

    def _report_other_sender(self, stranger: SocketAddress, peer: SocketAddress) -> None:
        if self._last_other_sender != stranger:
            self._last_other_sender = stranger
            self.notice(
                f"a datagram from {format_socket_address(stranger)} was ignored, "
                f"because the conversation is with {format_socket_address(peer)}"
            )
