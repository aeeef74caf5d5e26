"""``netsvc chat``: a member of a chat, at a terminal or in a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import click
from click import UsageError
from twisted.internet.defer import CancelledError

from netsvc.chat.chat_connection import ChatConnection
from netsvc.chat.client_connection import ClientConnection, EventReceived, Opening
from netsvc.chat.names import InvalidNameError
from netsvc.cli.chat_log import ChatLog
from netsvc.cli.chat_memory import ChatMemory, Remembered, latest_server, state_directory
from netsvc.cli.chat_plain import run_plain
from netsvc.cli.chat_session import ChatSession
from netsvc.cli.client_tls import ClientTLS
from netsvc.cli.command import CONNECT_TIMEOUT, DEFAULT_HOST, Command, sleep
from netsvc.cli.parameters import (
    CONTEXT_SETTINGS,
    family_options,
    file_option,
    peer_argument,
    tls_options,
    unix_option,
    wait_option,
)
from netsvc.cli.stream_peer import Route, UnixPath, Where, unix_path
from netsvc.cli.terminal_commands import SERVER_NAMES
from netsvc.cli.terminal_reactor import has_screen, install_asyncio_reactor
from netsvc.net.error_words import failure_words
from netsvc.net.reactors import Reactor
from netsvc.wire.address import AddressError, HostPort

_WEB_SCHEMES = {"ws": 80, "wss": 443}


@dataclass
class Chat(Command):
    """A chat: its server, and the values of the options."""

    where: str | None
    unix: str | None
    nick: str | None
    room: str | None
    tls: bool
    ca: str | None
    ipv4: bool
    ipv6: bool
    timeout: float | None
    log: str | None
    color: str
    plain: bool

    _server: Remembered = field(init=False)
    _peer: Where = field(init=False)
    _route: Route = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.nick = self.nick and SERVER_NAMES.nick(self.nick)
            self.room = self.room and SERVER_NAMES.room(self.room)
        except InvalidNameError as e:
            raise UsageError(str(e)) from None
        self._route = Route.chosen(self.ipv4, self.ipv6, None, None, self.timeout or CONNECT_TIMEOUT)
        if self.where is not None and self.unix is not None:
            raise UsageError(f"unexpected argument {self.where}, because --unix names the peer")
        given = self.where if self.unix is None else f"unix:{self.unix}"
        found = Remembered("") if given is not None else latest_server(state_directory())
        if found is None:
            raise UsageError("the server is missing, and none is remembered; write HOST:PORT")
        self._peer, server, is_secure = self._parse(found.server if given is None else given)
        ca = str(Path(self.ca).absolute()) if self.ca else found.ca
        self._server = replace(found, server=server, tls=self.tls or is_secure or found.tls, ca=ca)
        if server.startswith("ws:") and self.tls:
            raise UsageError("--tls cannot be combined with a ws: URL; write wss:")
        if self.ca and not self._server.tls:
            raise UsageError("--ca has no effect without --tls; add --tls")
        if isinstance(self._peer, UnixPath) and not self._route.is_default:
            raise UsageError("a UNIX socket cannot be combined with -4 or -6; leave them out")

    def _parse(self, server: str) -> tuple[Where, str, bool]:
        """Return where a server is, the text by which it is remembered, and whether that says that it uses TLS."""
        unix = unix_path(server, None)
        if unix is not None:
            return unix, f"unix:{Path(unix.path).absolute()}", False
        if "://" not in server:
            peer = self.peer_address(server, DEFAULT_HOST)
            return peer, str(peer), False
        try:
            url = urlsplit(server)
            if url.scheme not in _WEB_SCHEMES or not url.hostname or not server.isascii() or url.username:
                raise ValueError
            return HostPort(url.hostname, url.port or _WEB_SCHEMES[url.scheme]), url.geturl(), url.scheme == "wss"
        except (ValueError, AddressError):
            raise UsageError(f"{server}: this is no URL of a WebSocket; write ws://HOST:PORT/ws") from None

    @property
    def _has_screen(self) -> bool:
        return not self.plain and has_screen()

    def install_reactor(self) -> None:
        if self._has_screen:
            install_asyncio_reactor()

    async def run(self, reactor: Reactor) -> None:
        tls = ClientTLS(self._server.ca) if self._server.tls else None
        endpoint = self._route.endpoint(reactor, self._peer, tls)
        connect = self._connect()
        log = self._open_log()
        memory = ChatMemory(state_directory(), self._server.server)
        found = memory.open()
        remembered = replace(self._server, nick=found.nick, session=found.session)
        session = remembered.session
        if session and ((self.nick or session.nick) != session.nick or (self.room or session.room) != session.room):
            remembered = replace(remembered, session=None)
        if self.nick:
            remembered = replace(remembered, nick=self.nick)
        chat = ChatSession(
            reactor,
            endpoint,
            self._peer,
            self._route,
            connect,
            remembered,
            room=self.room or "",
            timeout=self.timeout,
            memory=memory,
            log=log,
        )
        keep_session = False
        try:
            await (self._run_on_screen(chat, reactor) if self._has_screen else self._run_plain(chat, reactor))
        except CancelledError:  # a signal: a restart resumes
            keep_session = True
            raise
        finally:
            await chat.close(keep_session=keep_session)

    def _connect(self) -> Callable[[EventReceived, Opening], ClientConnection]:
        if "://" not in self._server.server:
            return ChatConnection
        try:
            from netsvc.chat.web_socket_connection import WebSocketChatConnection
        except ImportError as e:
            raise UsageError(f"a WebSocket needs {e.name}; install netsvc[web]") from None
        return partial(WebSocketChatConnection, self._server.server)

    def _open_log(self) -> ChatLog | None:
        if not self.log:
            return None
        try:
            return ChatLog(Path(self.log))
        except OSError as e:
            problem = failure_words(e)
            raise UsageError(f"--log {self.log}: {problem}; name a file that can be written") from None

    async def _run_plain(self, chat: ChatSession, reactor: Reactor) -> None:
        is_colored = os.isatty(1) and not os.environ.get("NO_COLOR")
        await run_plain(chat, reactor, color=is_colored if self.color == "auto" else self.color == "always")

    async def _run_on_screen(self, chat: ChatSession, reactor: Reactor) -> None:
        from netsvc.cli.chat_screen import run_on_screen

        await sleep(reactor, 0)  # until the loop runs
        await run_on_screen(chat, color=None if self.color == "auto" else self.color == "always")


COMMAND = click.Command(
    "chat",
    callback=Chat,
    context_settings=CONTEXT_SETTINGS,
    short_help="Chat at a terminal or in a pipe.",
    help=(
        "Be a member of the chat at [HOST:]PORT, or at the URL of a WebSocket (ws: or wss:); without either, of the "
        "one that was used last. At a terminal, the screen has a status line and a line editor; Ctrl-D on an empty "
        "line quits, and /help lists the commands. Otherwise, each line of standard input is said or is a command, and "
        "the command ends when the server has confirmed the last one. After a loss it connects again, and says whether "
        "something was missed."
    ),
    params=[
        peer_argument("[HOST:]PORT|URL", required=False),
        unix_option("Use the chat on the UNIX socket at PATH."),
        click.Option(["--nick"], metavar="NAME", help="The nick. [default: the last one on this server]"),
        click.Option(["--room"], metavar="ROOM", help="The room to join. [default: #lobby]"),
        *tls_options(),
        *family_options(),
        wait_option(None, "Seconds without an answer after which it is an error."),
        file_option("--log", "Append what is shown to this file, with times."),
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            help="Whether to use colors. auto: at a terminal, unless NO_COLOR is set. [default: auto]",
        ),
        click.Option(["--plain"], is_flag=True, help="Read and print lines at a terminal, too."),
    ],
)
