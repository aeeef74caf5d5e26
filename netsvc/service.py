"""The services of netsvc as one service, for ``twist`` or for an application of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IProtocolFactory

from netsvc.admission import Admission
from netsvc.bucket import SourceBuckets
from netsvc.chat.room import Room
from netsvc.chat.server import ChatFactory
from netsvc.config import Config
from netsvc.counts import Counts
from netsvc.door import Door
from netsvc.echo import AcknowledgeFactory, EchoFactory
from netsvc.errors import ConfigError, SettingError
from netsvc.guard import Guard
from netsvc.listen import datagram_listener, stream_listener
from netsvc.networks import Networks
from netsvc.proxied import ProxiedFactory
from netsvc.shared_port import SharedPorts
from netsvc.stream import StreamFactory
from netsvc.timestamp import TimestampProtocol
from netsvc.tls import CertificateError, ServerTLS

#: Bytes that the kernel may queue for a chat member before netsvc's own bound begins to count. Echo streams are
#: left to the kernel, for the sake of their throughput.
CHAT_SEND_BUFFER = 65_536


def netsvc_service(reactor: Any, config: Config | None = None) -> NetsvcService:
    """Return all that ``config`` asks for; by default echo on TCP port 1314 and timestamps on UDP port 520.

    The service is a ``MultiService`` of a :class:`StreamService` for each kind of stream and a
    :class:`~netsvc.listen.Listener` for each datagram port. It starts, stops and starts again; stopping fires when
    everything that was accepted is flushed or ``config.drain_timeout`` is over. Two of them fit in one application.

    :param reactor: what to listen with and to tell the time by.
    :raises ConfigError: for a listening string or a template that means nothing, and for a certificate that cannot be
        used.

    Starting it raises :class:`~netsvc.errors.ListenError` when the system refuses a port; then nothing of it is
    left listening.
    """
    config = config or Config()
    ports = SharedPorts(reactor) if config.reuse_port else reactor
    service = NetsvcService()
    limits = config.limits()
    drain = config.drain_timeout
    counts = Counts(reactor)
    tls = service.tls = _server_tls(reactor, config)

    def wrap(factory: IProtocolFactory) -> IProtocolFactory:
        secured = factory if tls is None else tls.wrap(factory)
        if not config.proxy_from:
            return secured
        return ProxiedFactory(secured, Networks(config.proxy_from), reactor, config.handshake_timeout, counts)

    admission = Admission(config.max_connections, config.max_per_host, config.connect_rate)
    if config.tcp:
        reply = config.reply_template()
        door = Door(reactor, admission, config.networks("tcp"), counts)
        factory: StreamFactory = EchoFactory(reactor, limits, door)
        if reply is not None:
            factory = AcknowledgeFactory(reactor, reply, config.framing, limits, door)
        StreamService(ports, config.tcp, factory, drain, setting="tcp", wrap=wrap).setServiceParent(service)
    if config.chat:
        door = Door(reactor, admission, config.networks("chat"), counts)
        limits = replace(limits, idle_timeout=config.chat_idle_timeout)
        chat = ChatFactory(Room(), reactor, limits, door, rate=config.chat_rate, burst=config.chat_burst)
        StreamService(
            ports, config.chat, chat, drain, setting="chat", send_buffer=CHAT_SEND_BUFFER, wrap=wrap
        ).setServiceParent(service)
    buckets = SourceBuckets(config.udp_rate, config.udp_burst, config.udp_total)
    guard = Guard(buckets, config.udp_max_size, config.networks("udp"))
    for text in config.udp:
        listener = datagram_listener(ports, "udp", text, lambda: TimestampProtocol(reactor, guard), config.udp_max_size)
        listener.setServiceParent(service)
    return service


class StreamService(MultiService):
    """Listens for one factory, and drains its connections when it stops.

    :param reactor: what to listen with.
    :param where: listening strings, as in :class:`~netsvc.config.Config`.
    :param factory: builds the protocols.
    :param drain_timeout: seconds for flushing what was accepted when the service stops; 0 for no limit.
    :param setting: what error messages call it.
    :param send_buffer: bytes that the kernel may queue for each connection; 0 leaves it to the kernel.
    :param wrap: puts something before ports and addresses, TLS say. An endpoint description says for itself.
    :raises ConfigError: for a listening string that means nothing.
    """

    def __init__(
        self,
        reactor: Any,
        where: Sequence[str],
        factory: StreamFactory,
        drain_timeout: float = 5.0,
        *,
        setting: str = "stream",
        send_buffer: int = 0,
        wrap: Callable[[IProtocolFactory], IProtocolFactory] | None = None,
    ) -> None:
        super().__init__()
        self._factory = factory
        self._drain_timeout = drain_timeout
        for text in where:
            stream_listener(reactor, setting, text, factory, send_buffer, wrap).setServiceParent(self)

    def stopService(self) -> Deferred[Any]:
        """Close the ports, then fire when every connection is flushed and gone."""
        return gatherResults([super().stopService(), self._factory.drain(self._drain_timeout)])


def _server_tls(reactor: Any, config: Config) -> ServerTLS | None:
    if config.tls_cert is None:
        return None
    try:
        return ServerTLS(reactor, config.tls_cert, config.tls_key or "", config.tls_client_ca or "")
    except CertificateError as e:
        named = (name for name in ("tls_client_ca", "tls_key") if getattr(config, name) == e.path)
        remedy = "name PEM files that belong together and may be read"
        raise ConfigError(next(named, "tls_cert"), e.path, str(e), remedy) from e


class NetsvcService(MultiService):
    """Starts all of its parts or none."""

    tls: ServerTLS | None = None

    def reload(self) -> None:
        """Read the certificate again, whether its files have changed or not."""
        if self.tls is not None:
            self.tls.reload()

    def privilegedStartService(self) -> None:
        self._all_or_none(super().privilegedStartService)

    def startService(self) -> None:
        self._all_or_none(super().startService)

    def _all_or_none(self, start: Callable[[], None]) -> None:
        try:
            start()
        except SettingError:
            self.stopService()
            raise
