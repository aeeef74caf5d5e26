"""The requests of a member that is in one room at a time, as messages of JSON."""

from __future__ import annotations

from netsvc.chat.json_messages import (
    HISTORY_MAX_COUNT,
    AwayRequest,
    BeginRequest,
    EraseRequest,
    HistoryRequest,
    JoinRequest,
    JsonRequest,
    MembersRequest,
    NickRequest,
    QuitRequest,
    ResumeRequest,
    RoomPosition,
    RoomsRequest,
    SayRequest,
    SearchRequest,
    ShowTopicRequest,
    TopicRequest,
    WhisperRequest,
)
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import (
    Act,
    Away,
    Erase,
    History,
    Join,
    Leave,
    ListRooms,
    Positions,
    Quit,
    Rename,
    Request,
    Resume,
    Say,
    Search,
    SetTopic,
    ShowTopic,
    Whisper,
    Who,
)
from netsvc.chat.room import LOBBY


def encode_json_request(request: Request, message_id: str, room: str) -> JsonRequest:  # noqa: PLR0912
    """Return the message of a request.

    :param room: the current room.
    :raises MessageError: if there is no such request over WebSocket.
    """
    match request:
        case Say(text):
            return SayRequest(room, text, id=message_id)
        case Act(text):
            return SayRequest(room, text, action=True, id=message_id)
        case Whisper(nick, text):
            return WhisperRequest(nick, text, message_id)
        case Rename(nick):
            return NickRequest(nick, message_id)
        case Join(wanted):
            return JoinRequest(wanted, only=True, id=message_id)
        case Leave():
            return JoinRequest(LOBBY, only=True, id=message_id)
        case ListRooms():
            return RoomsRequest()
        case Who():
            return MembersRequest(room)
        case ShowTopic():
            return ShowTopicRequest(room)
        case SetTopic(text):
            return TopicRequest(room, text, message_id)
        case Away(text):
            return AwayRequest(text)
        case History(count):
            return HistoryRequest(room, min(count, HISTORY_MAX_COUNT))
        case Search(words):
            return SearchRequest(room, words)
        case Erase(offset):
            return EraseRequest(room, offset, message_id)
        case Positions(True):
            return BeginRequest()
        case Resume(token, nick, in_room, position):
            return ResumeRequest(token, nick, [RoomPosition(in_room, position.epoch, position.offset)], message_id)
        case Quit():
            return QuitRequest()
        case _:
            raise MessageError(f"there is no {type(request).__name__} over WebSocket")
