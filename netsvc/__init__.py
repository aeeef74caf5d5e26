"""The small services every network needs, and their clients, on Twisted.

As a whole: :class:`Config` and :func:`netsvc_service`. Part by part: the factories, protocols and clients below. Each
takes its reactor, its clock or its :class:`Terms` as an argument. Importing netsvc loads neither Twisted nor OpenSSL: a
public name loads its module when it is first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netsvc.chat.chat_connection import ChatConnection as ChatConnection
    from netsvc.chat.client import ChatClient as ChatClient
    from netsvc.chat.client import Disconnected as Disconnected
    from netsvc.chat.client import NotSaidError as NotSaidError
    from netsvc.chat.entries import Entry as Entry
    from netsvc.chat.entries import EntryKind as EntryKind
    from netsvc.chat.hub import ChatHub as ChatHub
    from netsvc.chat.lines import ChatFactory as ChatFactory
    from netsvc.chat.lines import ChatProtocol as ChatProtocol
    from netsvc.chat.memory_store import MemoryStore as MemoryStore
    from netsvc.chat.names import InvalidNameError as InvalidNameError
    from netsvc.chat.program_lines import ReceivedEntry as ReceivedEntry
    from netsvc.chat.request_lines import MessageError as MessageError
    from netsvc.chat.sqlite_store import SqliteStore as SqliteStore
    from netsvc.chat.store import StoreError as StoreError
    from netsvc.echo.client import Echo as Echo
    from netsvc.echo.client import EchoClient as EchoClient
    from netsvc.echo.client import EchoError as EchoError
    from netsvc.echo.reply_template import ReplyTemplate as ReplyTemplate
    from netsvc.echo.reply_template import TemplateError as TemplateError
    from netsvc.echo.server import AcknowledgeFactory as AcknowledgeFactory
    from netsvc.echo.server import AcknowledgeProtocol as AcknowledgeProtocol
    from netsvc.echo.server import EchoFactory as EchoFactory
    from netsvc.echo.server import EchoProtocol as EchoProtocol
    from netsvc.echo.udp_echo import EchoDatagramProtocol as EchoDatagramProtocol
    from netsvc.errors import ConfigError as ConfigError
    from netsvc.errors import ListenError as ListenError
    from netsvc.errors import NetsvcError as NetsvcError
    from netsvc.errors import SettingError as SettingError
    from netsvc.limits.admission import Admission as Admission
    from netsvc.limits.cause import Cause as Cause
    from netsvc.limits.connection_counter import ConnectionCounter as ConnectionCounter
    from netsvc.limits.datagram_guard import DatagramGuard as DatagramGuard
    from netsvc.limits.networks import InvalidNetworkError as InvalidNetworkError
    from netsvc.limits.networks import NetworkRules as NetworkRules
    from netsvc.limits.stream_limits import StreamLimits as StreamLimits
    from netsvc.limits.token_bucket import SourceBuckets as SourceBuckets
    from netsvc.net.counters import Counters as Counters
    from netsvc.net.datagram_protocol import DatagramService as DatagramService
    from netsvc.net.datagram_responder import DatagramResponder as DatagramResponder
    from netsvc.net.message_protocol import MessageProtocol as MessageProtocol
    from netsvc.net.stream_factory import StreamFactory as StreamFactory
    from netsvc.net.stream_protocol import StreamProtocol as StreamProtocol
    from netsvc.net.terms import Terms as Terms
    from netsvc.rfc.chargen_server import ChargenFactory as ChargenFactory
    from netsvc.rfc.chargen_server import ChargenProtocol as ChargenProtocol
    from netsvc.rfc.daytime_server import DaytimeFactory as DaytimeFactory
    from netsvc.rfc.daytime_server import DaytimeProtocol as DaytimeProtocol
    from netsvc.rfc.discard_server import DiscardDatagramProtocol as DiscardDatagramProtocol
    from netsvc.rfc.discard_server import DiscardFactory as DiscardFactory
    from netsvc.rfc.discard_server import DiscardProtocol as DiscardProtocol
    from netsvc.rfc.time_server import TimeFactory as TimeFactory
    from netsvc.rfc.time_server import TimeProtocol as TimeProtocol
    from netsvc.server.assembly import StreamService as StreamService
    from netsvc.server.assembly import netsvc_service as netsvc_service
    from netsvc.server.config import Config as Config
    from netsvc.stamp.server import StampReflector as StampReflector
    from netsvc.stamp.stamp_keys import StampKeys as StampKeys
    from netsvc.stamp.stamp_sessions import StampSessions as StampSessions
    from netsvc.talk.base_conversation import NotSentError as NotSentError
    from netsvc.talk.datagram_conversation import DatagramConversation as DatagramConversation
    from netsvc.talk.stream_conversation import Conversation as Conversation
    from netsvc.talk.stream_conversation import TLSConversation as TLSConversation
    from netsvc.timestamp.client import TimestampAnswer as TimestampAnswer
    from netsvc.timestamp.client import TimestampClient as TimestampClient
    from netsvc.timestamp.client import ask_timestamp as ask_timestamp
    from netsvc.timestamp.server import TimestampProtocol as TimestampProtocol
    from netsvc.wire.datagram import Datagram as Datagram
    from netsvc.wire.framing import Framing as Framing
    from netsvc.wire.framing import FramingError as FramingError
    from netsvc.wire.framing import LineFraming as LineFraming
    from netsvc.wire.framing import RawFraming as RawFraming

__version__ = "0.1.0"

#: The module of each public name.
_MODULES = {
    "netsvc.chat.chat_connection": ("ChatConnection",),
    "netsvc.chat.client": (
        "ChatClient",
        "Disconnected",
        "NotSaidError",
    ),
    "netsvc.chat.entries": (
        "Entry",
        "EntryKind",
    ),
    "netsvc.chat.memory_store": ("MemoryStore",),
    "netsvc.chat.program_lines": ("ReceivedEntry",),
    "netsvc.chat.sqlite_store": ("SqliteStore",),
    "netsvc.chat.store": ("StoreError",),
    "netsvc.chat.lines": ("ChatFactory", "ChatProtocol"),
    "netsvc.chat.request_lines": ("MessageError",),
    "netsvc.chat.names": ("InvalidNameError",),
    "netsvc.chat.hub": ("ChatHub",),
    "netsvc.echo.client": ("Echo", "EchoClient", "EchoError"),
    "netsvc.echo.reply_template": ("ReplyTemplate", "TemplateError"),
    "netsvc.echo.server": ("AcknowledgeFactory", "AcknowledgeProtocol", "EchoFactory", "EchoProtocol"),
    "netsvc.echo.udp_echo": ("EchoDatagramProtocol",),
    "netsvc.errors": ("ConfigError", "ListenError", "NetsvcError", "SettingError"),
    "netsvc.limits.admission": ("Admission",),
    "netsvc.limits.connection_counter": ("ConnectionCounter",),
    "netsvc.limits.cause": ("Cause",),
    "netsvc.limits.datagram_guard": ("DatagramGuard",),
    "netsvc.limits.networks": ("InvalidNetworkError", "NetworkRules"),
    "netsvc.limits.stream_limits": ("StreamLimits",),
    "netsvc.limits.token_bucket": ("SourceBuckets",),
    "netsvc.net.counters": ("Counters",),
    "netsvc.net.message_protocol": ("MessageProtocol",),
    "netsvc.net.stream_factory": ("StreamFactory",),
    "netsvc.net.stream_protocol": ("StreamProtocol",),
    "netsvc.net.terms": ("Terms",),
    "netsvc.rfc.chargen_server": ("ChargenFactory", "ChargenProtocol"),
    "netsvc.rfc.daytime_server": ("DaytimeFactory", "DaytimeProtocol"),
    "netsvc.rfc.discard_server": ("DiscardDatagramProtocol", "DiscardFactory", "DiscardProtocol"),
    "netsvc.rfc.time_server": ("TimeFactory", "TimeProtocol"),
    "netsvc.server.assembly": ("StreamService", "netsvc_service"),
    "netsvc.server.config": ("Config",),
    "netsvc.talk.base_conversation": ("NotSentError",),
    "netsvc.talk.datagram_conversation": ("DatagramConversation",),
    "netsvc.talk.stream_conversation": ("Conversation", "TLSConversation"),
    "netsvc.timestamp.client": ("TimestampAnswer", "TimestampClient", "ask_timestamp"),
    "netsvc.stamp.server": ("StampReflector",),
    "netsvc.stamp.stamp_keys": ("StampKeys",),
    "netsvc.stamp.stamp_sessions": ("StampSessions",),
    "netsvc.timestamp.server": ("TimestampProtocol",),
    "netsvc.net.datagram_protocol": ("DatagramService",),
    "netsvc.net.datagram_responder": ("DatagramResponder",),
    "netsvc.wire.datagram": ("Datagram",),
    "netsvc.wire.framing": ("Framing", "FramingError", "LineFraming", "RawFraming"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AcknowledgeFactory",
    "AcknowledgeProtocol",
    "Admission",
    "Cause",
    "ChargenFactory",
    "ChargenProtocol",
    "ChatClient",
    "ChatConnection",
    "ChatFactory",
    "ChatHub",
    "ChatProtocol",
    "Config",
    "ConfigError",
    "ConnectionCounter",
    "Conversation",
    "Counters",
    "Datagram",
    "DatagramConversation",
    "DatagramGuard",
    "DatagramResponder",
    "DatagramService",
    "DaytimeFactory",
    "DaytimeProtocol",
    "DiscardDatagramProtocol",
    "DiscardFactory",
    "DiscardProtocol",
    "Disconnected",
    "Echo",
    "EchoClient",
    "EchoDatagramProtocol",
    "EchoError",
    "EchoFactory",
    "EchoProtocol",
    "Entry",
    "EntryKind",
    "Framing",
    "FramingError",
    "InvalidNameError",
    "InvalidNetworkError",
    "LineFraming",
    "ListenError",
    "MemoryStore",
    "MessageError",
    "MessageProtocol",
    "NetsvcError",
    "NetworkRules",
    "NotSaidError",
    "NotSentError",
    "RawFraming",
    "ReceivedEntry",
    "ReplyTemplate",
    "SettingError",
    "SourceBuckets",
    "SqliteStore",
    "StampKeys",
    "StampReflector",
    "StampSessions",
    "StoreError",
    "StreamFactory",
    "StreamLimits",
    "StreamProtocol",
    "StreamService",
    "TLSConversation",
    "TemplateError",
    "Terms",
    "TimeFactory",
    "TimeProtocol",
    "TimestampAnswer",
    "TimestampClient",
    "TimestampProtocol",
    "ask_timestamp",
    "netsvc_service",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
