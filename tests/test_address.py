from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.wire.address import AddressError, HostPort, format_address, is_ip, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("1314", None, 1314),
        ("0", None, 0),
        ("65535", None, 65535),
        ("127.0.0.1:1314", "127.0.0.1", 1314),
        ("[::1]:1314", "::1", 1314),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("example.org:80", "example.org", 80),
    ],
)
def test_common_forms_of_an_address_are_parsed(text: str, host: str | None, port: int) -> None:
    assert parse_address(text) == HostPort(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "80000",
        "-1",
        "+1",
        " 1",
        "1_0",
        "١",
        ":80",
        "::1:80",
        "[::1]",
        "[x]:1",
        "[127.0.0.1]:1",
        "a b:1",
        "a..b:1",
        f"{'x' * 64}:1",
    ],
)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


def test_a_very_long_number_is_refused_at_once() -> None:
    with pytest.raises(AddressError, match="there is no port"):
        parse_address("9" * 5000)


@given(st.text())
def test_any_text_is_parsed_or_raises_address_error(text: str) -> None:
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert 0 <= address.port <= 65_535


def test_an_address_is_formatted_as_users_type_it() -> None:
    assert format_address("192.0.2.1", 80) == "192.0.2.1:80"
    assert format_address("::1", 80) == "[::1]:80"
    assert format_address("::ffff:192.0.2.1", 80) == "192.0.2.1:80"
    assert str(HostPort(None, 80)) == "80"


def test_a_host_name_is_not_an_ip_address() -> None:
    assert is_ip("192.0.2.1")
    assert is_ip("::1")
    assert not is_ip("localhost")
    assert not is_ip("256.1.1.1")
