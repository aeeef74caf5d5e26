"""The status page: its report, its files, and the page itself in a browser."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

import netsvc
from netsvc import Config, EchoFactory, netsvc_service
from netsvc.limits.cause import Cause
from netsvc.net.counters import Counters
from netsvc.net.store_counters import StoreCounters
from netsvc.probe.duration_summary import DurationSummary
from netsvc.probe.loss_direction import DirectionCounts
from netsvc.probe.probe_ledger import LedgerCounts
from netsvc.server.status_report import ROOMS_MAX, status_report
from netsvc.testing import Host, Network
from tests.browser import browser_page, violations
from tests.connections import connect, terms
from tests.programs import SECONDS, Program, serving
from tests.redis_nodes import REDIS, SimulatedRedisHost
from tests.reported_pages import FakeProbe, Pages

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGE = ["/status", "/status.css", "/status.js", "/status.json"]
ANY_PORT = "127.0.0.1:0"
REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "status-json.md"

#: Names that would be elements, scripts or another order of letters if they were more than text.
HOSTILE = ["#<img src=x onerror=alert(1)>", "#</td><script>alert(1)</script>", "#&lt;b&gt;", "#\u202egnp.exe", "#\"'`"]


class FakeChat:
    """A chat with these rooms."""

    def __init__(self, rooms: Mapping[str, int]) -> None:
        self._rooms = rooms

    def __len__(self) -> int:
        return sum(self._rooms.values())

    def rooms(self) -> Mapping[str, int]:
        return self._rooms


@pytest.fixture
def pages() -> Pages:
    return Pages()


def report_of(pages: Pages) -> Any:
    """Return the report that the page reads."""
    return json.loads(pages.get("/status.json")[1])


def busy(pages: Pages) -> Pages:
    """Return the pages of a server on which much has happened."""
    counters = pages.tcp
    counters.opened, counters.closed, counters.received_bytes, counters.sent_bytes = 5, 2, 100, 200
    counters.dropped_bytes, counters.replies, counters.stalls, counters.dropped_lines = 7, 11, 13, 17
    counters.dropped_datagrams = 19
    counters.refuse(Cause.SERVER_FULL, "192.0.2.1")
    counters.refuse(Cause.DATAGRAM_RATE, "2001:db8::1")
    counters.disconnect(Cause.SEND_QUEUE_FULL, "192.0.2.1")
    counters.unsent["EHOSTUNREACH"] += 2
    counters.unreceived["ENOMEM"] += 3
    counters.store = StoreCounters("redis")
    counters.store.waiting = lambda: (3, 1.5)
    counters.store.nodes = lambda: ("7716487e53b8", 2)
    counters.store.is_connected = True
    counters.store.appends, counters.store.append_seconds = 4, 0.5
    counters.store.connections, counters.store.refused = 5, 6
    counters.store.gaps, counters.store.filled, counters.store.new_logs = 7, 8, 9
    pages.connections.connection_opened(connect(EchoFactory(terms(pages.clock)))[0])
    pages.chat = FakeChat({"#lobby": 2, "#tea": 1})
    pages.probes = [FakeProbe()]
    pages.certificate_expires = 1_800_000_000.0
    pages.dropped_log_lines = 21
    return pages


# The report


def test_the_report_has_everything_that_a_server_counts(pages: Pages) -> None:
    assert status_report(busy(pages), time=1_700_000_100.25, started=1_700_000_000.0, uptime=100.5) == {
        "version": 1,
        "netsvc": netsvc.__version__,
        "time": 1_700_000_100.25,
        "started": 1_700_000_000.0,
        "uptime": 100.5,
        "ready": True,
        "services": [
            {
                "service": "tcp",
                **{"open": 3, "opened": 5, "received_bytes": 100, "sent_bytes": 200, "dropped_bytes": 7},
                **{"dropped_lines": 17, "dropped_datagrams": 19, "replies": 11, "stalls": 13},
                "refused": {"server_full": 1, "datagram_rate": 1},
                "disconnected": {"send_queue_full": 1},
                "unsent": {"EHOSTUNREACH": 2},
                "unreceived": {"ENOMEM": 3},
                "rate_limited": [{"network": "2001:db8::/64", "datagrams": 1}],
            }
        ],
        "causes": {
            **{"server_full": "server full", "datagram_rate": "too many datagrams per second"},
            "send_queue_full": "the send queue is full",
        },
        "networks": [{"network": "192.0.2.0/24", "connections": 1}],
        "chat": {
            "members": 3,
            "room_count": 2,
            "rooms": [{"name": "#lobby", "members": 2}, {"name": "#tea", "members": 1}],
            "store": {
                **{"kind": "redis", "connected": True, "waiting": 3, "oldest_wait": 1.5, "connections": 5},
                **{"appends": 4, "append_seconds": 0.5, "refused": 6, "gaps": 7, "filled": 8, "new_logs": 9},
            },
            "nodes": {"own": "7716487e53b8", "alive": 2},
        },
        "probes": [{"up": True, "summary": FakeProbe().summary().to_json()}],
        "certificate_expires": 1_800_000_000.0,
        "dropped_log_lines": 21,
    }


def test_a_server_without_a_chat_and_without_tls_reports_null(pages: Pages) -> None:
    report = report_of(pages)
    assert (report["chat"], report["certificate_expires"]) == (None, None)
    assert (report["causes"], report["networks"]) == ({}, [])


def test_the_uptime_grows_with_the_clock_and_the_start_stays(pages: Pages) -> None:
    first = report_of(pages)
    pages.clock.advance(90.5)
    second = report_of(pages)
    assert (first["uptime"], second["uptime"]) == (0.0, 90.5)
    assert (first["started"], second["started"]) == (0.0, 0.0)
    assert second["time"] == 90.5


def test_the_largest_rooms_are_listed_and_all_are_counted(pages: Pages) -> None:
    pages.chat = FakeChat({f"#room-{number:03}": number % 7 for number in range(100)})
    chat = report_of(pages)["chat"]
    assert chat["room_count"] == 100
    assert len(chat["rooms"]) == ROOMS_MAX
    assert chat["rooms"][:2] == [{"name": "#room-006", "members": 6}, {"name": "#room-013", "members": 6}]
    assert min(room["members"] for room in chat["rooms"]) == 3


def test_a_store_in_memory_has_no_counters(pages: Pages) -> None:
    pages.chat = FakeChat({})
    assert report_of(pages)["chat"] == {
        **{"members": 0, "room_count": 0, "rooms": []},
        **{"store": {"kind": "memory"}, "nodes": None},
    }


def test_the_number_of_nodes_is_null_while_it_is_unknown(pages: Pages) -> None:
    busy(pages)
    assert pages.tcp.store is not None
    pages.tcp.store.nodes = lambda: ("7716487e53b8", 0)
    assert report_of(pages)["chat"]["nodes"] == {"own": "7716487e53b8", "alive": None}


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_of_a_room_is_valid_json_in_ascii(pages: Pages, name: str) -> None:
    pages.chat = FakeChat({name: 1})
    answer = pages.request(b"GET /status.json HTTP/1.0\r\n\r\n")
    assert answer.isascii()
    assert report_of(pages)["chat"]["rooms"] == [{"name": name, "members": 1}]


#: Fields whose value is documented as a whole: tallies, and the summary of a probe.
KEPT_WHOLE = ("refused", "disconnected", "unsent", "unreceived", "causes", "summary")


def fields_of(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all fields, such as ``services[].open``."""
    if isinstance(value, list):
        for each in value:
            yield from fields_of(each, f"{path}[]")
    elif isinstance(value, dict) and not path.endswith(KEPT_WHOLE):
        for name, inner in value.items():
            yield from fields_of(inner, f"{path}.{name}" if path else name)
    else:
        yield path


