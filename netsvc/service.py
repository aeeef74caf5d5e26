"""The services of netsvc as one service, for ``twist`` or for an application of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults

from netsvc.bucket import SourceBuckets
from netsvc.chat.room import Room
from netsvc.chat.server import ChatFactory
from netsvc.config import Config
from netsvc.echo import AcknowledgeFactory, EchoFactory
from netsvc.errors import SettingError
from netsvc.guard import Guard
from netsvc.listen import datagram_listener, stream_listener
from netsvc.stream import StreamFactory
from netsvc.timestamp import TimestampProtocol

#: Bytes that the kernel may queue for a chat member before netsvc's own bound begins to count. Echo streams are
#: left to the kernel, for the sake of their throughput.
CHAT_SEND_BUFFER = 65_536


def netsvc_service(reactor: Any, config: Config | None = None) -> MultiService:
    """Return all that ``config`` asks for; by default echo on TCP port 1314 and timestamps on UDP port 520.

    The service is a ``MultiService`` with one :class:`~netsvc.listen.Listener` for each listening string. It
    starts, stops and starts again; stopping fires when everything that was accepted is flushed or
    ``config.drain_timeout`` is over. Two of them fit in one application.

    :param reactor: what to listen with and to tell the time by.
    :raises ConfigError: for a listening string or a template that means nothing.

    Starting it raises :class:`~netsvc.errors.ListenError` when the system refuses a port; then nothing of it is
    left listening.
    """
    config = config or Config()
    service = _NetsvcService(config.drain_timeout)
    limits = config.limits()
    if config.tcp:
        reply = config.reply_template()
        service.add_streams(
            reactor,
            "tcp",
            config.tcp,
            EchoFactory(reactor, limits)
            if reply is None
            else AcknowledgeFactory(reactor, reply, config.framing, limits),
        )
    if config.chat:
        service.add_streams(reactor, "chat", config.chat, ChatFactory(Room(), reactor, limits), CHAT_SEND_BUFFER)
    buckets = SourceBuckets(config.udp_rate, config.udp_burst, config.udp_total)
    guard = Guard(buckets, config.udp_max_size)
    for text in config.udp:
        listener = datagram_listener(
            reactor, "udp", text, lambda: TimestampProtocol(reactor, guard), config.udp_max_size
        )
        listener.setServiceParent(service)
    return service


class _NetsvcService(MultiService):
    def __init__(self, drain_timeout: float) -> None:
        super().__init__()
        self._drain_timeout = drain_timeout
        self._factories: list[StreamFactory] = []

    def add_streams(
        self, reactor: Any, setting: str, texts: Sequence[str], factory: StreamFactory, send_buffer: int = 0
    ) -> None:
        self._factories.append(factory)
        for text in texts:
            stream_listener(reactor, setting, text, factory, send_buffer).setServiceParent(self)

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except SettingError:
            super().stopService()
            raise

    def startService(self) -> None:
        try:
            super().startService()
        except SettingError:
            super().stopService()
            raise

    def stopService(self) -> Deferred[Any]:
        ports = super().stopService()
        drained = [factory.drain(self._drain_timeout) for factory in self._factories]
        return gatherResults([ports, *drained])
