"""A chat client for programs. It connects again after a loss, and neither loses nor doubles a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from netsvc.chat.chat_connection import ChatConnection, request_line
from netsvc.chat.chat_events import (
    Entries,
    Event,
    NickSet,
    Notice,
    Refused,
    Replaced,
    Resumed,
    RoomEntered,
    SessionToken,
    TopicShown,
    Verdict,
    Welcome,
)
from netsvc.chat.client_connection import ClientConnection, EventReceived, Opening
from netsvc.chat.entries import Position
from netsvc.chat.pending_lines import PendingLine, PendingLines
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Act, Join, Leave, Positions, Quit, Rename, Request, Resume, Say
from netsvc.chat.room import LOBBY
from netsvc.errors import NetsvcError
from netsvc.limits.cause import Cause
from netsvc.net.deadline import Deadline
from netsvc.net.reactors import monotonic_of
from netsvc.wire.text import clean, is_blank

#: Lines that may wait for their acknowledgement.
PENDING_MAX = 1_000

#: Seconds from the beginning of a connection until the client is in its room.
OPENING_TIMEOUT = 10.0

#: A position in no log. The server answers that it is unknown what was missed.
_NOWHERE = Position("0", 0)


class NotSaidError(NetsvcError):
    """A line was not said, or it is unknown whether it was.

    :ivar cause: why the line is not in the log of its room; None if it is unknown whether it is there, because the
        server did not acknowledge it in time.
    """

    def __init__(self, text: str, cause: Cause | None = None) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost, or could not be made. The client tries again, unless it was stopped or replaced.

    :ivar reason: why, in words.
    """

    reason: str


ClientEvent = Event | ReceivedEntry | Disconnected


class _State(Enum):
    """How far the connection is.

    :cvar CLOSED: there is none, or nothing more is expected of it.
    :cvar BEGINNING: a new session begins; the client is not in its room yet.
    :cvar RECOGNISING: the client has asked to resume; the server has not recognised it yet.
    :cvar RESUMING: the server has recognised it; the client is not in its room yet.
    :cvar IN_ROOM: it is in its room.
    :cvar OUTSIDE: the server has refused the room.
    """

    CLOSED = auto()
    BEGINNING = auto()
    RECOGNISING = auto()
    RESUMING = auto()
    IN_ROOM = auto()
    OUTSIDE = auto()


_CONNECTED = (_State.IN_ROOM, _State.OUTSIDE)
_ASKED_TO_RESUME = (_State.RECOGNISING, _State.RESUMING)


