"""Measure the page of the chat in Chromium: ``python -m bench.web_page``. It needs Chromium and the extra ``test``.

It prints the weight of the page as it is transferred, the time until the first message is shown (for a browser that
keeps nothing, and for one that has the files), how many elements the log has in the document after 10,000 messages, and
how long the frames are while 100 messages per second arrive.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from tests.browser import browser_page
from tests.programs import serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

VISITS = 10
MESSAGES = 10_000
RATE = 100
SECONDS = 10

NO_LIMITS = ("--chat-rate", "0", "--chat-burst", "0", "--chat-total", "0", "--chat-history-max", "20000")

#: Milliseconds from the navigation until a message is in the document, and the bytes that were transferred.
FIRST_MESSAGE = """() => new Promise((resolve) => {
    const look = () => {
        if (!document.querySelector("#messages")?.innerText.includes("message ")) return requestAnimationFrame(look);
        const files = [performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource")];
        resolve([performance.now(), files.reduce((sum, file) => sum + file.encodedBodySize, 0), files.length]);
    };
    look();
})"""

#: Milliseconds between frames, for ten seconds.
FRAMES = """(seconds) => new Promise((resolve) => {
    const times = [];
    const frame = (now) => {
        times.push(now);
        if (now - times[0] < seconds * 1000) requestAnimationFrame(frame);
        else resolve(times.slice(1).map((time, number) => time - times[number]));
    };
    requestAnimationFrame(frame);
})"""


def main() -> int:
    """Measure, and print Markdown tables."""
    out = sys.stdout.write
    flags = ("--chat", "127.0.0.1:0", "--web", "127.0.0.1:0", *NO_LIMITS)
    with serving(*flags) as (_, (port, web)), tempfile.TemporaryDirectory() as folder:
        member = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=_discard, args=[member], daemon=True).start()
        member.sendall("".join(f"message {number}\n" for number in range(MESSAGES)).encode())
        with browser_page(Path(folder)) as page:
            url = f"http://127.0.0.1:{web}/"
            _enter(page, url)
            first = [_visit(page, url, cached=False) for _ in range(VISITS)]
            again = [_visit(page, url, cached=True) for _ in range(VISITS)]
            out(f"Weight: {first[0][1] / 1024:.1f} KiB in {first[0][2]} files.\n\n")
            out("| time to the first message, ms | median | worst |\n|---|---:|---:|\n")
            for title, visits in (("first visit", first), ("files in the cache", again)):
                times = [visit[0] for visit in visits]
                out(f"| {title} | {median(times):.0f} | {max(times):.0f} |\n")
            _scroll_up(page)
            elements = page.evaluate("document.querySelectorAll('#messages *').length")
            out(f"\nElements of the log after scrolling up through {MESSAGES:,} messages: {elements}.\n\n")
            page.get_by_role("button", name="Jump to latest").click()
            sender = threading.Thread(target=_talk, args=[member], daemon=True)
            sender.start()
            _print_frames(f"{RATE} messages/s", page.evaluate(FRAMES, SECONDS))
            sender.join()
            _print_frames("no messages", page.evaluate(FRAMES, SECONDS))
        member.close()
    return 0


def _enter(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("textbox", name="Nick").fill("anna")
    page.keyboard.press("Enter")
    page.get_by_role("status", name="Connection").get_by_text("Connected").wait_for()


def _visit(page: Page, url: str, *, cached: bool) -> tuple[float, int, int]:
    """Open the page again, in a new session with the same nick. Return milliseconds, bytes and files."""
    page.get_by_role("textbox", name="Message").fill("/quit")
    page.keyboard.press("Enter")
    page.get_by_role("status", name="Connection").get_by_text("Left").wait_for()
    page.evaluate("sessionStorage.clear()")
    protocol: Any = page.context.new_cdp_session(page)
    protocol.send("Network.enable")
    protocol.send("Network.setCacheDisabled", {"cacheDisabled": not cached})
    page.goto(url)
    milliseconds, size, files = page.evaluate(FIRST_MESSAGE)
    protocol.detach()
    page.get_by_role("status", name="Connection").get_by_text("Connected").wait_for()
    return milliseconds, size, files


def _scroll_up(page: Page) -> None:
    box = page.get_by_role("log", name="Messages").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    begin = page.get_by_text("The log begins here.")
    deadline = monotonic() + 120
    while not begin.count() and monotonic() < deadline:
        page.mouse.wheel(0, -4_000)
        sleep(0.02)


def _talk(member: socket.socket) -> None:
    began = monotonic()
    for number in range(RATE * SECONDS):
        member.sendall(f"now {number} {'x' * (number % 60)}\n".encode())
        sleep(max(0.0, began + (number + 1) / RATE - monotonic()))


def _print_frames(title: str, frames: Sequence[float]) -> None:
    percentiles = quantiles(frames, n=100)
    sys.stdout.write(
        f"Frames with {title}: {1000 / (sum(frames) / len(frames)):.0f} per second, p95 {percentiles[94]:.0f} ms, "
        f"p99 {percentiles[98]:.0f} ms, longest {max(frames):.0f} ms.\n"
    )


def _discard(member: socket.socket) -> None:
    while member.recv(65_536):
        pass


if __name__ == "__main__":
    sys.exit(main())
