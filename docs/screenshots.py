"""Makes the pictures of the chat in a browser: ``python -m docs.screenshots``. It needs Chromium and the extra `test`.

For each picture it runs a server, lets members talk with netcat's lines, and opens the page: on a desktop, on a phone,
and on a dark desktop. The pictures are in ``docs/images``.
"""

from __future__ import annotations

import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.browser import browser_page
from tests.programs import serving

FOLDER = Path(__file__).parent / "images"

PICTURES: dict[str, dict[str, Any]] = {
    "chat-desktop": {"viewport": {"width": 1280, "height": 760}, "color_scheme": "light"},
    "chat-phone": {"viewport": {"width": 390, "height": 760}, "color_scheme": "light", "device_scale_factor": 2},
    "chat-dark": {"viewport": {"width": 1280, "height": 760}, "color_scheme": "dark"},
}

#: The lines in the lobby and in another room, each with its speaker.
TALK = [
    ("ben", "the relay in rack 4 answers again; TCP connects in 0.8 ms"),
    ("chen", "and UDP? yesterday the firewall dropped port 520"),
    ("ben", "it gets through now, 0 of 5,000 lost"),
    ("ben", "numbers: https://wiki.example.org/relay/2026-11#measured"),
    ("dara", "谢谢! 我来更新文档"),
    ("noor", "شكرا، سأختبر من المكتب غدا"),
    ("chen", "/me raises the limit to 20,000 connections"),
    ("elif", "anna: can you look at the graph before lunch?"),
]
ELSEWHERE = [("dara", "the build is green 🎉"), ("elif", "anna: the release is yours")]


def main() -> None:
    """Make the pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, options in PICTURES.items():
        server = serving("--chat", "127.0.0.1:0", "--web", "127.0.0.1:0", "--chat-rate", "0")
        with server as (_, (port, web)), ExitStack() as stack:
            nicks = list(dict.fromkeys(nick for nick, _ in TALK))
            members = {nick: stack.enter_context(_member(port, nick)) for nick in nicks}
            watcher = stack.enter_context(_member(port, "watcher"))
            for nick, text in [("ben", "/topic Relay 4 is back: release at 14:00"), *TALK]:
                members[nick].sendall(f"{text}\n".encode())
                _read(watcher, text.rpartition("/me ")[2].rpartition("/topic ")[2])
            watcher.sendall(b"/quit\n")
            _take(name, f"http://127.0.0.1:{web}/", options, members)


def _member(port: int, nick: str) -> socket.socket:
    member = socket.create_connection(("127.0.0.1", port))
    member.sendall(f"/nick {nick}\n".encode())
    _read(member, f"* you are now {nick}\n")
    return member


def _read(member: socket.socket, text: str) -> None:
    """Read until a text has arrived."""
    seen = b""
    while text.encode() not in seen:
        seen += member.recv(65_536)


def _take(name: str, url: str, options: dict[str, Any], members: dict[str, socket.socket]) -> None:
    with tempfile.TemporaryDirectory() as folder, browser_page(Path(folder), **options) as page:
        page.goto(url)
        page.get_by_role("textbox", name="Nick").fill("anna")
        page.keyboard.press("Enter")
        page.get_by_role("status", name="Connection").get_by_text("Connected").wait_for()
        box = page.get_by_role("textbox", name="Message")
        for text in ("/join dev", "/join #lobby", "on it, give me ten minutes"):
            box.fill(text)
            page.keyboard.press("Enter")
        for said, text in ELSEWHERE:
            members[said].sendall(f"/join dev\n{text}\n/join #lobby\n".encode())
        page.get_by_text("on it, give me ten minutes").first.wait_for()
        page.wait_for_timeout(1_500)
        page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
