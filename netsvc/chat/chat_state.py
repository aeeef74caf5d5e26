"""The state that the parts of a chat share."""

from __future__ import annotations

from dataclasses import dataclass

from netsvc.chat.delivery_budget import DeliveryBudget
from netsvc.chat.directory import Directory
from netsvc.chat.fan_out import FanOut
from netsvc.chat.open_rooms import OpenRooms
from netsvc.chat.replies import Replies
from netsvc.chat.store import Store
from netsvc.net.terms import Terms


@dataclass(frozen=True, slots=True)
class ChatState:
    """The state of one chat.

    :ivar terms: the clocks and the counters.
    :ivar store: keeps the logs of rooms.
    :ivar directory: knows who is in the chat and where, on all nodes.
    :ivar rooms: the rooms with members.
    :ivar budget: limits the deliveries.
    :ivar fan_out: makes them.
    :ivar replies: serve and refuse requests.
    """

    terms: Terms
    store: Store
    directory: Directory
    rooms: OpenRooms
    budget: DeliveryBudget
    fan_out: FanOut
    replies: Replies
