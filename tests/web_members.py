"""Browsers for tests: the other ends of the connections of a chat that is served on the web."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from netsvc.chat.hub import ChatHub
from netsvc.chat.web_member import WebChatFactory, WebMember
from tests.connections import TCPTransport, attach, lose, taken, terms
from tests.web_clients import CLOSE, TEXT, Answer, Frame, answer, frame, frames, request, upgrade

Message = dict[str, Any]


class Browser:
    """One connection of a browser, which is accepted.

    :ivar protocol: the other end.
    :ivar transport: its transport.
    """

    def __init__(self, factory: WebChatFactory, host: str = "192.0.2.1") -> None:
        address = IPv4Address("TCP", host, 40_000)
        protocol = factory.buildProtocol(address)
        assert isinstance(protocol, WebMember)
        self.protocol = protocol
        self.transport = TCPTransport()
        self.transport.peerAddr = address
        attach(protocol, self.transport)

    def send(self, *messages: Message | str | bytes) -> None:
        """Send messages: JSON, its text, or bytes."""
        for message in messages:
            text = message if isinstance(message, str) else json.dumps(message) if isinstance(message, dict) else ""
            self.protocol.dataReceived(message if isinstance(message, bytes) else frame(TEXT, text.encode()))

    def get(self, target: str = "/", method: str = "GET", **headers: str) -> Answer:
        """Return the answer to a request."""
        taken(self.transport)
        self.send(request(target, method, **headers))
        return answer(taken(self.transport), method)

    def upgrade(self, target: str = "/ws", **headers: str) -> Answer:
        """Ask for the WebSocket, and return the answer."""
        self.send(upgrade(target, **headers))
        return answer(taken(self.transport))

    def frames(self) -> list[Frame]:
        """Return the frames since the last call of this, or of another method that returns what arrived."""
        return frames(taken(self.transport))

    def events(self) -> list[Message]:
        """Return the messages that arrived, and nothing else did."""
        received = self.frames()
        assert all(each.opcode == TEXT for each in received), received
        return [json.loads(each.payload) for each in received]

    def told(self, kind: str) -> list[Message]:
        """Return the messages of one kind among those that arrived."""
        return [event for event in self.events() if event["type"] == kind]

    def closed(self) -> Frame:
        """Return the closing frame, which is the last one, after which the server closes."""
        *_, last = self.frames()
        assert last.opcode == CLOSE
        assert self.transport.write_closed or self.transport.disconnecting
        return last

    def lose(self, reason: type[Exception] = ConnectionDone) -> None:
        """Lose the connection."""
        lose(self.protocol, reason)


def opened(factory: WebChatFactory, host: str = "192.0.2.1") -> Browser:
    """Return a browser with a WebSocket."""
    browser = Browser(factory, host)
    assert browser.upgrade().status == 101
    return browser


def begun(factory: WebChatFactory, nick: str = "", host: str = "192.0.2.1") -> Browser:
    """Return a browser that is a member, in the lobby, which was told so."""
    browser = opened(factory, host)
    browser.send({"type": "begin"})
    if nick:
        browser.send({"type": "nick", "nick": nick})
    factory.hub.announce_arrival(browser.protocol)
    browser.frames()
    return browser


def new_factory(clock: Clock, hub: ChatHub | None = None, **limits: float) -> WebChatFactory:
    """Return a front end without a limit of the rate."""
    service = terms(clock, **limits)
    return WebChatFactory(service, ChatHub(service, total=0) if hub is None else hub, rate=0)


def say(text: str = "hello", room: str = "#lobby", **more: object) -> Message:
    return {"type": "say", "room": room, "text": text, **more}


def join(room: str, **more: object) -> Message:
    return {"type": "join", "room": room, **more}


def people(factory: WebChatFactory, *nicks: str, room: str = "#lobby") -> list[Browser]:
    """Return members of a room, and what they were told of each other is forgotten."""
    members = [begun(factory, nick) for nick in nicks]
    for member in members:
        if room != "#lobby":
            member.send(join(room))
    for member in members:
        member.events()
    return members


def asked(member: Browser, *requests: Message | str) -> list[Message]:
    """Return what a member is told when it sends requests."""
    member.events()
    member.send(*requests)
    return member.events()


def refusal(member: Browser, request: Message | str) -> Message:
    """Return the only event that a request leads to, a refusal."""
    [event] = asked(member, request)
    assert event["type"] == "refused"
    return event
