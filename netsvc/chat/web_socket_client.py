"""A chat client for programs, over WebSocket."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from netsvc.chat.client import ChatClient, ClientEvent
from netsvc.chat.entries import Position
from netsvc.chat.room import LOBBY
from netsvc.chat.web_socket_connection import WebSocketChatConnection, parse_web_socket_url


class WebSocketChatClient(ChatClient):
    """A member of a chat, over WebSocket: :class:`~netsvc.chat.client.ChatClient` where only HTTP gets through.

    :param endpoint: where the chat is; for ``wss:`` with TLS.
    :param url: of the WebSocket, such as ``ws://chat.example.org:8080/ws``. It names the server to the proxies on the
        way, and to the server.
    :raises ValueError: if it is not the URL of a WebSocket.

    The other parameters are those of ``ChatClient``.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        url: str,
        received: Callable[[ClientEvent], object],
        reactor: IReactorTime,
        *,
        nick: str = "",
        room: str = LOBBY,
        token: str = "",
        position: Position | None = None,
        retry_policy: Callable[[int], float] | None = None,
    ) -> None:
        parse_web_socket_url(url)  # raises now, not at the first connection
        super().__init__(
            endpoint,
            received,
            reactor,
            nick=nick,
            room=room,
            token=token,
            position=position,
            retry_policy=retry_policy,
            connect=partial(WebSocketChatConnection, url),
        )
