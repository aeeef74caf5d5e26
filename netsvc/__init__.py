"""The small services every network needs, and their clients, on Twisted.

Assembled: :class:`Config` and :func:`netsvc_service`. One by one: the factories and protocols below, which take
their reactor or clock as an argument. Importing netsvc installs no reactor.
"""

from netsvc.admission import Admission, Connections
from netsvc.bucket import SourceBuckets
from netsvc.chat.client import ChatClient
from netsvc.chat.room import Room
from netsvc.chat.server import ChatFactory, ChatProtocol
from netsvc.config import Config
from netsvc.counts import Counts
from netsvc.door import Door
from netsvc.echo import AcknowledgeFactory, AcknowledgeProtocol, EchoClient, EchoError, EchoFactory, EchoProtocol
from netsvc.errors import ConfigError, ListenError, SettingError
from netsvc.guard import Guard
from netsvc.networks import Networks
from netsvc.reply import ReplyTemplate
from netsvc.service import StreamService, netsvc_service
from netsvc.stream import Limits, StreamFactory, StreamProtocol
from netsvc.talk import Conversation, DatagramConversation, TLSConversation
from netsvc.timestamp import Answer, TimestampClient, TimestampProtocol, ask_timestamp

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
