from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.limits.networks import NetworkRules
from netsvc.web.request_origin import forwarded_host, is_allowed_origin, parse_origin


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("https://chat.example.org", ("https", "chat.example.org", 443)),
        ("http://chat.example.org", ("http", "chat.example.org", 80)),
        ("https://chat.example.org/", ("https", "chat.example.org", 443)),
        ("https://chat.example.org:443", ("https", "chat.example.org", 443)),
        ("https://chat.example.org:8443", ("https", "chat.example.org", 8443)),
        ("HTTPS://Chat.Example.ORG", ("https", "chat.example.org", 443)),
        ("http://[2001:db8::1]:81", ("http", "2001:db8::1", 81)),
        ("http://[2001:DB8::1]", ("http", "2001:db8::1", 80)),
        ("http://192.0.2.1", ("http", "192.0.2.1", 80)),
    ],
)
def test_an_origin_is_a_scheme_a_host_and_a_port(text: str, parsed: tuple[str, str, int]) -> None:
    assert parse_origin(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "chat.example.org", "//chat.example.org", "https:", "https://", "https://:443", "http://[", "*"),
        *("file:///etc", "ws://chat.example.org", "chrome-extension://abc", "javascript:alert(1)", "data:x,y"),
        *("https://a/path", "https://a?x", "https://a#x", "https://a:x", "https://a:65536", "https://a:-1"),
        *("https://[::1", "https://user@a", "https://user:word@a", "https://@a", "https://a https://b", "https://a, b"),
        *("https://a\tb", "https://a b", "https://a:0", "https://a:", "https://1.2.3.4:000000443", "https://é"),
    ],
)
def test_what_is_no_origin_is_none(text: str) -> None:
    assert parse_origin(text) is None


@given(st.text() | st.text(st.sampled_from("htps:/[]@.0a?#%\t ")))
def test_no_text_raises_an_exception(text: str) -> None:
    for origin in (text, f"https://{text}"):
        parsed = parse_origin(origin)
        assert parsed is None or parsed[0] in ("http", "https")
        assert isinstance(is_allowed_origin(origin, text, ["https://a"]), bool)
        assert isinstance(is_allowed_origin(origin, text, []), bool)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://chat.example.org", "chat.example.org"),
        ("https://chat.example.org", "Chat.Example.org:443"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://192.0.2.1", "192.0.2.1:80"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("", "chat.example.org"),  # a program
    ],
)
def test_by_default_a_page_of_the_same_host_and_port_may_open_the_websocket(origin: str, host: str) -> None:
    assert is_allowed_origin(origin, host, [])


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "chat.example.org"),
        ("https://chat.example.org.evil.example", "chat.example.org"),
        ("https://evil.example", ""),
        ("https://chat.example.org:8443", "chat.example.org"),
        ("http://chat.example.org", "chat.example.org:443"),
        ("http://localhost:8081", "localhost:8080"),
        ("null", "chat.example.org"),
        ("null", "null"),
        ("https://evil.example", "evil.example/@chat.example.org"),
        ("https://evil.example", "chat.example.org@evil.example"),
        ("https://evil.example", "evil.example?"),
        ("https://a, https://chat.example.org", "chat.example.org"),  # two headers
        ("file://", ""),
    ],
)
def test_a_page_of_another_host_may_not(origin: str, host: str) -> None:
    assert not is_allowed_origin(origin, host, [])


def test_pages_of_the_given_origins_may_and_no_others() -> None:
    allowed = ["https://chat.example.org", "http://localhost:8080"]
    for origin in ("https://CHAT.example.org:443", "http://localhost:8080", ""):
        assert is_allowed_origin(origin, "behind.example", allowed)
    for origin in ("http://chat.example.org", "https://behind.example", "http://localhost", "null", "https://x"):
        assert not is_allowed_origin(origin, "behind.example", allowed)


PROXIES = NetworkRules(["10.0.0.0/8", "2001:db8:1::/48"])
PROXY = "10.0.0.5"


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("192.0.2.1,10.0.0.1 ,\t10.0.0.2", "192.0.2.1"),
        ("192.0.2.66, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("10.0.0.66, 192.0.2.1", "192.0.2.1"),
        ("garbage, <script>, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:40000", "192.0.2.1"),
        ("192.0.2.1:40000, 10.0.0.1:5", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:40000, [2001:db8:1::5]:6", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:5", "192.0.2.1"),
        ("192.0.2.1, ::ffff:10.0.0.1", "192.0.2.1"),
        ("192.0.2.1, ::FFFF:0A00:0001", "192.0.2.1"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy(header: str, host: str) -> None:
    assert forwarded_host(header, PROXIES, PROXY) == host


@pytest.mark.parametrize(
    "header",
    [
        *("", ",", "10.0.0.1", "10.0.0.2, 10.0.0.1", "unknown", "_hidden", "192.0.2.1, unknown", "192.0.2.1, "),
        *("192.0.2.1, unknown, 10.0.0.1", "192.0.2.1;10.0.0.1", "example.org", "192.0.2", "192.0.2.256", "1.2.3.4.5"),
        *("fe80::1%eth0", "fe80::1%\x1b[2J", "[fe80::1%25x]:1", "[]", "[", "0x7f.1", "192.0.2.010"),
        "１９２.0.2.1",
    ],
)
def test_without_an_address_of_a_client_a_proxy_counts(header: str) -> None:
    assert forwarded_host(header, PROXIES, PROXY) in (PROXY, "10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize("header", ["10.9.9.9", "10.9.9.9, 10.0.0.1", "10.9.9.9:5, 10.0.0.2, 10.0.0.1"])
def test_a_client_in_the_network_of_the_proxies_counts_for_itself(header: str) -> None:
    assert forwarded_host(header, PROXIES, PROXY) == "10.9.9.9"


def test_what_the_client_itself_sent_does_not_count() -> None:
    for forged in ("10.0.0.1", "198.51.100.1", "10.0.0.1, 10.0.0.2", "", ",,,", "x" * 1_000):
        assert forwarded_host(f"{forged}, 192.0.2.1", PROXIES, PROXY) == "192.0.2.1"
        assert forwarded_host(f"{forged}, 192.0.2.1, 10.0.0.1", PROXIES, PROXY) == "192.0.2.1"


@given(st.text() | st.text(st.sampled_from("0123456789abcdef.:[], %")))
def test_whatever_the_header_an_address_counts(header: str) -> None:
    host = forwarded_host(header, PROXIES, PROXY)
    assert str(ip_address(host)) == host
    assert host.isascii()
    assert "%" not in host
