"""The services of netsvc as one service, for ``twist`` or for an application of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger

from netsvc.chat.lines import ChatFactory, ChatProtocol
from netsvc.chat.names import ASCII_NAMES, Names
from netsvc.chat.room import Room
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.errors import ConfigError, SettingError
from netsvc.limits.admission import Admission, Connections
from netsvc.limits.datagram_guard import Guard
from netsvc.limits.networks import Networks
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.net.counters import Counts
from netsvc.net.door import Door
from netsvc.net.listening import Listener, datagram_listener, stream_listener
from netsvc.net.proxy_protocol import ProxiedFactory
from netsvc.net.server_tls import CertificateError, ServerTLS
from netsvc.net.shared_ports import SharedPorts
from netsvc.net.stream_protocol import StreamFactory
from netsvc.server.config import Config
from netsvc.timestamp.server import TimestampProtocol

#: Bytes that the kernel may queue for a chat member before netsvc's own bound begins to count. Echo streams are
#: left to the kernel, for the sake of their throughput.
CHAT_SEND_BUFFER = 65_536


def netsvc_service(reactor: Any, config: Config | None = None) -> NetsvcService:
    """Return all that ``config`` asks for; by default echo on TCP port 1314 and timestamps on UDP port 520.

    The service is a ``MultiService`` of a :class:`StreamService` for each kind of stream and a
    :class:`~netsvc.net.listening.Listener` for each datagram port. It starts, stops and starts again; stopping fires
    when everything that was accepted is flushed or ``config.drain_timeout`` is over. Two fit in one application.

    :param reactor: what to listen with and to tell the time by.
    :raises ConfigError: for a listening string or a template that means nothing, and for a certificate that cannot be
        used.

    Starting it raises :class:`~netsvc.errors.ListenError` when the system refuses a port; then nothing of it is
    left listening.
    """
    config = config or Config()
    ports = SharedPorts(reactor) if config.reuse_port else reactor
    service = NetsvcService(_server_tls(reactor, config))
    connections = Connections(config.max_connections, config.max_per_host)

    def door(name: str, connect_rate: float) -> Door:
        return Door(reactor, Admission(connections, config.networks(name), connect_rate))

    def serve(setting: str, where: Sequence[str], factory: StreamFactory, send_buffer: int = 0) -> None:
        """Add a stream service, behind what a port and an address of it need."""
        proxies = Networks(config.proxy_from) if config.proxy_from else None

        def wrap(wrapped: IProtocolFactory) -> IProtocolFactory:
            secured = wrapped if service.tls is None else service.tls.wrap(wrapped)
            if proxies is None:
                return secured
            return ProxiedFactory(secured, proxies, reactor, config.handshake_timeout, factory.counts, connections)

        streams = StreamService(
            ports, where, factory, config.drain_timeout, setting=setting, send_buffer=send_buffer, wrap=wrap
        )
        streams.setServiceParent(service)

    if config.tcp:
        counts = service.count(reactor, "tcp")
        limits = config.limits()
        way_in = door("tcp", config.connect_rate)
        reply = config.reply_template()
        if reply is None:
            serve("tcp", config.tcp, EchoFactory(reactor, limits, way_in, counts))
        else:
            serve("tcp", config.tcp, AcknowledgeFactory(reactor, reply, config.framing, limits, way_in, counts))
    if config.chat:
        counts = service.count(reactor, "chat")
        # Everybody in the lobby is told who comes and goes: that is as limited as what they say.
        rates = [rate for rate in (config.connect_rate, config.chat_rate) if rate]
        way_in = door("chat", min(rates, default=0.0))
        limits = replace(config.limits(), idle_timeout=config.chat_idle_timeout)
        room: Room[ChatProtocol] = Room(_names(config))
        chat = ChatFactory(room, reactor, limits, way_in, counts, rate=config.chat_rate, burst=config.chat_burst)
        serve("chat", config.chat, chat, CHAT_SEND_BUFFER)
    if config.udp:
        counts = service.count(reactor, "udp")
        buckets = SourceBuckets(config.udp_rate, config.udp_burst, config.udp_total)
        guard = Guard(buckets, config.udp_max_size, config.networks("udp"))
        protocol = partial(TimestampProtocol, reactor, guard, counts)
        for text in config.udp:
            datagram_listener(ports, "udp", text, protocol, config.udp_max_size).setServiceParent(service)
    if config.metrics is not None:
        service.pages = _pages(reactor, config.metrics, service)
    return service


def _names(config: Config) -> Names:
    """Return what members and rooms of the chat may be called."""
    if not config.unicode_nicks:
        return ASCII_NAMES
    try:
        from netsvc.chat.unicode_names import UnicodeNames  # late: its tables take a tenth of a second to read
    except ImportError as e:
        raise ConfigError("unicode_nicks", "", f"{e.name} is not installed", "pip install 'netsvc[unicode]'") from None
    return UnicodeNames()


def _pages(reactor: Any, where: str, service: NetsvcService) -> Listener:
    """Return what serves the numbers of ``service``; a bare port is one of this host alone."""
    try:
        from netsvc.server.metrics import metrics_site  # late: twisted.web takes longer to import than all the rest
    except ImportError as e:
        raise ConfigError("metrics", where, f"{e.name} is not installed", "pip install 'netsvc[metrics]'") from None
    own = service.count(reactor, "metrics")
    site = metrics_site(reactor, service.counts, lambda: bool(service.running), own)
    return stream_listener(reactor, "metrics", f"127.0.0.1:{where}" if where.isdecimal() else where, site)


class StreamService(MultiService):
    """Listens for one factory, and drains its connections when it stops.

    :param reactor: what to listen with.
    :param where: listening strings, as in :class:`~netsvc.server.config.Config`.
    :param factory: builds the protocols.
    :param drain_timeout: seconds for flushing what was accepted when the service stops; 0 for no limit.
    :param setting: what error messages call it.
    :param send_buffer: bytes that the kernel may queue for each connection; 0 leaves it to the kernel.
    :param wrap: puts something before the factory, TLS say; ``ssl:`` and ``tls:`` speak for themselves.
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
    """Starts all of its parts or none.

    :param tls: the certificate that its parts serve with.
    :ivar counts: what happened, in each kind of service.
    :ivar pages: what shows that to others. It is the first to start and the last to stop, so that it can tell.
    """

    log = Logger()

    def __init__(self, tls: ServerTLS | None = None) -> None:
        super().__init__()
        self.tls = tls
        self.counts: list[Counts] = []
        self.pages: Listener | None = None

    def count(self, clock: IReactorTime, service: str) -> Counts:
        """Return the counts of one more kind of service."""
        self.counts.append(Counts(clock, service))
        return self.counts[-1]

    def log_counts(self) -> None:
        """Log what was counted so far, one line for each kind of service."""
        for counts in self.counts:
            self.log.info("{service}: {counts}", service=counts.service, counts=str(counts))

    def reload(self) -> None:
        """Read the certificate again, whether its files have changed or not."""
        if self.tls is not None:
            self.tls.reload()

    def privilegedStartService(self) -> None:
        pages = [self.pages.privilegedStartService] if self.pages else []
        self._all_or_none(*pages, super().privilegedStartService)

    def startService(self) -> None:
        pages = [self.pages.startService] if self.pages else []
        self._all_or_none(*pages, super().startService)

    def stopService(self) -> Deferred[Any]:
        return self._stop().addBoth(self._stopped)

    def _stop(self) -> Deferred[Any]:
        stopped: Deferred[Any] = maybeDeferred(super().stopService)
        if self.pages is not None:
            pages = self.pages
            stopped.addBoth(lambda result: pages.stopService().addCallback(lambda _: result))
        return stopped

    def _stopped(self, result: Any) -> Any:
        self.log_counts()
        return result

    def _all_or_none(self, *starts: Callable[[], None]) -> None:
        try:
            for start in starts:
                start()
        except SettingError:
            self._stop()
            raise
