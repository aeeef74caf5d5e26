"""A member of a chat at a terminal or in a pipe: what is typed becomes requests, what arrives becomes lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint

from netsvc.chat.chat_events import Event, NickSet, Refused, Replaced, Resumed, RoomEntered, SessionToken
from netsvc.chat.client import ChatClient, ClientEvent, Disconnected
from netsvc.chat.client_connection import ClientConnection, EventReceived, Opening
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Act, Join, Leave, Positions, Quit, Rename, Say
from netsvc.chat.room import LOBBY
from netsvc.cli.answer_timer import AnswerTimer
from netsvc.cli.chat_connection_watch import ConnectionWatch
from netsvc.cli.chat_log import ChatLog
from netsvc.cli.chat_memory import SESSION_KEPT, ChatMemory, Remembered, RememberedSession
from netsvc.cli.chat_outbox import ChatOutbox, Ordered, check_length
from netsvc.cli.command import CommandError
from netsvc.cli.stream_peer import Route, Where
from netsvc.cli.terminal_chat_lines import (
    entry_key,
    entry_line,
    erased_line,
    event_lines,
    notice_line,
    problem_line,
    verdict_line,
)
from netsvc.cli.terminal_commands import CHAT_COMMANDS, HELP_LINES, KEY_LINES, ClientCommand, parse_typed_line
from netsvc.cli.terminal_completion import KnownNames, completions
from netsvc.cli.terminal_status import ChatStatus, chat_status_parts
from netsvc.cli.terminal_text import Fragment, StyledLine
from netsvc.net.error_words import failure_words
from netsvc.net.reactors import Reactor, cancel
from netsvc.wire.text import is_blank

#: Seconds after a change until the memory is written.
_SAVE_DELAY = 1.0

#: Seconds to wait at the end until the server knows that the member leaves.
_LEAVE_TIME = 1.0

#: Seconds in which Ctrl-C must be pressed again.
_INTERRUPT_TIME = 3.0


class ChatView(Protocol):
    """Where a chat is shown."""

    has_keys: bool

    def show(self, line: StyledLine, *, is_own: bool = False) -> None:
        """Show a line. ``is_own`` says that the reader has said it."""

    def report(self, line: StyledLine) -> None:
        """Show a line of the client itself, such as that the connection was lost."""

    def replace(self, key: str, line: StyledLine) -> None:
        """Show a line in the place of the one with this key, if that can be done."""

    def clear(self) -> None:
        """Empty the screen, if that can be done."""

    def redraw(self) -> None:
        """The status has changed."""


class ChatSession:
    """A member of a chat, and what it sees and types.

    :param reactor: of the connection; tells the time.
    :param endpoint: where the chat is.
    :param where: its address, for messages.
    :param route: the route there, for messages.
    :param connect: makes each connection; see :class:`~netsvc.chat.client.ChatClient`.
    :param remembered: the server, and what is known of it.
    :param room: the wanted room; empty for the one of the session, or the lobby.
    :param timeout: seconds without an answer of the server after which the session fails; None for no limit.
    :param memory: where all this is remembered.
    :param log: where what is shown is appended; None for nowhere.
    :ivar view: where the chat is shown. Set it before :meth:`start`.
    :ivar ended: fires with None when the user has left. It fails with ``CommandError``, or after Ctrl-C with
        ``CancelledError``.
    :ivar input_wanted: called with whether more lines can be taken now.
    """

    view: ChatView

    def __init__(
        self,
        reactor: Reactor,
        endpoint: IStreamClientEndpoint,
        where: Where,
        route: Route,
        connect: Callable[[EventReceived, Opening], ClientConnection],
        remembered: Remembered,
        *,
        room: str = "",
        timeout: float | None = None,
        memory: ChatMemory,
        log: ChatLog | None = None,
    ) -> None:
        self.ended: Deferred[None] = Deferred()
        self.input_wanted: Callable[[bool], object] = lambda _: None
        self._reactor = reactor
        self._where = where
        self._timeout = timeout
        self._remembered = remembered
        self._memory = memory
        self._log = log
        self._names = KnownNames()
        self._for_reader = 0
        self._shown_nick = ""
        self._asked_nick = ""
        self._was_in_room = False
        self._is_resuming = False
        self._retry_at: float | None = None
        self._last_trouble = ""
        self._interrupted_at = -_INTERRUPT_TIME
        self._quit_asked = False
        self._leaves_when_sent = False
        self._barrier_is_sent = False
        self._has_failed = False
        self._save_call: IDelayedCall | None = None
        self._tick_call: IDelayedCall | None = None
        self._watch = ConnectionWatch(
            endpoint,
            connect,
            where,
            explain=lambda cause: route.explain(cause, where),
            tls_hint=_tls_hint(remembered),
            attempt_failed=self._trouble,
            answered=self._answered,
        )
        self._client = self._new_client(room)
        self._outbox = ChatOutbox(self._client, self._line_confirmed, self._not_said)
        self._answers = AnswerTimer(reactor, timeout, self._no_answer, lambda: False)

    def _new_client(self, room: str) -> ChatClient:
        session = self._remembered.session
        options: dict[str, Any] = {"nick": self._remembered.nick, "room": room or LOBBY}
        if session is not None and 0 <= self._reactor.seconds() - session.saved < SESSION_KEPT:
            self._is_resuming = True
            position = Position(session.epoch, session.offset)
            options = {"nick": session.nick, "room": session.room, "token": session.token, "position": position}
        backoff = backoffPolicy()

        def pause(attempts: int) -> float:
            seconds: float = backoff(attempts)
            self._retry_at = self._reactor.seconds() + seconds
            return seconds

        return ChatClient(
            self._watch,
            self._received,
            IReactorTime(self._reactor),
            retry_policy=pause,
            connect=self._new_connection,
            **options,
        )

    # From the beginning to the end

    def start(self) -> None:
        """Connect."""
        self._client.start()
        self._tick()

    def _new_connection(self, received: EventReceived, opening: Opening) -> ClientConnection:
        self._answers.sent()
        return self._watch.new_connection(received, opening)

    def leave_when_sent(self) -> None:
        """Leave as soon as the server has confirmed every line and answered every request."""
        self._leaves_when_sent = True
        self._send_waiting()

    def output_closed(self) -> None:
        """The reader of the output has closed it."""
        self._end()

    def close(self, *, keep_session: bool) -> Deferred[None]:
        """Release everything.

        :param keep_session: whether a later start may resume the session. Otherwise the member leaves the chat.
        :return: fires with None when the member has left, after a second at the latest.
        """
        self._answers.stop()
        self._save(keep_session=keep_session)
        for call in (self._save_call, self._tick_call):
            cancel(call)
        self._save_call = self._tick_call = None
        self._memory.close()
        if self._log is not None:
            self._log.close()
            self._log = None
        return succeed(None) if keep_session else self._leave()

    def _leave(self) -> Deferred[None]:
        """Leave the chat. The server must read that; otherwise it keeps the nick for the return of the member."""
        left: Deferred[None] = Deferred()
        connection = self._client.connection
        if self._client.is_connected and connection is not None:
            self._client.request(Quit())  # the server then closes the connection
            connection.closed.addBoth(lambda _: left.callback(None))
            left.addTimeout(_LEAVE_TIME, IReactorTime(self._reactor), lambda *_: None)
        else:
            left.callback(None)
        return left.addCallback(lambda _: self._stop())

    def _stop(self) -> None:
        self._client.stop()

    def _end(self, failure: BaseException | None = None) -> None:
        if not self.ended.called:
            if failure is None and self._has_failed:
                failure = CommandError()
            self.ended.callback(None) if failure is None else self.ended.errback(failure)

    def _tick(self) -> None:
        """While there is no connection, count the seconds down."""
        self._tick_call = None
        self.view.redraw()
        if not self.ended.called and self._tick_call is None and not self._client.is_connected:
            self._tick_call = self._reactor.callLater(1.0, self._tick)

    # The user of a screen

    def accept(self, text: str) -> bool:
        """Take what was typed; see ``ScreenUser``."""
        lines = text.split("\n")
        if len(lines) == 1:
            return self._accept_line(text)
        # A pasted line is text, even where a line begins with a slash.
        return self._add([Say(line.rstrip()) for line in lines if not is_blank(line)])

    def complete(self, before: str) -> Iterable[str]:
        """Return what the last word may become."""
        nicks = [nick for nick in self._names.nicks if nick != self._client.nick]
        return completions(before, CHAT_COMMANDS, nicks, self._names.rooms)

    def status(self, below: int) -> list[tuple[int, Fragment]]:
        """Return the parts of the status line."""
        now = self._reactor.seconds()
        retry_in = None if self._retry_at is None or self._retry_at <= now else self._retry_at - now
        hint = "Ctrl-C again ends" if now - self._interrupted_at < _INTERRUPT_TIME else ""
        if self._quit_asked and self._outbox.unsent:
            hint = "quit again drops them"
        return chat_status_parts(
            ChatStatus(
                server=self._remembered.server,
                room=self._client.room,
                nick=self._client.nick,
                is_connected=self._client.is_connected,
                retry_in=retry_in,
                waiting=self._outbox.unsent,
                for_reader=self._for_reader,
                below=below,
                hint=hint,
            )
        )

    def key_pressed(self) -> None:
        """Somebody is there, and has read what is shown."""
        self._for_reader = 0

    def end_of_input(self) -> None:
        """Quit, but ask first if lines are not sent yet."""
        if self._outbox.unsent and not self._quit_asked:
            self._quit_asked = True
            self._report_problem(f"{_lines(self._outbox.unsent)} not sent yet; quit again to drop them")
        else:
            self._end()

    def interrupted(self) -> None:
        """Drop the lines that wait, or end the program at the second Ctrl-C."""
        now = self._reactor.seconds()
        if self._outbox.has_waiting:
            self._cancel()
        elif now - self._interrupted_at < _INTERRUPT_TIME:
            self._end(CancelledError())
        else:
            self._interrupted_at = now
            self._reactor.callLater(_INTERRUPT_TIME, self.view.redraw)

    # Requests

    def _accept_line(self, text: str) -> bool:
        self._quit_asked = self._quit_asked and text.strip() == "/quit"
        if is_blank(text):
            return True
        try:
            request = parse_typed_line(text)
            match request:
                case ClientCommand():
                    self._do(request)
                case Say() | Act() | Join() | Leave():
                    check_length(request)
                    return self._add([request])
                case _:
                    if isinstance(request, Rename):
                        self._asked_nick = request.nick
                    self._client.request(request)
                    self._answers.sent()
        except MessageError as e:
            self._has_failed = self._has_failed or not self.view.has_keys
            self._report_problem(str(e))
            return False
        return True

    def _do(self, command: ClientCommand) -> None:
        match command:
            case ClientCommand.HELP:
                for line in (*HELP_LINES, *(KEY_LINES if self.view.has_keys else ())):
                    self.view.show(notice_line(self._reactor.seconds(), line))
            case ClientCommand.CANCEL:
                self._cancel()
            case ClientCommand.CLEAR:
                self.view.clear()
            case ClientCommand.QUIT if self.view.has_keys:
                self.end_of_input()
            case ClientCommand.QUIT:
                self.leave_when_sent()

    def _add(self, requests: Sequence[Ordered]) -> bool:
        try:
            self._outbox.add(requests)
        except MessageError as e:
            self._report_problem(str(e))
            return False
        self._answers.sent()
        self._send_waiting()
        return True

    def _send_waiting(self) -> None:
        self._outbox.send()
        is_connected = self._client.is_connected
        if self._leaves_when_sent and not self._outbox.unsent and not self._outbox.has_waiting and is_connected:
            self._leave_after_answers()
        self.input_wanted(is_connected and not self._outbox.is_full)
        self.view.redraw()

    def _line_confirmed(self) -> None:
        self._answered()
        if not self.ended.called:
            self._send_waiting()

    def _not_said(self, text: str) -> None:
        if not self.ended.called:
            self._has_failed = self._has_failed or not self.view.has_keys
            self._report_problem(text)

    def _cancel(self) -> None:
        count = self._outbox.drop()
        self._report_problem(f"{_lines(count)} dropped" if count else "no lines wait")

    def _leave_after_answers(self) -> None:
        if not self._barrier_is_sent:
            # The answer is a RoomEntered, after the answers to everything that was asked before.
            self._barrier_is_sent = True
            self._client.request(Positions(on=True))
            self._answers.sent()

    # Events

    def _received(self, event: ClientEvent) -> None:
        if self.ended.called:
            return
        match event:
            case ReceivedEntry(entry, is_own):
                self._entry(entry, is_own=is_own)
            case Disconnected():
                self._disconnected()
            case SessionToken():
                pass
            case NickSet(nick):
                if nick == self._asked_nick:
                    self._remembered = replace(self._remembered, nick=nick)
                if self._was_in_room and self._client.is_connected and nick != self._shown_nick:
                    self._event(event)
                    self._shown_nick = nick
            case Resumed():
                line = verdict_line(event, self._reactor.seconds())
                self._append_to_log(line)
                self.view.report(line)
            case Replaced():
                self._end(CommandError("another program has taken over this session; it has the same token"))
            case Refused() if self._is_resuming and not self._was_in_room:
                return  # the session is over; a new one begins
            case RoomEntered():
                self._room_entered(event)
            case _:
                self._event(event)
        self._save_later()
        self.view.redraw()

    def _event(self, event: Event) -> None:
        self._names.learn(event)
        for line in event_lines(event, self._client.nick, self._reactor.seconds()):
            self._show(line)

    def _entry(self, entry: Entry, *, is_own: bool) -> None:
        self._names.learn_entry(entry)
        if is_own and entry.kind in (EntryKind.JOINED, EntryKind.RENAMED):
            return  # an event has said so
        if entry.kind is EntryKind.ERASED:
            key = entry_key(entry.epoch, int(entry.text) if entry.text.isdecimal() else 0)
            self.view.replace(key, erased_line(entry.time, key))
        line = entry_line(entry, self._client.nick, is_own=is_own)
        if line is not None:
            self._show(line, is_own=is_own and entry.kind in (EntryKind.SAID, EntryKind.ACTION))

    def _room_entered(self, event: RoomEntered) -> None:
        if self._barrier_is_sent:
            self._end()
            return
        self._was_in_room = True
        self._retry_at = None
        self._last_trouble = ""
        is_renamed_soon = self._remembered.nick not in ("", self._client.nick) and not self._shown_nick
        if self._shown_nick != self._client.nick and not is_renamed_soon:
            self._shown_nick = self._client.nick
            self._show(notice_line(self._reactor.seconds(), f"you are {self._client.nick}"))
        self._event(event)
        self._send_waiting()

    def _show(self, line: StyledLine, *, is_own: bool = False) -> None:
        self._for_reader += line.is_for_reader
        self._append_to_log(line)
        self.view.show(line, is_own=is_own)

    def _report_problem(self, text: str) -> None:
        line = problem_line(self._reactor.seconds(), text)
        self._append_to_log(line)
        self.view.report(line)

    def _append_to_log(self, line: StyledLine) -> None:
        if self._log is None:
            return
        try:
            self._log.append(line, self._client.room)
        except OSError as e:
            self._log.close()
            self._log = None
            self._has_failed = True
            self._report_problem(f"--log: {failure_words(e)}; nothing more is written to the file")

    # Connections

    def _disconnected(self) -> None:
        self._barrier_is_sent = False
        if not self._outbox.unsent:
            self._answers.stop()
        self.input_wanted(False)
        self._trouble(self._watch.loss_text())

    def _trouble(self, text: str) -> None:
        if not self._was_in_room and not self._is_resuming:
            self._end(CommandError(text))
        elif self._was_in_room and text != self._last_trouble:
            self._last_trouble = text
            self._report_problem(f"{text}; connecting again")
        if self._tick_call is None and not self.ended.called:
            self._tick_call = self._reactor.callLater(0, self._tick)

    def _answered(self) -> None:
        """The server has sent something. It may owe more."""
        if self.ended.called:
            return
        self._answers.received()
        if self._outbox.unsent or self._barrier_is_sent or not self._was_in_room:
            self._answers.sent()

    def _no_answer(self) -> None:
        self._end(CommandError(f"{self._where}: no answer within {self._timeout:g} s"))

    # Memory

    def _save_later(self) -> None:
        if self._save_call is None:
            self._save_call = self._reactor.callLater(_SAVE_DELAY, self._save)

    def _save(self, *, keep_session: bool = True) -> None:
        self._save_call = None
        client = self._client
        session = None
        if keep_session and client.token and client.position is not None:
            epoch, offset = client.position
            now = self._reactor.seconds()
            session = RememberedSession(client.token, client.nick, client.room, epoch, offset, now)
        if self._was_in_room:
            self._memory.write(replace(self._remembered, session=session))


def _tls_hint(server: Remembered) -> str:
    """Return what to do if the server expects TLS; nothing if TLS is used."""
    if server.tls:
        return ""
    return "write wss:" if "://" in server.server else "add --tls"


def _lines(count: int) -> str:
    return "1 line is" if count == 1 else f"{count:,} lines are"