class ChatClient:
    """A member of a chat.

    After a loss it connects again, after pauses that grow up to a minute. It then resumes: it keeps its nick, receives
    what it missed, once and in order, and sends again what was not acknowledged. An event
    :class:`~netsvc.chat.chat_events.Resumed` says whether something is missing. If the server refuses to continue the
    session, the events are ``Refused``, ``Disconnected``, and, in the room again,
    :class:`~netsvc.chat.chat_events.Resumed` with the verdict ``UNKNOWN``.

    A line is said in the room for which it was meant: the one of the latest request to join, or the current one. If the
    server refuses that room, the line fails with the cause. If the client leaves the room before the line is
    acknowledged, the line fails. In both cases it is not sent again.

    :param endpoint: where the chat is.
    :param received: called with each event, and each entry of the room. It is told nothing of the lobby when that is
        only on the way to another room.
    :param reactor: measures the pauses, and the time that the opening of a connection takes: at most 10 s.
    :param nick: the wanted nick; by default the one that the server gives.
    :param room: the room to be in.
    :param token: the token of an earlier client, which this one continues, with its nick and its room. Two clients must
        not have the same token at the same time: the later one replaces the earlier one, which then stops.
    :param position: of the last entry that the earlier client received.
    :param retry_policy: returns the pause before a further attempt, by the number of failed ones; by default that of
        Twisted's ``ClientService``.
    :param connect: makes each connection, by what is called with its events, and by what it sends first. By default
        it speaks lines, as :class:`~netsvc.chat.chat_connection.ChatConnection`.
    :ivar nick: its nick.
    :ivar room: the room in which it is, or wants to be.
    :ivar token: the secret by which the server recognises the member; empty before it is known.
    :ivar position: of the last entry of the room that was received; None before it is known.
    :ivar connection: the connection; None if there is none.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        received: Callable[[ClientEvent], object],
        reactor: IReactorTime,
        *,
        nick: str = "",
        room: str = LOBBY,
        token: str = "",
        position: Position | None = None,
        retry_policy: Callable[[int], float] | None = None,
        connect: Callable[[EventReceived, Opening], ClientConnection] = ChatConnection,
    ) -> None:
        self.nick = nick
        self.room = room
        self.token = token
        self.position = position
        self.connection: ClientConnection | None = None
        self._connect = connect
        self._received = received
        self._reactor = reactor
        self._state = _State.CLOSED
        self._wanted_nick = nick
        self._pending = PendingLines()
        self._moves: dict[str, str] = {}  # rooms that the client has asked to join, by the IDs of the requests
        self._last_move = ""  # the ID of the one that was done
        self._entered: RoomEntered | None = None  # before it is in its room: where it is
        self._refusal = NotSaidError("")  # of the room, in the state OUTSIDE
        self._is_stopped = False
        self._lost_session = False
        self._deadline: Deadline | None = None
        self._service = ClientService(endpoint, Factory.forProtocol(self._new_connection), retry_policy, reactor)

    @property
    def is_connected(self) -> bool:
        """Whether it is in the chat now."""
        return self._state in _CONNECTED

    @property
    def unacknowledged(self) -> int:
        """How many lines are not acknowledged yet."""
        return len(self._pending)

    def start(self) -> None:
        """Connect."""
        self._is_stopped = False
        self._service.startService()

    def stop(self) -> Deferred[None]:
        """Leave the chat and do not connect again. Lines that are not acknowledged fail."""
        if self.connection is not None and self.is_connected:
            self.connection.send(Quit())
        return self._stop("the client was stopped")

    def say(self, text: str) -> Deferred[Position]:
        """Say something in the room. It is sent again after a loss, until it is acknowledged.

        :return: fires with the position of the entry, or fails with :class:`NotSaidError`.
        :raises MessageError: if the text is no line, shows nothing, or is too long, or if 1,000 lines wait.
        """
        return self._speak(Say, text)

    def act(self, text: str) -> Deferred[Position]:
        """Say something in the third person. See :meth:`say`."""
        return self._speak(Act, text)

    def request(self, request: Request) -> None:
        """Ask for something else, such as :class:`~netsvc.chat.requests.Whisper`. The answer is an event.

        :raises MessageError: if there is no connection; nothing is sent later.
        """
        if self.connection is None or not self.is_connected:
            raise MessageError("not connected")
        if isinstance(request, Join | Leave):
            self._move(self.connection, request)
        else:
            self.connection.send(request)

    def _speak(self, kind: type[Say | Act], text: str) -> Deferred[Position]:
        request_line(kind(text))  # raises if it is no line
        # The server would remove these characters as well. Without one at its start, a text could be a command.
        request = kind(clean(text))
        if is_blank(request.text):
            raise MessageError("nothing of the text is visible")
        if len(self._pending) >= PENDING_MAX:
            raise MessageError(f"{PENDING_MAX:,} lines are not acknowledged yet")
        line = PendingLine(request, self._pending.new_id(), self.room)
        request_line(request, line.message_id)  # raises if it is too long
        if self._is_stopped:
            return fail(NotSaidError("the client is stopped", Cause.NOT_IN_ROOM))
        if self._moves and self.is_connected:
            line.room = next(reversed(self._moves.values()))  # it is sent when the client is there
        elif self._state is _State.OUTSIDE:
            return fail(NotSaidError(str(self._refusal), self._refusal.cause))
        self._pending.add(line)
        if self._state is _State.IN_ROOM and not self._moves:
            self._send(line)
        return line.said

    def _send(self, line: PendingLine) -> None:
        assert self.connection is not None
        line.was_sent = True
        self.connection.send(line.request, line.message_id)

    def _send_pending(self, *, again: bool = False) -> None:
        """Send the lines for the room, also those that were sent on an earlier connection if ``again`` is true."""
        if self._state is _State.IN_ROOM and not self._moves:
            for line in self._pending.of(self.room):
                if again or not line.was_sent:
                    self._send(line)

    def _stop(self, why: str) -> Deferred[None]:
        self._is_stopped = True
        self._state = _State.CLOSED
        stopped = self._service.stopService()
        _fail(self._pending.take_all(), f"{why} before the line was acknowledged")
        return stopped or succeed(None)

    # Connections

    def _new_connection(self) -> ClientConnection:
        # Lines for programs first: a refusal to resume is then an event, not a sentence for people.
        opening: list[tuple[Request, str]] = [(Positions(on=True), "")]
        if self.token and self.nick:
            self._state = _State.RECOGNISING
            opening.append((Resume(self.token, self.nick, self.room, self.position or _NOWHERE), ""))
        else:
            self._state = _State.BEGINNING
            if self._wanted_nick:
                opening.append((Rename(self._wanted_nick), ""))
            if self.room != LOBBY:
                message_id = self._pending.new_id()
                self._moves[message_id] = self.room
                opening.append((Join(self.room), message_id))
        connection: ClientConnection = self._connect(lambda event: self._event(connection, event), opening)
        connection.closed.addBoth(self._lost, connection)
        self.connection = connection
        self._limit_time(connection)
        return connection

    def _lost(self, reason: object, connection: ClientConnection) -> None:
        if connection is not self.connection:
            return
        self._end_deadline()
        self.connection = None
        self._state = _State.CLOSED
        self._moves.clear()
        self._entered = None
        text = reason.getErrorMessage() if isinstance(reason, Failure) else "the server closed the connection"
        self._received(Disconnected(text))
        elsewhere = self._pending.take_all(lambda line: line.room != self.room)
        _fail(elsewhere, "the connection was lost before the client was in the room")

    def _limit_time(self, connection: ClientConnection) -> None:
        """Abort the connection unless it is open, or closed, in time."""
        self._end_deadline()
        self._deadline = Deadline(self._reactor, monotonic_of(self._reactor), OPENING_TIMEOUT, connection.abort)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        """Close the connection, so that the service makes another one."""
        self._state = _State.CLOSED
        assert self.connection is not None
        self._limit_time(self.connection)
        self.connection.close()

    # Events

    def _event(self, connection: ClientConnection, event: Event | ReceivedEntry) -> None:
        if connection is not self.connection or self._state is _State.CLOSED:
            return
        match event:
            case ReceivedEntry():
                if self._state is _State.IN_ROOM:
                    self._entry(event)
                return
            case SessionToken(token):
                self._session_began(token)
                return
            case RoomEntered():
                self._room_entered(event)
                return
            case Resumed():
                self._resumed(event)
                return
            case Refused():
                self._refused(event)
                return
            case Replaced():
                self._stop("another client with the same token replaced this one")
            case Notice() | Welcome() | TopicShown() | Entries() if not self.is_connected:
                return  # for people, or of the lobby
            case NickSet() if self._state is _State.RECOGNISING:
                return  # of a session that ends at once
            case NickSet(nick):
                self.nick = nick
                if self._state is _State.IN_ROOM:
                    self._wanted_nick = nick
        self._received(event)

    def _session_began(self, token: str) -> None:
        if self._state is _State.BEGINNING:
            self.token = token
        elif self._state is _State.RECOGNISING and token == self.token:
            self._state = _State.RESUMING

    def _entry(self, event: ReceivedEntry) -> None:
        entry = event.entry
        line = self._pending.take(entry.message_id) if event.is_own else None
        if self.position is None or entry.offset > self.position.offset:  # not one that is acknowledged again
            self.position = entry.position
            self._received(event)
        if line is not None:
            line.said.callback(entry.position)

    # Rooms

    def _move(self, connection: ClientConnection, request: Join | Leave) -> None:
        room = request.room if isinstance(request, Join) else LOBBY
        message_id = self._pending.new_id()
        is_outside = self._state is _State.OUTSIDE and not self._moves
        if room == LOBBY and is_outside and self._entered is not None:
            connection.send(Positions(on=True))  # for the server it is in the lobby; the answer is where the log ends
        else:
            connection.send(request, message_id)
        self._moves[message_id] = room

    def _room_entered(self, event: RoomEntered) -> None:
        match self._state:
            case _State.RESUMING:
                self._entered = event  # the position follows from the verdict
            case _State.BEGINNING if self._moves and event.room == LOBBY:
                self._entered = event  # the answer to the request to join follows
            case _State.BEGINNING | _State.IN_ROOM | _State.OUTSIDE:
                self._arrive(event, event.position)

    def _resumed(self, resumed: Resumed) -> None:
        entered = self._entered
        if self._state is _State.IN_ROOM and resumed.verdict is Verdict.UNKNOWN:
            self._received(resumed)  # the log was begun anew; RoomEntered came before
        if self._state is not _State.RESUMING or entered is None:
            return
        if resumed.verdict is Verdict.UNKNOWN or self.position is None:
            position = entered.position
        else:
            position = Position(entered.position.epoch, self.position.offset + resumed.lost)
        self._arrive(entered, position, resumed)

    def _arrive(self, entered: RoomEntered, position: Position, resumed: Resumed | None = None) -> None:
        """The client is in a room: say what waits for that."""
        self._end_deadline()
        asked = self.room
        if self._moves:
            self._last_move = next(iter(self._moves))
            asked = self._moves.pop(self._last_move)
        if self._lost_session:
            self._lost_session = False
            resumed = Resumed(entered.room, Verdict.UNKNOWN, 0)
        self._pending.move(asked, entered.room)
        self.room, self.position, self._entered = entered.room, position, None
        self._state = _State.IN_ROOM
        awaited = {self.room, *self._moves.values()}
        left = self._pending.take_all(lambda line: line.room not in awaited)
        self._send_pending(again=resumed is not None)
        if resumed is not None and self._wanted_nick not in ("", self.nick):
            assert self.connection is not None
            self.connection.send(Rename(self._wanted_nick))  # the session began without it
        self._received(entered)
        if resumed is not None:
            self._received(resumed)
        _fail(left, "the client left the room before the line was acknowledged")

    def _refused(self, event: Refused) -> None:
        if self._state in _ASKED_TO_RESUME:
            self._resume_refused(event)
        elif event.message_id in self._moves:
            self._move_refused(event)
        else:
            if event.cause is Cause.STORE_FAILED and event.message_id and event.message_id == self._last_move:
                self._close()  # the room is not complete; the client resumes
            line = self._pending.take(event.message_id)
            if line is not None:
                line.said.errback(NotSaidError(event.text, event.cause))
            self._received(event)

    def _resume_refused(self, event: Refused) -> None:
        unknown: list[PendingLine] = []
        if event.cause is not Cause.STORE_FAILED:
            # In the new session, the server would not recognise a line that was sent before.
            unknown = self._pending.take_all(lambda line: line.was_sent)
            self.token, self.position = "", None
            self._lost_session = True
            assert self.connection is not None
            self.connection.send(Quit())  # its nick is free at once
        self._close()
        self._received(event)
        _fail(unknown, "the session ended before the line was acknowledged")

    def _move_refused(self, event: Refused) -> None:
        """The client asked to join a room. It stays where it is."""
        room = self._moves.pop(event.message_id)
        failed: list[PendingLine] = []
        if event.cause is Cause.ALREADY_IN_ROOM and self._state is _State.BEGINNING and self._entered is not None:
            self._arrive(self._entered, self._entered.position)
            return
        if event.cause is Cause.ALREADY_IN_ROOM and self._state is _State.IN_ROOM:
            self._pending.move(room, self.room)
        elif event.cause is Cause.ALREADY_IN_ROOM and self._state is _State.OUTSIDE and not self._moves:
            assert self.connection is not None
            self.connection.send(Positions(on=True))  # the name was another one for the lobby
            self._moves[event.message_id] = room
            return
        elif event.cause is Cause.STORE_FAILED and self._state is _State.BEGINNING:
            self._close()  # the next attempt comes later
        else:
            if self._state is not _State.IN_ROOM:
                self._end_deadline()
                self._state = _State.OUTSIDE
                self._refusal = NotSaidError(event.text, event.cause)
            failed = self._pending.take_all(lambda line: line.room == room and room not in self._moves.values())
        self._send_pending()
        self._received(replace(event, message_id=""))
        _fail(failed, event.text, event.cause)


def _fail(lines: Iterable[PendingLine], text: str, cause: Cause | None = None) -> None:
    """Fail lines. Without a cause, it is unknown whether those that were sent are in the log."""
    for line in lines:
        line.said.errback(NotSaidError(text, cause if line.was_sent else cause or Cause.NOT_IN_ROOM))
