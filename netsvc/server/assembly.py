"""Assembles the services of a configuration into one service, for ``twist`` or for another application."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger

from netsvc.chat.hub import ChatHub
from netsvc.errors import ConfigError, NetsvcError
from netsvc.limits.admission import Admission
from netsvc.limits.connection_counter import TOP_NETWORKS, ConnectionCounter
from netsvc.limits.message_share import MessageShare
from netsvc.limits.numbers import check_number
from netsvc.net.counters import Counters
from netsvc.net.listening import Listener, datagram_listener, stream_listener
from netsvc.net.proxy_protocol import ProxyProtocolFactory
from netsvc.net.reactors import Reactor, monotonic_of
from netsvc.net.server_tls import CertificateError, ServerTLS
from netsvc.net.shared_ports import SharedPorts
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.terms import Terms
from netsvc.server.certificate_watch import CertificateWatch
from netsvc.server.config import STREAM_SERVICES, Config
from netsvc.server.log_relay import LogRelay
from netsvc.server.reported_server import TOP_SOURCES
from netsvc.server.services import SERVICES, ServiceRow, SharedParts, missing_extra

if TYPE_CHECKING:
    from netsvc.probe.probe_service import ProbeService


def netsvc_service(reactor: Reactor, config: Config | None = None) -> NetsvcService:
    """Return all services of ``config``; by default echo on TCP port 1314 and timestamps on UDP port 520.

    The result is a ``MultiService`` with a :class:`StreamService` for each stream service, a
    :class:`~netsvc.net.listening.Listener` for each datagram port, and a
    :class:`~netsvc.probe.probe_service.ProbeService` for each target of ``config.probe``. It can be started again after
    a stop. Stopping fires when everything that was accepted is sent, or when ``config.drain_timeout`` is over. An
    application may have several.

    :param reactor: opens the ports and tells the time.
    :raises ConfigError: for a listening string that has no meaning, a certificate that cannot be used, and a setting
        whose optional dependency is not installed.

    Starting it raises :class:`~netsvc.errors.ListenError` if the system refuses a port, and
    :class:`~netsvc.chat.store.StoreError` if the store of the chat cannot be used; then no port is left open.
    """
    config = Config() if config is None else config
    streams = [name for name in STREAM_SERVICES if config.listening(name, "stream")]
    connections = ConnectionCounter(
        config.max_connections, config.max_per_host, config.max_per_network, services=streams
    )
    service = NetsvcService(connections, _server_tls(reactor, config))
    if service.tls is not None:
        CertificateWatch(reactor, service.tls).setServiceParent(service)
    message_share = MessageShare()
    shared = SharedParts()
    ports: Reactor = SharedPorts(reactor) if config.reuse_port else reactor
    for row in SERVICES:
        if getattr(config, row.name):
            terms = _terms(reactor, config, row, connections, message_share)
            service.counters.append(terms.counters)
            _add_streams(service, ports, config, row, terms, shared)
            _add_datagrams(service, ports, config, row, terms)
    service.chat = shared.chat
    for probe in _probes(reactor, config):
        service.probes.append(probe)
        probe.setServiceParent(service)
    if config.metrics is not None:
        service.pages = _pages(reactor, config, config.metrics, service)
    return service


def _probes(reactor: Reactor, config: Config) -> Iterator[ProbeService]:
    """Give the service of each target. They take turns."""
    if not config.probe_targets:
        return
    try:
        from netsvc.probe.probe_run import ProbeSettings  # late: its library is an extra
        from netsvc.probe.probe_service import ProbeService
    except ImportError as e:
        raise missing_extra("probe", ", ".join(config.probe), e, "probe") from None
    settings = ProbeSettings(interval=round(config.probe_interval * 1e9))
    for number, target in enumerate(config.probe_targets):
        delay = settings.interval * number // len(config.probe_targets)
        yield ProbeService(reactor, target, settings, delay=delay)


def _terms(
    reactor: Reactor, config: Config, row: ServiceRow, connections: ConnectionCounter, message_share: MessageShare
) -> Terms:
    rates = [rate for rate in (getattr(config, name) for name in row.connect_rates) if rate]
    admission = Admission(connections, config.networks(row.name), min(rates, default=0.0))
    limits = replace(config.limits, idle_timeout=getattr(config, row.idle_timeout))
    return Terms.on(
        reactor,
        service=row.name,
        limits=limits,
        admission=admission,
        message_share=message_share,
        log_connections=config.log_connections,
    )


def _add_streams(
    service: NetsvcService, ports: Reactor, config: Config, row: ServiceRow, terms: Terms, shared: SharedParts
) -> None:
    """Add the stream ports of one service of the table."""
    where = config.listening(row.name, "stream")
    if row.streams is None or not where:
        return
    factory, tls, proxies = row.streams(terms, config, shared), service.tls, config.proxies

    def wrap(wrapped: IProtocolFactory) -> IProtocolFactory:
        secured = wrapped if tls is None else tls.wrap(wrapped)
        return secured if proxies is None else ProxyProtocolFactory(secured, proxies, terms)

    StreamService(ports, where, factory, config.drain_timeout, setting=row.name, wrap=wrap).setServiceParent(service)


def _add_datagrams(service: NetsvcService, ports: Reactor, config: Config, row: ServiceRow, terms: Terms) -> None:
    """Add the datagram ports of one service of the table."""
    where = config.listening(row.name, "datagram")
    if row.datagrams is None or not where:
        return
    make = row.datagrams(terms, config)
    size = getattr(config, row.max_size) if row.max_size else 0
    for text in where:
        listener = datagram_listener(ports, row.name, text, make, size, metadata=row.metadata)
        listener.setServiceParent(service)


def _pages(reactor: Reactor, config: Config, where: str, service: NetsvcService) -> Listener:
    """Return the listener of the metrics. A bare port is opened on the loopback address."""
    try:
        from netsvc.server.metrics import metrics_site  # late: twisted.web takes longer to import than all the rest
    except ImportError as e:
        raise missing_extra("metrics", where, e, "metrics") from None
    own = Counters(monotonic_of(reactor), "metrics")
    service.counters.append(own)
    site = metrics_site(service, reactor, own, config.networks("metrics"), config.metrics_host)
    return stream_listener(reactor, "metrics", f"127.0.0.1:{where}" if where.isdecimal() else where, site)


def _server_tls(reactor: Reactor, config: Config) -> ServerTLS | None:
    if config.tls_cert is None:
        return None
    try:
        return ServerTLS(
            reactor,
            config.tls_cert,
            config.tls_key or "",
            config.tls_client_ca or "",
            handshake_rate=config.handshake_rate,
        )
    except CertificateError as e:
        named = (name for name in ("tls_client_ca", "tls_key") if getattr(config, name) == e.path)
        raise ConfigError(next(named, "tls_cert"), e.path, str(e), e.remedy) from e


class StreamService(MultiService):
    """Listens for one factory, and drains its connections when it stops.

    :param reactor: opens the ports.
    :param where: listening strings, as in :class:`~netsvc.server.config.Config`.
    :param factory: builds the protocols.
    :param drain_timeout: seconds that a stop may take, see :meth:`StreamFactory.drain`; 0 for no limit.
    :param setting: the setting that holds the listening strings, for error messages and the log.
    :param wrap: wraps the factory, in TLS for example. Not for ``ssl:`` and ``tls:``, which have TLS of their own.
    :raises ConfigError: for a text that is not a listening string, a single text instead of a list, and a timeout that
        is negative or not a number.
    """

    def __init__(
        self,
        reactor: Reactor,
        where: Sequence[str],
        factory: StreamFactory,
        drain_timeout: float = 5.0,
        *,
        setting: str = "",
        wrap: Callable[[IProtocolFactory], IProtocolFactory] | None = None,
    ) -> None:
        super().__init__()
        self._factory = factory
        self._drain_timeout = drain_timeout
        check_number("drain_timeout", drain_timeout, whole=False)
        if isinstance(where, str):
            raise ConfigError(setting, repr(where), "a list of strings is needed", f'write ["{where}"]')
        for text in where:
            stream_listener(reactor, setting, text, factory, factory.terms.limits, wrap).setServiceParent(self)

    def privilegedStartService(self) -> None:
        self._factory.prepare()
        super().privilegedStartService()

    def startService(self) -> None:
        self._factory.prepare()
        super().startService()

    def stopService(self) -> Deferred[Any]:
        """Close the ports. Fires when every connection is drained and closed."""
        return gatherResults([super().stopService(), self._factory.drain(self._drain_timeout)])


class NetsvcService(MultiService):
    """Starts all of its services, or none.

    :param connections: of all services.
    :param tls: the certificate of the stream services.
    :ivar counters: of each service.
    :ivar probes: the targets that are measured.
    :ivar chat: the chat; None without one.
    :ivar log_relay: passes the log on; None if it is written directly.
    :ivar pages: the listener of the metrics. It starts first and stops last, so that it can report both.
    """

    log = Logger()

    def __init__(self, connections: ConnectionCounter, tls: ServerTLS | None = None) -> None:
        super().__init__()
        self.connections = connections
        self.tls = tls
        self.counters: list[Counters] = []
        self.probes: list[ProbeService] = []
        self.chat: ChatHub | None = None
        self.pages: Listener | None = None
        self.log_relay: LogRelay | None = None

    @property
    def certificate_expires(self) -> float | None:
        """When the certificate in use expires, in seconds since the epoch; None without TLS."""
        return None if self.tls is None else self.tls.expires

    def is_ready(self) -> bool:
        """Whether the services run, every port is open, and a store on another host is connected."""
        listeners = [
            *self,
            *(listener for service in self if isinstance(service, MultiService) for listener in service),
        ]
        are_open = all(part.is_open for part in listeners if isinstance(part, Listener))
        stores = (counters.store for counters in self.counters)
        return bool(self.running) and are_open and all(store is None or store.is_connected for store in stores)

    def log_counters(self) -> None:
        """Log the counters, one line for each service, and the networks with the most connections."""
        for counters in self.counters:
            self.log.info("{service}: {summary}", service=counters.service, summary=counters.summary())
        if self.dropped_log_lines:
            self.log_dropped_lines()
        if top := self.connections.top(TOP_NETWORKS):
            listed = ", ".join(f"{count:,} from {network}" for network, count in top)
            self.log.info("most connections: {listed}", listed=listed)
        for counters in self.counters:
            if sources := counters.rate_limited.top(TOP_SOURCES):
                listed = ", ".join(f"{count:,} from {source}" for source, count in sources)
                self.log.info(
                    "{service}: most datagrams above the rate: {listed}", service=counters.service, listed=listed
                )

    @property
    def dropped_log_lines(self) -> int:
        """How many lines of the log were dropped because it was not read."""
        return 0 if self.log_relay is None else self.log_relay.dropped

    def log_dropped_lines(self) -> None:
        """Log how many lines of the log were dropped."""
        self.log.warn("{count:,} lines of the log were dropped: it was not read in time", count=self.dropped_log_lines)

    def reload(self) -> None:
        """Read the certificate again, even if its files have not changed."""
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
        self.log_counters()
        return result

    def _all_or_none(self, *starts: Callable[[], None]) -> None:
        try:
            for start in starts:
                start()
        except NetsvcError:
            self._stop()
            raise
