"""The page of the chat in a real Chromium, beside netcat, with servers that are killed."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from netsvc.chat.names import RESERVED_NICKS
from tests.browser import browser_page, violations
from tests.programs import SECONDS, serving
from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).parent.parent / "docs" / "reference" / "chat-messages.json"

NO_LIMITS = ("--chat-rate", "0", "--chat-burst", "0", "--chat-total", "0")

PHONE = {"width": 390, "height": 844}

#: Texts that would do something if they reached the document as anything but text.
SCRIPTS = [
    "<script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 1'>",
    "<svg/onload=window.broken=1>",
    "<iframe srcdoc='<script>parent.broken=1</script>'></iframe>",
    "<a href='javascript:window.broken=1'>click</a>",
    "javascript:window.broken=1",
    "http://a.example/'onmouseover='window.broken=1",
    'https://a.example/"><script>window.broken=1</script>',
    "https://user:password@a.example/<b>",
    "data:text/html,<script>window.broken=1</script>",
    "{{constructor.constructor('window.broken=1')()}}",
    "${window.broken = 1}",
    "<!--><img src=x onerror=window.broken=1>",
    "</textarea></title></style><img src=x onerror=window.broken=1>",
    "<style>*{display:none}</style>",
    "<base href=https://a.example/>",
    "<form action=https://a.example/><button>",
    "&lt;b&gt; &amp; &#x3C;",
    "__proto__",
    "\\u003cimg src=x onerror=window.broken=1\\u003e",
]


def netcat(port: int, nick: str, room: str = "") -> Netcat:
    member = Netcat(port)
    member.say(f"/nick {nick}")
    if room:
        member.say(f"/join {room}")
    member.wait_for(f"* you are now {nick}")
    return member


class Netcat:
    """A member like netcat."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._text = ""

    def say(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\n" for line in lines).encode())

    def wait_for(self, text: str) -> str:
        """Read until a text has arrived. Return what was read."""
        while text not in self._text:
            data = self._socket.recv(65_536)
            assert data, f"no {text!r} in {self._text}"
            self._text += data.decode()
        seen, _, self._text = self._text.partition(text)
        return seen + text

    def close(self) -> None:
        self._socket.close()


class Chat:
    """A server of the chat with a page, and what happens in Chromium."""

    def __init__(self, page: Page, port: int, web_port: int, *, path: str = "/") -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{web_port}{path}"
        self.first = page
        self.complaints: list[str] = []
        self._is_first_free = True

    def open(self, nick: str, **options: Any) -> Page:
        """Open the page in a browser of its own, and enter the chat with a nick."""
        page = self.page(**options)
        page.goto(self.url)
        page.get_by_role("dialog", name="Join the chat").get_by_role("textbox", name="Nick").fill(nick)
        page.keyboard.press("Enter")
        connected(page)
        return page

    def page(self, **options: Any) -> Page:
        """Return a page of a browser that has seen nothing yet."""
        if self._is_first_free and not options:
            self._is_first_free = False
            page = self.first
        else:
            browser = self.first.context.browser
            assert browser is not None
            page = browser.new_page(**options)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def check(self) -> None:
        """Check that no script failed and no policy was violated. A lost connection is no failure."""
        # Playwright itself evaluates scripts, which the policy of the page forbids.
        expected = re.compile("WebSocket connection|requires 'TrustedScript' assignment")
        assert [each for each in self.complaints if not expected.search(each)] == []


@contextmanager
def chat(folder: Path, *flags: object) -> Iterator[Chat]:
    """Run a chat and a Chromium during a block."""
    path = str(flags[flags.index("--web-path") + 1]) if "--web-path" in flags else "/"
    with serving("--chat", "127.0.0.1:0", "--web", "127.0.0.1:0", *flags) as (_, ports), browser_page(folder) as page:
        opened = Chat(page, ports[0], ports[1], path=path)
        yield opened
        opened.check()


def connected(page: Page) -> None:
    """Wait until a page is connected."""
    from playwright.sync_api import expect

    expect(page.get_by_role("status", name="Connection")).to_contain_text("Connected")


def shows(page: Page, *texts: str) -> None:
    """Wait until the messages of a page have these texts."""
    from playwright.sync_api import expect

    for text in texts:
        expect(page.get_by_role("log", name="Messages").get_by_text(text, exact=True)).to_have_count(1)


def has(locator: Any, count: int = 1) -> None:
    """Wait until there are as many elements."""
    from playwright.sync_api import expect

    expect(locator).to_have_count(count)


def titled(page: Page, pattern: str) -> None:
    """Wait until a page has a title."""
    from playwright.sync_api import expect

    expect(page).to_have_title(re.compile(pattern))


def say(page: Page, *texts: str) -> None:
    """Say something."""
    for text in texts:
        page.get_by_role("textbox", name="Message").fill(text)
        page.keyboard.press("Enter")


def texts(page: Page) -> list[str]:
    """Return the lines of the log, as a reader sees them."""
    return page.get_by_role("log", name="Messages").inner_text().splitlines()


def test_two_browsers_and_a_netcat_talk_in_one_room(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna, ben = web.open("anna"), web.open("ben")
        carl = netcat(web.port, "carl")
        say(anna, "hello from a browser 👋")
        carl.wait_for("<anna> hello from a browser 👋\n")
        carl.say("hello from netcat")
        say(ben, "/me waves")
        carl.wait_for("<ben *> waves\n")
        for page in (anna, ben):
            shows(page, "hello from a browser 👋", "hello from netcat")
            has(page.get_by_role("log", name="Messages").get_by_text("waves"))
            for nick in ("anna", "ben", "carl"):
                has(page.get_by_role("complementary", name="Members").get_by_text(nick))
        carl.close()


def test_after_the_server_was_killed_nothing_is_missing_or_doubled(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path}/chat.db"
    flags = ("--chat-store", store, *NO_LIMITS)
    first = serving("--chat", "127.0.0.1:0", "--web", "127.0.0.1:0", *flags)
    with first as (server, ports), browser_page(tmp_path) as page:
        web = Chat(page, ports[0], ports[1])
        anna = web.open("anna")
        carl = netcat(web.port, "carl")
        carl.say("one")
        say(anna, "two")
        shows(anna, "one", "two")
        carl.wait_for("two")
        server.stop(signal.SIGKILL)
        has(anna.get_by_role("status", name="Connection").get_by_text(re.compile("Offline|Connecting")))
        say(anna, "three, typed without a connection")
        shows(anna, "three, typed without a connection")
        with serving("--chat", f"127.0.0.1:{ports[0]}", "--web", f"127.0.0.1:{ports[1]}", *flags):
            dora = netcat(web.port, "dora")
            connected(anna)
            dora.wait_for("<anna> three, typed without a connection\n")
            dora.say("four")
            shows(anna, "one", "two", "three, typed without a connection", "four")
            has(anna.get_by_text("waiting"), 0)
            anna.reload()
            connected(anna)
            shows(anna, "one", "two", "three, typed without a connection", "four")
            say(anna, "five")
            dora.wait_for("<anna> five\n")
        web.check()


def test_a_reload_keeps_the_session_and_the_token_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna, ben = web.open("anna"), web.open("ben")
        say(anna, "before")
        shows(ben, "before")
        anna.reload()
        connected(anna)
        say(ben, "after")
        shows(anna, "before", "after")
        has(anna.get_by_role("button", name="Your nick: anna. Change it"))
        assert not any("is now anna" in line for line in texts(ben)[texts(ben).index("before") :])
        tokens = anna.evaluate("Object.values(sessionStorage).join(' ').match(/[0-9a-f]{32}/g)")
        assert tokens
        for token in tokens:
            assert token not in anna.content()
            assert token not in anna.url


def test_older_messages_are_loaded_while_scrolling_up_and_few_are_in_the_document(tmp_path: Path) -> None:
    with chat(tmp_path, *NO_LIMITS) as web:
        carl = netcat(web.port, "carl")
        carl.say(*(f"message {number} of many" for number in range(1, 1001)))
        anna = web.open("anna")
        shows(anna, "message 1000 of many")
        log = anna.get_by_role("log", name="Messages")
        box = log.bounding_box()
        assert box is not None
        anna.mouse.move(box["x"] + 50, box["y"] + 50)
        first = log.get_by_text("message 1 of many", exact=True)
        for _ in range(300):
            if first.count():
                break
            anna.mouse.wheel(0, -3_000)
            anna.wait_for_timeout(50)
        shows(anna, "message 1 of many")
        assert log.locator("*").count() < 2_000  # a row has about six elements
        anna.get_by_role("button", name="Jump to latest").click()
        shows(anna, "message 1000 of many")
        carl.close()


def test_unread_messages_are_counted_in_the_room_list_and_in_the_title(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna = web.open("anna")
        say(anna, "/join dev")
        has(anna.get_by_role("heading", level=1, name="#dev"))
        rooms = anna.get_by_role("navigation", name="Rooms")
        carl = netcat(web.port, "carl")
        icon = anna.locator("#icon").get_attribute("href")
        carl.say("first", "anna: second")
        has(rooms.get_by_role("button", name=re.compile("#lobby,? 2 unread")))
        titled(anna, r"\(2")
        assert anna.locator("#icon").get_attribute("href") != icon
        rooms.get_by_role("button", name=re.compile("#lobby,? 2 unread")).click()
        shows(anna, "first")
        titled(anna, r"^[^(2]*$")
        carl.close()


def test_a_private_conversation_stays_between_two_and_survives_a_reload(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna, ben, eve = web.open("anna"), web.open("ben"), web.open("eve")
        anna.get_by_role("complementary", name="Members").get_by_role("button", name="ben").click()
        say(anna, "between us")
        ben.get_by_role("navigation", name="Rooms").get_by_role("button", name=re.compile("^anna")).click()
        shows(ben, "between us")
        say(ben, "yes")
        shows(anna, "yes")
        anna.reload()
        connected(anna)
        anna.get_by_role("navigation", name="Rooms").get_by_role("button", name=re.compile("^ben")).click()
        shows(anna, "between us", "yes")
        assert "between us" not in eve.content()


def test_the_page_can_be_used_with_the_keyboard_only(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna = web.page()
        anna.goto(web.url)
        anna.keyboard.type("anna")
        anna.keyboard.press("Enter")
        connected(anna)
        anna.keyboard.type("typed at once")
        anna.keyboard.press("Enter")
        shows(anna, "typed at once")
        anna.keyboard.type("/jo")
        has(anna.get_by_role("listbox", name="Completions").get_by_role("option"))
        anna.keyboard.press("Tab")
        anna.keyboard.type("#dev")
        anna.keyboard.press("Enter")
        has(anna.get_by_role("heading", level=1, name="#dev"))
        anna.keyboard.press("Alt+ArrowUp")
        has(anna.get_by_role("heading", level=1, name="#lobby"))
        for _ in range(40):  # every control can be reached, and shows that it has the focus
            anna.keyboard.press("Tab")
            if anna.evaluate("document.activeElement.title") == "Settings":
                break
        assert anna.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        anna.keyboard.press("Enter")
        has(anna.get_by_role("dialog", name="Settings"))
        anna.keyboard.press("Escape")
        has(anna.get_by_role("dialog", name="Settings"), 0)
        assert anna.evaluate("document.activeElement.title") == "Settings"


def test_enter_during_a_composition_sends_nothing(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna = web.open("anna")
        box = anna.get_by_role("textbox", name="Message")
        box.fill("にほん")
        for event in ({"isComposing": True}, {"keyCode": 229}):
            box.dispatch_event("keydown", {"key": "Enter", "bubbles": True, "cancelable": True, **event})
        assert box.input_value() == "にほん"
        anna.keyboard.press("Enter")
        shows(anna, "にほん")


def test_half_of_a_surrogate_pair_is_sent_as_a_replacement_character(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna = web.open("anna")
        for number in range(5):  # one more than the page sends before the first is acknowledged
            anna.get_by_role("textbox", name="Message").evaluate(f"box => {{ box.value = 'half {number} \\ud83d' }}")
            anna.keyboard.press("Enter")
        shows(anna, *(f"half {number} \ufffd" for number in range(5)))


def test_a_phone_has_drawers_and_nothing_is_wider_than_the_screen(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna = web.open("anna", viewport=PHONE, has_touch=True, is_mobile=True)
        say(anna, "x" * 300, "https://a.example/" + "y" * 300)
        shows(anna, "x" * 300)
        assert anna.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        rooms = anna.get_by_role("navigation", name="Rooms")
        assert not rooms.is_visible()
        anna.get_by_role("button", name="Rooms", exact=True).tap()
        rooms.get_by_role("button", name="Join a room").tap()
        anna.get_by_role("dialog", name="Join a room").get_by_role("textbox", name="Room").fill("dev")
        anna.keyboard.press("Enter")
        has(anna.get_by_role("heading", level=1, name="#dev"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(tmp_path: Path, scheme: str, viewport: dict[str, int]) -> None:
    with chat(tmp_path) as web:
        anna = web.page(color_scheme=scheme, viewport=viewport)
        anna.goto(web.url)
        assert violations(anna) == ""
        anna.get_by_role("textbox", name="Nick").fill("anna")
        anna.keyboard.press("Enter")
        connected(anna)
        carl = netcat(web.port, "carl")
        carl.say("hello https://a.example/ anna", "/me waves", "/topic tea", "שלום")
        say(anna, "hi", "/join dev")
        say(anna, "/join #lobby")
        shows(anna, "hi", "שלום")
        assert violations(anna) == ""
        is_dark = anna.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] < 128")
        assert is_dark == (scheme == "dark")
        say(anna, "/help")
        has(anna.get_by_role("dialog", name="Help"))
        assert violations(anna) == ""
        carl.close()


def test_what_members_say_reaches_the_document_as_text_only(tmp_path: Path) -> None:
    with chat(tmp_path, *NO_LIMITS) as web:
        anna = web.open("anna")
        carl = netcat(web.port, "carl")
        for script in SCRIPTS:
            carl.say(script, f"/me {script}", f"/topic {script}", f"/msg anna {script}")
        carl.say("the end")
        shows(anna, "the end")
        assert anna.evaluate("window.broken") is None
        shows(anna, *(f"carl set the topic: {script}" for script in SCRIPTS[-3:]))
        log = anna.get_by_role("log", name="Messages")
        assert log.locator("script, img, iframe, style, form, base, object").count() == 0
        links = anna.evaluate(
            "[...document.querySelectorAll('#messages a, #topic-text a')].map(a => [a.protocol, a.rel, a.target])"
        )
        assert {link[0] for link in links} <= {"http:", "https:"}
        assert all("noopener" in rel and target == "_blank" for _, rel, target in links)
        anna.get_by_role("navigation", name="Rooms").get_by_role("button", name=re.compile("^carl")).click()
        shows(anna, "__proto__")
        assert anna.evaluate("window.broken") is None
        carl.close()


def test_a_tab_that_was_duplicated_does_not_fight_for_the_session(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna = web.open("anna")
        say(anna, "once")
        shows(anna, "once")
        storage = anna.evaluate("({...sessionStorage})")
        context = anna.context.browser.new_context()  # type: ignore[union-attr]  # there is one
        copy = context.new_page()
        copy.add_init_script(f"Object.assign(sessionStorage, {json.dumps(storage)})")
        copy.goto(web.url)
        copy.wait_for_timeout(2_000)
        states = [page.get_by_role("status", name="Connection").inner_text() for page in (anna, copy)]
        assert states.count("Connected") in (1, 2)  # it continues in one of them, or begins a session of its own
        before = len(texts(anna))
        anna.wait_for_timeout(2_000)
        assert len(texts(anna)) <= before + 2


@pytest.mark.parametrize("nick", ["anna", RESERVED_NICKS[0], "no spaces", ""])
def test_a_nick_that_is_taken_or_invalid_is_refused_with_the_reason(tmp_path: Path, nick: str) -> None:
    with chat(tmp_path) as web:
        web.open("anna")
        other = web.page()
        other.goto(web.url)
        other.get_by_role("textbox", name="Nick").fill(nick)
        other.keyboard.press("Enter")
        has(other.get_by_role("alert").get_by_text(re.compile("nick|name")).first)
        other.get_by_role("textbox", name="Nick").fill("ben")
        other.keyboard.press("Enter")
        connected(other)
        has(other.get_by_role("complementary", name="Members").get_by_text("ben"))


def test_the_page_works_below_a_path(tmp_path: Path) -> None:
    with chat(tmp_path, "--web-path", "/chat/") as web:
        anna = web.open("anna")
        say(anna, "below a path")
        shows(anna, "below a path")


def test_the_page_reads_the_examples_of_the_protocol_as_they_are_meant(tmp_path: Path) -> None:
    examples = json.loads(EXAMPLES.read_text())
    with chat(tmp_path) as web:
        anna = web.open("anna")
        module = anna.evaluate(
            """async () => {
                const main = await (await fetch(document.querySelector("script[type=module]").src)).text();
                return new URL(main.match(/"(\\.\\/session[^"]*)"/)[1], document.baseURI).href;
            }"""
        )
        session = anna.evaluate("async url => (await fetch(url)).text()", module)
        [protocol] = set(re.findall(r'"\./(protocol[^"]*)"', session))
        url = web.url + protocol
        decode = "async ([url, text]) => (await import(url)).decodeEvent(text)"
        encode = "async ([url, message]) => (await import(url)).encodeRequest(message)"
        for example in examples:
            message = example["message"]
            if example["direction"] == "event":
                read = anna.evaluate(decode, [url, json.dumps(message)])
                assert _includes(read, message), example["means"]
            elif "refused" not in example:
                written = anna.evaluate(encode, [url, message])
                assert json.loads(written) == message, example["means"]


def _includes(read: Any, message: Any) -> bool:
    """Whether a message that was read has everything of the message. It may have more: defaults."""
    if isinstance(message, dict):
        return all(name in read and _includes(read[name], value) for name, value in message.items())
    if isinstance(message, list):
        return len(read) == len(message) and all(map(_includes, read, message))
    return bool(read == message)


def test_the_topic_is_set_and_messages_are_found_and_erased(tmp_path: Path) -> None:
    with chat(tmp_path) as web:
        anna, ben = web.open("anna"), web.open("ben")
        anna.get_by_role("button", name="Edit the topic").click()
        anna.get_by_role("dialog", name="Topic of #lobby").get_by_role("textbox", name="Topic").fill("tea at four")
        anna.keyboard.press("Enter")
        has(ben.locator("#topic-text").get_by_text("tea at four"))
        say(anna, "the kettle boils", "something else")
        shows(ben, "the kettle boils", "something else")
        ben.get_by_role("button", name="Search").click()
        ben.get_by_role("dialog", name="Search #lobby").get_by_role("textbox", name="Words").fill("KETT")
        ben.keyboard.press("Enter")
        has(ben.get_by_role("list", name="Found messages").get_by_role("listitem"))
        ben.keyboard.press("Escape")
        say(anna, "/erase")
        has(ben.get_by_role("log", name="Messages").get_by_text("something else"), 0)
        shows(ben, "the kettle boils")


@pytest.mark.redis
def test_a_page_goes_on_at_another_node_when_its_own_is_killed(tmp_path: Path) -> None:
    redis = RedisServer()
    redis.start()
    with ExitStack() as stack:
        stack.callback(redis.remove)
        page = stack.enter_context(browser_page(tmp_path))
        flags = ("--reuse-port", "--chat-store", f"redis://127.0.0.1:{redis.port}", *NO_LIMITS)
        with serving("--chat", "127.0.0.1:0", "--web", "127.0.0.1:0", *flags) as (one, (lines, port)):
            web = Chat(page, lines, port)
            anna = web.open("anna")
            with serving("--web", f"127.0.0.1:{port}", "--chat", "127.0.0.1:0", *flags) as (_, (other_lines, _)):
                carl = netcat(other_lines, "carl")
                say(anna, "on the first node")
                carl.wait_for("<anna> on the first node\n")
                one.stop(signal.SIGKILL)
                carl.say("while she is away")
                say(anna, "typed meanwhile")
                carl.wait_for("<anna> typed meanwhile\n")
                connected(anna)
                shows(anna, "on the first node", "while she is away", "typed meanwhile")
                carl.close()
        web.check()
