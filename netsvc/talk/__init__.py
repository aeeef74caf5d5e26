"""A conversation between two people, on a stream or in datagrams, whichever of them listens."""

from netsvc.talk.datagram import DatagramConversation
from netsvc.talk.partner import SayError
from netsvc.talk.stream import Conversation, TLSConversation

__all__ = ["Conversation", "DatagramConversation", "SayError", "TLSConversation"]
