"""The small services every network needs, and their clients, on Twisted.

Assembled: :class:`Config` and :func:`netsvc_service`. One by one: the factories and protocols below, which take
their reactor or clock as an argument. Importing netsvc installs no reactor.
"""

from netsvc.chat.client import ChatClient
from netsvc.chat.lines import ChatFactory, ChatProtocol
from netsvc.chat.room import Room
from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, AcknowledgeProtocol, EchoClient, EchoError, EchoFactory, EchoProtocol
from netsvc.errors import ConfigError, ListenError, SettingError
from netsvc.limits.admission import Admission, Connections
from netsvc.limits.datagram_guard import Guard
from netsvc.limits.networks import Networks
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.net.counters import Counts
from netsvc.net.door import Door
from netsvc.net.stream_protocol import Limits, StreamFactory, StreamProtocol
from netsvc.server.assembly import StreamService, netsvc_service
from netsvc.server.config import Config
from netsvc.talk import Conversation, DatagramConversation, TLSConversation
from netsvc.timestamp.server import Answer, TimestampClient, TimestampProtocol, ask_timestamp

__version__ = "0.1.0"

__all__ = [
    "AcknowledgeFactory",
    "AcknowledgeProtocol",
    "Admission",
    "Answer",
    "ChatClient",
    "ChatFactory",
    "ChatProtocol",
    "Config",
    "ConfigError",
    "Connections",
    "Conversation",
    "Counts",
    "DatagramConversation",
    "Door",
    "EchoClient",
    "EchoError",
    "EchoFactory",
    "EchoProtocol",
    "Guard",
    "Limits",
    "ListenError",
    "Networks",
    "ReplyTemplate",
    "Room",
    "SettingError",
    "SourceBuckets",
    "StreamFactory",
    "StreamProtocol",
    "StreamService",
    "TLSConversation",
    "TimestampClient",
    "TimestampProtocol",
    "ask_timestamp",
    "netsvc_service",
]
