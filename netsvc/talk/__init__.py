"""A conversation between two people, on a stream or in datagrams, whichever of them listens."""

from netsvc.talk.datagram_conversation import DatagramConversation
from netsvc.talk.partner import SayError
from netsvc.talk.stream_conversation import Conversation, TLSConversation

__all__ = ["Conversation", "DatagramConversation", "SayError", "TLSConversation"]
