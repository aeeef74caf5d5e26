"""The table of services. To add a service, add one row and its fields in :class:`~netsvc.server.config.Config`.

Flags, scopes of ``--allow`` and ``--deny``, counters, labels of the metrics and the reference pages follow from the
rows and from the metadata of ``Config``. The table does not depend on the parser of the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from netsvc.chat.directory import Directory
from netsvc.chat.hub import ChatHub
from netsvc.chat.lines import ChatFactory
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.names import ASCII_NAMES, Names
from netsvc.chat.sqlite_store import SqliteStore
from netsvc.chat.store import Store
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.echo.udp_echo import EchoDatagramProtocol
from netsvc.errors import ConfigError
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.limits.networks import NetworkRules
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.net.datagram_protocol import DatagramService
from netsvc.net.store_counters import StoreCounters
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.terms import Terms
from netsvc.rfc.chargen_server import ChargenFactory
from netsvc.rfc.daytime_server import DaytimeFactory
from netsvc.rfc.discard_server import DiscardDatagramProtocol, DiscardFactory
from netsvc.rfc.time_server import TimeFactory
from netsvc.server.config import Config
from netsvc.server.setting_files import read_setting_file
from netsvc.stamp.server import SessionKey, StampReflector
from netsvc.stamp.stamp_keys import StampKeys, parse_stamp_keys
from netsvc.stamp.stamp_sessions import StampSessions
from netsvc.timestamp.server import TimestampProtocol


class SharedParts:
    """Parts that several services of one server share. The first one that needs a part makes it.

    :ivar chat: the chat of all front ends; None if there is none yet.
    """

    def __init__(self) -> None:
        self.chat: ChatHub | None = None

    def hub(self, terms: Terms, config: Config) -> ChatHub:
        """Return the chat of all front ends."""
        if self.chat is None:
            names = _names(config)
            store, directory = _store(terms, config, names)
            self.chat = ChatHub(
                terms,
                store,
                names,
                directory,
                total=config.chat_total,
                rooms_max=config.chat_rooms,
                rooms_per_host=config.chat_rooms_per_host,
                replay=config.chat_replay,
            )
        return self.chat


@dataclass(frozen=True, kw_only=True)
class ServiceRow:
    """One service: on streams, on datagrams, or on both.

    :param name: its flag, its ``Config`` field of listening strings, its scope in ``--allow``, its label in the
        metrics.
    :param streams: makes its factory from its terms; None if it serves no streams.
    :param datagrams: makes a function that makes a protocol for each datagram port; None if it serves no datagrams.
    :param settings: the ``Config`` fields that belong to this service, maybe to others as well, but not to all.
    :param idle_timeout: the field with its idle timeout.
    :param connect_rates: the fields of which the lowest, other than 0, limits its new connections.
    :param max_size: for datagrams, the field with the longest size.
    :param metadata: whether each datagram carries its kernel time, TTL and traffic class.
    """

    name: str
    streams: Callable[[Terms, Config, SharedParts], StreamFactory] | None = None
    datagrams: Callable[[Terms, Config], Callable[[], DatagramService]] | None = None
    settings: tuple[str, ...] = ()
    idle_timeout: str = "idle_timeout"
    connect_rates: tuple[str, ...] = ("connect_rate",)
    max_size: str | None = None
    metadata: bool = False


def _echo(terms: Terms, config: Config, _shared: SharedParts) -> StreamFactory:
    template = config.reply_template
    return EchoFactory(terms) if template is None else AcknowledgeFactory(terms, template, config.framing)


def _chat(terms: Terms, config: Config, shared: SharedParts) -> StreamFactory:
    return ChatFactory(terms, shared.hub(terms, config), rate=config.chat_rate, burst=config.chat_burst)


def _web(terms: Terms, config: Config, shared: SharedParts) -> StreamFactory:
    try:
        from netsvc.chat.web_member import WebChatFactory  # late: its libraries are an extra
    except ImportError as e:
        raise missing_extra("web", ", ".join(config.web), e, "web") from None
    return WebChatFactory(
        terms,
        shared.hub(terms, config),
        rate=config.chat_rate,
        burst=config.chat_burst,
        path=config.web_path,
        origins=config.web_origin,
        proxies=config.web_proxies,
    )


def _store(terms: Terms, config: Config, names: Names) -> tuple[Store, Directory | None]:
    address = config.chat_redis
    if address is not None:
        try:
            from netsvc.server.redis_chat import redis_chat  # late: hiredis is an extra
        except ImportError as e:
            raise missing_extra("chat_store", config.chat_store, e, "redis") from None
        return redis_chat(terms, config, names, address)
    bounds: dict[str, Any] = {"entries_max": config.chat_history_max, "age_max": config.chat_history_age}
    path = config.chat_store_path
    if path is None:
        return MemoryStore(terms.wall, terms.clock, **bounds), None
    counters = terms.counters.store = StoreCounters("sqlite")
    store = SqliteStore(path, terms.run_blocking, terms.wall, monotonic=terms.monotonic, counters=counters, **bounds)
    return store, None


def _names(config: Config) -> Names:
    if not config.unicode_nicks:
        return ASCII_NAMES
    try:
        from netsvc.chat.unicode_names import UnicodeNames  # late: its tables take 0.1 s to load
    except ImportError as e:
        raise missing_extra("unicode_nicks", "", e, "unicode") from None
    return UnicodeNames()


def _guard(config: Config, service: str, from_services: NetworkRules | None = None) -> DatagramGuard:
    """Return the guard of all datagram ports of a service."""
    buckets = SourceBuckets(config.udp_rate, config.udp_burst, config.udp_total)
    return DatagramGuard(buckets, config.udp_max_size, config.networks(service), from_services)


def _stamp(terms: Terms, config: Config) -> Callable[[], DatagramService]:
    sessions = StampSessions[SessionKey](config.stamp_sessions) if config.stamp_sessions else None
    guard = _guard(config, "stamp", config.stamp_services)
    return partial(StampReflector, terms, guard, sessions=sessions, keys=_stamp_keys(config))


def _stamp_keys(config: Config) -> StampKeys | None:
    file = config.stamp_keys
    if file is None:
        return None
    setting = "stamp_keys"
    return parse_stamp_keys(read_setting_file(setting, file, "ASCII", "lines such as 17 HEXKEY"), setting, file)


def _timestamps(terms: Terms, config: Config) -> Callable[[], DatagramService]:
    return partial(TimestampProtocol, terms, _guard(config, "udp"))


def _udp_echo(terms: Terms, config: Config) -> Callable[[], DatagramService]:
    return partial(EchoDatagramProtocol, terms, _guard(config, "udp_echo"))


def _discarded_datagrams(terms: Terms, config: Config) -> Callable[[], DatagramService]:
    return partial(DiscardDatagramProtocol, terms, config.networks("discard"))


def _without_settings(
    factory: Callable[[Terms], StreamFactory],
) -> Callable[[Terms, Config, SharedParts], StreamFactory]:
    """Return the function of a row whose factory needs its terms only."""
    return lambda terms, _config, _shared: factory(terms)


_UDP_LIMITS = ("udp_rate", "udp_burst", "udp_total", "udp_max_size")

SERVICES = (
    ServiceRow(name="tcp", streams=_echo, settings=("reply", "framing")),
    ServiceRow(
        name="chat",
        streams=_chat,
        settings=(
            *("chat_rate", "chat_burst", "chat_idle_timeout", "chat_total", "chat_rooms", "chat_rooms_per_host"),
            *("chat_store", "chat_store_credentials", "chat_store_ca"),
            *("chat_history_max", "chat_history_age", "chat_replay", "unicode_nicks"),
        ),
        idle_timeout="chat_idle_timeout",
        # All members of the lobby are told of each one that joins. So that is limited as what a member says.
        connect_rates=("connect_rate", "chat_rate"),
    ),
    ServiceRow(
        name="web",
        streams=_web,
        settings=("web_path", "web_origin", "web_forwarded_from"),
        idle_timeout="chat_idle_timeout",
    ),
    ServiceRow(name="udp", datagrams=_timestamps, settings=_UDP_LIMITS, max_size="udp_max_size"),
    ServiceRow(name="udp_echo", datagrams=_udp_echo, settings=_UDP_LIMITS, max_size="udp_max_size"),
    ServiceRow(
        name="stamp",
        datagrams=_stamp,
        settings=(*_UDP_LIMITS, "stamp_sessions", "stamp_keys", "stamp_from"),
        max_size="udp_max_size",
        metadata=True,
    ),
    ServiceRow(name="discard", streams=_without_settings(DiscardFactory), datagrams=_discarded_datagrams),
    ServiceRow(name="chargen", streams=_without_settings(ChargenFactory)),
    ServiceRow(name="daytime", streams=_without_settings(DaytimeFactory)),
    ServiceRow(name="time", streams=_without_settings(TimeFactory)),
)


def missing_extra(setting: str, value: object, error: ImportError, extra: str) -> ConfigError:
    """Return the error for a setting whose optional dependency is not installed."""
    remedy = f"run pip install '.[{extra}]' in netsvc's source folder"
    return ConfigError(setting, value, f"{error.name} is not installed", remedy)
