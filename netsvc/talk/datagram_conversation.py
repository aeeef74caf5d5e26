"""A conversation in datagrams, one for each message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet import error
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from netsvc.net.datagram_protocol import BoundedDatagramProtocol
from netsvc.net.reasons import why_closed
from netsvc.talk.partner import FAREWELL, Partner, SayError, ignore
from netsvc.wire.address import show


class DatagramConversation(Partner, BoundedDatagramProtocol):
    """One side of a conversation in datagrams, one for each message.

    Give it to ``listenUDP``. The partner is the address that is given, or else whoever speaks first; what anybody
    else sends is neither heard nor answered, and noticed once.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param heard: called with each message of the partner, which may hold anything: clean it before showing it.
    :param noticed: called with one line about what else there is to know.
    :param partner: the partner's IPv4 or IPv6 address and port, or None to wait for one.
    :param bye: the words, in any case, that end the conversation when they are said or heard.
    """

    def __init__(
        self,
        clock: IReactorTime,
        heard: Callable[[str], object],
        noticed: Callable[[str], object] = ignore,
        *,
        partner: tuple[str, int] | None = None,
        bye: Sequence[str] = ("bye",),
    ) -> None:
        Partner.__init__(self, clock, heard, noticed, bye)
        BoundedDatagramProtocol.__init__(self, clock)
        self._connected = partner is not None
        self._partner = partner
        self._stranger: tuple[str, int] | None = None

    def say(self, message: bytes) -> None:
        """Say one message. A bye word is said, and ends the conversation.

        :raises SayError: when it cannot be sent: after the end, before there is a partner, or too long.
        """
        if self.over:
            raise SayError("the conversation is over")
        if self._partner is None:
            raise SayError("nobody has spoken yet, so there is nobody to answer")
        try:
            if self._connected:
                self.transport.write(message)
            else:
                self.transport.write(message, self._partner)
        except error.MessageLengthError:
            raise SayError(f"{len(message):,} bytes are too long for a datagram") from None
        except OSError as e:
            raise SayError((e.strerror or str(e)).lower()) from None
        if self._is_bye(message):
            self._end()

    def end(self) -> None:
        """This side has said all. A partner it called is heard until it is quiet; one that called, to its bye."""
        self._finished = True
        if self._connected:
            self._set_timer(FAREWELL, self._end)

    def hang_up(self) -> None:
        """End the conversation at once."""
        self._finished = True
        self._end()

    def startProtocol(self) -> None:
        self._port = self.transport
        if self._connected and self._partner is not None:
            self._port.connect(*self._partner)

    def received(self, datagram: bytes, host: str, port: int) -> None:
        if self._partner is None:
            self._partner = (host, port)
            self._noticed(f"talking to {show(host, port)}")
        elif (self._partner[0].partition("%")[0], self._partner[1]) != (host, port):
            if self._stranger != (host, port):
                self._stranger = (host, port)
                self._noticed(f"{show(host, port)} was not heard: this is a talk with {show(*self._partner)}")
            return
        if self._finished and self._connected:
            self._set_timer(FAREWELL, self._end)
        if self._hear(datagram):
            self._end()

    def connectionRefused(self) -> None:
        self._end(Failure(error.ConnectionRefusedError()))

    def stopProtocol(self) -> None:
        BoundedDatagramProtocol.stopProtocol(self)
        reason = why_closed(self._port)
        self._end(None if isinstance(reason, error.ConnectionDone) else Failure(reason))