def test_the_reference_page_lists_the_fields_of_the_report(pages: Pages) -> None:
    documented = re.findall(r"^\| `([^`]+)` \|", REFERENCE.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(set(fields_of(report_of(busy(pages)))))


# The server that is reported


class Answer(Protocol):
    """Collects an answer until the server closes the connection."""

    def __init__(self) -> None:
        self.data = b""
        self.whole: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.whole.callback(self.data)


async def answer_to(host: Host, address: str, path: str) -> bytes:
    """Ask the pages of a server, and return the whole answer."""
    protocol: Any = await connectProtocol(TCP4ClientEndpoint(host.reactor, address, 9114), Answer())
    protocol.transport.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    whole: bytes = await protocol.whole
    return whole


async def reported_by(host: Host) -> Any:
    """Return the report of the server on a host."""
    return json.loads((await answer_to(host, "127.0.0.1", "/status.json")).partition(b"\r\n\r\n")[2])


def test_the_rooms_of_a_server_are_those_of_its_chat(network: Network) -> None:
    host = network.host("server")
    service = netsvc_service(host.reactor, Config(tcp=["1"], chat=["1400"], metrics="9114"))
    service.startService()
    assert network.run(reported_by(host))["chat"]["rooms"] == []
    network.run(connectProtocol(TCP4ClientEndpoint(host.reactor, "127.0.0.1", 1400), Protocol()))
    network.advance(1.0)
    report = network.run(reported_by(host))
    assert report["chat"]["rooms"] == [{"name": "#lobby", "members": 1}]
    assert report["chat"]["store"] == {"kind": "memory"}
    assert [service["service"] for service in report["services"]] == ["tcp", "chat", "metrics"]
    assert report["ready"]


def test_a_chat_on_redis_reports_its_nodes_and_a_chat_in_a_file_its_store(network: Network, tmp_path: Path) -> None:
    SimulatedRedisHost(network)
    redis, file = network.host("node"), network.host("other")
    for host, store in ((redis, f"redis://{REDIS[0]}:{REDIS[1]}"), (file, f"sqlite:{tmp_path / 'chat.db'}")):
        netsvc_service(host.reactor, Config(chat=["1400"], chat_store=store, metrics="9114")).startService()
    network.advance(2.0)
    on_redis, in_file = network.run(reported_by(redis))["chat"], network.run(reported_by(file))["chat"]
    assert (on_redis["store"]["kind"], on_redis["store"]["connected"], on_redis["nodes"]["alive"]) == ("redis", True, 1)
    assert (in_file["store"]["kind"], in_file["store"]["connected"], in_file["nodes"]) == ("sqlite", True, None)


def test_seven_open_pages_and_a_scrape_of_one_host_may_connect_at_the_same_moment(pages: Pages) -> None:
    paths = ["/metrics", *["/status.json"] * 7]
    connections = [(path, *(pages.connect() or pytest.fail("refused"))) for path in paths]
    for path, protocol, transport in connections:
        protocol.dataReceived(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert transport.value().startswith(b"HTTP/1.0 200 ")
    assert (pages.own_counters.refused, pages.own_counters.disconnected) == ({}, {})


# The files


class References(HTMLParser):
    """Collects what a page refers to, and what a strict policy would not allow.

    :ivar loaded: the addresses that the browser loads.
    :ivar linked: the addresses of links.
    :ivar inline: inline scripts, inline styles and handlers of events.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.inline += [name for name in values if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in values):
            self.inline.append(tag)
        if tag == "a":
            self.linked.append(values["href"])
        elif "src" in values or "href" in values:
            self.loaded.append(values.get("src") or values["href"])


def test_what_the_page_refers_to_is_there(pages: Pages) -> None:
    references = References(pages.get("/status")[1])
    loaded = [name for name in references.loaded if not name.startswith("data:")]
    assert sorted(loaded) == ["status.css", "status.js"]
    assert sorted(references.linked) == ["metrics", "metrics", "status.json"]
    for name in (*loaded, *references.linked):
        assert pages.get(f"/{name}")[0] == 200
    assert '"status.json"' in pages.get("/status.js")[1]


def test_the_page_has_no_inline_script_or_style(pages: Pages) -> None:
    assert References(pages.get("/status")[1]).inline == []
    assert References("<p onclick=x style=y><script>1</script><style></style>").inline == [
        *("onclick", "style", "script", "style")
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/status", "text/html; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
        ("/status.json", "application/json"),
    ],
)
def test_the_headers_allow_a_browser_little(pages: Pages, method: str, path: str, content_type: str) -> None:
    status, headers, body = pages.ask(method, path)
    assert status == 200
    assert headers.pop("content-length") == str(len(pages.get(path)[1].encode()))
    assert (body == "") == (method == "HEAD")
    assert {name: headers[name] for name in headers if name not in ("server", "date")} == {
        "content-type": content_type,
        "content-security-policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
        "connection": "close",
    }


@pytest.mark.parametrize("path", PAGE)
def test_there_is_nothing_below_the_page(pages: Pages, path: str) -> None:
    assert pages.get(f"{path}/") == (404, "not found\n")
    assert pages.get(f"{path}/status.json") == (404, "not found\n")


# The page in a browser


@contextmanager
def watched(page: Page) -> Iterator[tuple[Program, list[int]]]:
    """Run a server with the page open. Yield it with the ports of the pages, the echo and the chat."""
    flags = ("--tcp", ANY_PORT, "--chat", ANY_PORT, "--metrics", ANY_PORT, "--drain-timeout", "0.5")
    with serving(*flags) as (server, ports):
        page.goto(f"http://127.0.0.1:{ports[0]}/status")
        yield server, ports


def wait_for(page: Page, selector: str, text: str | re.Pattern[str]) -> None:
    """Wait until an element has this text."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(text, timeout=1_000 * SECONDS)


def wait_for_change(page: Page, selector: str) -> None:
    """Wait until an element has another text than now."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).not_to_have_text(page.locator(selector).inner_text(), timeout=1_000 * SECONDS)


def answer_with(page: Page, reports: list[Any]) -> None:
    """Answer the next requests of the page for reports with these. Without one, a request fails."""
    page.route("**/status.json", lambda route: route.fulfill(json=reports.pop(0)) if reports else route.abort())


@pytest.mark.browser
def test_the_page_shows_what_changes_and_names_the_lines_that_it_knows(tmp_path: Path) -> None:
    problems: list[str] = []
    with ExitStack() as stack:
        page = stack.enter_context(browser_page(tmp_path))
        page.on("console", lambda message: problems.append(message.text))
        _, (_, tcp, chat) = stack.enter_context(watched(page))
        wait_for(page, "#state", "Connected")
        wait_for(page, "#open span", "0")
        wait_for(page, "#no-causes", "None since the start of the server.")
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", tcp), SECONDS)) for _ in range(3)]
        member = stack.enter_context(socket.create_connection(("127.0.0.1", chat), SECONDS))
        member.sendall(b"/join <tea>\n/join tea\nhello\n")
        wait_for(page, "#open span", "4")
        wait_for(page, "#service-rows tr:first-child td:nth-child(2)", "3")
        wait_for(page, "#cause-rows tr:first-child", re.compile("^invalid_message.*the line is not a valid message$"))
        wait_for(page, "#room-rows tr", "#tea1")
        wait_for(page, "#nodes", "one process")
        before = page.locator("#received span").inner_text()
        assert before.endswith("B/s")
        while page.locator("#received span").inner_text() in ("0 B/s", before):
            clients[0].sendall(bytes(1_000))
            clients[0].recv(1_000)
    assert problems == []


@pytest.mark.browser
def test_the_page_says_for_how_long_it_is_not_connected_and_goes_on_by_itself(tmp_path: Path) -> None:
    with browser_page(tmp_path) as page, watched(page) as (server, _):
        wait_for(page, "#state", "Connected")
        page.context.set_offline(True)
        wait_for(page, ".state", re.compile(r"^\s*Not connected, last update \d s ago\s*$"))
        assert page.title().startswith("not connected")
        page.context.set_offline(False)
        wait_for(page, ".state", re.compile(r"^\s*Connected\s*$"))
        assert not page.title().startswith("not connected")
        server.stop()
        wait_for(page, ".state", re.compile(r"^\s*Not connected, last update [1-9] s ago\s*$"))
        wait_for(page, "#version", netsvc.__version__)


@pytest.mark.browser
def test_a_page_whose_requests_are_not_answered_says_so_and_counts_the_seconds(tmp_path: Path) -> None:
    with browser_page(tmp_path) as page, watched(page):
        wait_for(page, "#state", "Connected")
        note_ages(page)
        page.route("**/status.json", hold)
        page.wait_for_selector("[data-counts=seconds]", timeout=1_000 * SECONDS)
        wait_for(page, "#state", "Not connected")


@pytest.mark.browser
def test_one_failed_request_does_not_yet_mean_that_the_server_is_away(tmp_path: Path) -> None:
    with browser_page(tmp_path) as page, watched(page):
        wait_for(page, "#state", "Connected")
        note_ages(page)
        page.context.set_offline(True)
        wait_for(page, "#state", "Not connected")
        assert page.evaluate("ages[0]") >= 2


def hold(route: object) -> None:
    """Never answer a request."""


def note_ages(page: Page) -> None:
    """Note the seconds since the last update that the page says, in ``ages``, and whether three follow each other."""
    page.evaluate(
        """() => {
            window.ages = [];
            const note = ([{ target }]) => {
                window.ages.push(Number(target.textContent.match(/\\d+/)));
                const [first, second, third] = window.ages.slice(-3);
                if (second === first + 1 && third === first + 2) document.body.dataset.counts = "seconds";
            };
            new MutationObserver(note).observe(document.getElementById("age"), { childList: true });
        }"""
    )


@pytest.mark.browser
def test_the_targets_are_shown_with_their_last_minute_and_the_panel_is_hidden_without_one(
    tmp_path: Path, pages: Pages
) -> None:
    stamp, tcp = FakeProbe(), FakeProbe("tcp/host.example:443")
    tcp.is_up = False
    percentiles = {"p50": 12_300_000, "p90": 0, "p99": 45_600_000, "p99.9": 0}
    stamp.last_minute = replace(
        stamp.last_minute,
        address="192.0.2.1:862",
        counts=LedgerCounts(sent=60, answered=55, lost=5),
        durations={"rtt": DurationSummary(55, 0, 0.0, 0, 0.0, percentiles)},
        direction=DirectionCounts(stateful=True, lost_there=3, lost_back=2),
    )
    pages.probes = [stamp, tcp]
    with browser_page(tmp_path) as page, watched(page):
        wait_for(page, "#state", "Connected")
        assert page.locator("#probe-panel").is_hidden()
        answer_with(page, [report_of(pages)])
        page.reload()
        cells = page.locator("#probe-rows tr")
        wait_for(page, "#probe-rows tr:first-child th", "stamp/192.0.2.1:862")
        first, second = (cells.nth(number).locator("th, td").all_inner_texts() for number in range(2))
        assert first == [
            *("stamp/192.0.2.1:862", "192.0.2.1:862", "answers", "60", "5", "3", "2", "12.3 ms", "45.6 ms")
        ]
        assert second == ["tcp/host.example:443", "–", "no answer", "0", "0", *["–"] * 4]
        assert "marked" in (cells.nth(1).get_attribute("class") or "")


@pytest.mark.browser
def test_rates_are_differences_of_reports_by_the_time_of_the_server(tmp_path: Path, pages: Pages) -> None:
    counters, other = pages.tcp, Counters(pages.clock.seconds, "metrics")
    pages.counters.append(other)
    reports = [status_report(busy(pages), time=0.0, started=0.0, uptime=10.0)]
    with browser_page(tmp_path) as page, watched(page):
        answer_with(page, reports)
        page.reload()
        wait_for(page, "#open span", "3")
        assert page.locator("#opened span").inner_text() == "–"
        counters.opened, counters.received_bytes, counters.replies = 10, 4_100, 12
        counters.refused[Cause.SERVER_FULL] += 8
        other.opened = 50
        assert counters.store is not None
        counters.store.appends, counters.store.append_seconds = 8, 0.6
        reports.append(status_report(pages, time=4.0, started=0.0, uptime=14.0))
        wait_for(page, "#opened span", "1.3/s")
        assert page.locator("#received span").inner_text() == "1.0 kB/s"
        assert page.locator("#replies span").inner_text() == "0.3/s"
        assert page.locator("#refused span").inner_text() == "2.0/s"
        assert page.locator("#disconnected span").inner_text() == "0/s"
        assert page.locator("#latency span").inner_text() == "25.0 ms"
        full = page.locator("#cause-rows tr").first
        assert full.inner_text().split() == ["server_full", "tcp", "Refused", "9", "2.0/s", "server", "full"]
        reports.append(status_report(pages, time=15.0, started=1.0, uptime=14.5))  # after a restart
        wait_for(page, "#opened span", "–")


@pytest.mark.browser
def test_names_are_shown_as_text_only(tmp_path: Path, pages: Pages) -> None:
    busy(pages).chat = FakeChat(dict.fromkeys(HOSTILE, 1))
    report = report_of(pages)
    report["networks"] = [{"network": HOSTILE[0], "connections": 1}]
    report["services"][0]["service"] = HOSTILE[1]
    report["services"][0]["refused"] = {HOSTILE[1]: 1}
    report["causes"] = {HOSTILE[1]: HOSTILE[0]}
    dialogs: list[str] = []
    with browser_page(tmp_path) as page, watched(page):
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        answer_with(page, [report])
        page.reload()
        wait_for(page, "#network-rows th", HOSTILE[0])
        assert sorted(page.locator("#room-rows th").all_text_contents()) == sorted(HOSTILE)
        assert page.locator("#service-rows th").text_content() == HOSTILE[1]
        assert HOSTILE[0] in page.locator("#cause-rows td").all_text_contents()
        assert page.locator("main img, main script, main b").count() == 0
    assert dialogs == []


@pytest.mark.browser
def test_a_refresh_rewrites_neither_rows_nor_what_is_read_aloud(tmp_path: Path) -> None:
    with browser_page(tmp_path) as page, watched(page):
        wait_for(page, "#uptime", re.compile("[1-9] s"))
        page.evaluate(
            """() => {
                window.announced = 0;
                document.querySelector("#service-rows tr").isKept = true;
                const observer = new MutationObserver(() => { window.announced += 1; });
                for (const live of document.querySelectorAll("[aria-live], [role=status], [role=alert]"))
                    observer.observe(live, { childList: true, characterData: true, subtree: true });
            }"""
        )
        for _ in range(2):
            wait_for_change(page, "#service-rows tr:last-child td:nth-child(3)")
        assert page.evaluate("window.announced") == 0
        assert page.evaluate("document.querySelector('#service-rows tr').isKept")


@pytest.mark.browser
def test_a_page_that_nobody_sees_asks_every_30_seconds_and_at_once_when_it_is_seen(tmp_path: Path) -> None:
    requests: list[str] = []
    with browser_page(tmp_path) as page:
        page.clock.install()
        page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => !window.isSeen })")
        page.on("request", lambda request: requests.append(request.url.rpartition("/")[2]))
        with watched(page):
            wait_for(page, "#state", "Connected")
            page.clock.run_for(20_000)
            assert requests.count("status.json") == 1
            for _ in range(15):
                page.clock.run_for(1_000)
            assert requests.count("status.json") == 2
            with page.expect_request("**/status.json"):
                page.evaluate("window.isSeen = true; document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.browser
def test_the_page_is_accessible_and_fits_in_light_and_dark_on_a_phone_and_on_a_wall(
    tmp_path: Path, pages: Pages
) -> None:
    busy(pages).chat = FakeChat({f"#room-{number}": number for number in range(100)})
    reports = [status_report(pages, time=second, started=0.0, uptime=second) for second in range(100)]
    with browser_page(tmp_path) as page, watched(page):
        answer_with(page, reports)
        page.reload()
        wait_for(page, "#room-caption", "The 50 largest of 100 rooms with members of this node")
        wait_for(page, "#refused span", "0/s")
        check_appearances(page)
        reports.clear()
        wait_for(page, "#state", "Not connected")
        check_appearances(page)


def check_appearances(page: Page) -> None:
    """Check that the page is accessible and is not wider than the screen."""
    for width in (360, 1_920):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == ""
        assert page.evaluate("document.documentElement.scrollWidth") <= width
