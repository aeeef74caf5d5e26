"""Echo (RFC 862) and acknowledgements on streams."""

from __future__ import annotations

from collections.abc import Callable

from netsvc.echo.reply_template import ReplyTemplate
from netsvc.errors import ConfigError
from netsvc.limits.cause import Cause
from netsvc.net.message_protocol import MessageProtocol
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms
from netsvc.wire.framing import Framing, LineFraming, RawFraming
from netsvc.wire.zones import without_zone

#: The framings by the names that ``--framing`` takes.
FRAMINGS: dict[str, Callable[[], Framing]] = {"raw": RawFraming, "line": LineFraming}


class EchoProtocol(StreamProtocol):
    """Sends back the bytes that it receives."""

    def received(self, data: bytes) -> None:
        self.send(data)


class EchoFactory(StreamFactory):
    """Echoes every connection.

    :param terms: the terms of the service.
    """

    def build_connection(self) -> EchoProtocol:
        return EchoProtocol()


class AcknowledgeProtocol(MessageProtocol[bytes]):
    """Answers each message with a filled-in template."""

    factory: AcknowledgeFactory
    framing: Framing

    def message_received(self, message: bytes) -> None:
        reply = self.factory.reply.render(message, without_zone(self.peer), self.terms.wall())
        self.send(self.framing.encode(reply))

    def message_refused(self, reason: str) -> None:
        self.send(self.framing.encode(reason.encode("ascii")))

    def displaced(self) -> None:
        self.message_refused(Cause.DISPLACED.sentence)


class AcknowledgeFactory(StreamFactory):
    """Acknowledges every message on every connection.

    :param terms: the terms of the service.
    :param reply: what is sent for each message.
    :param framing: ``raw``: a message is a piece that arrived, and the reply is sent as it is. ``line``: a message is a
        line of at most 1,024 bytes, and the reply is a line.
    :raises ConfigError: for another framing.
    """

    def __init__(self, terms: Terms, reply: ReplyTemplate, framing: str = "raw") -> None:
        super().__init__(terms)
        if framing not in FRAMINGS:
            raise ConfigError("framing", framing, f"the choices are {' and '.join(FRAMINGS)}", "choose one of them")
        self.reply = reply
        self._framing = FRAMINGS[framing]

    def build_connection(self) -> AcknowledgeProtocol:
        return AcknowledgeProtocol(self._framing())
