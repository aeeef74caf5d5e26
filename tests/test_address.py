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
def test_addresses_as_people_write_them(text: str, host: str | None, port: int) -> None:
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
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


def test_a_number_of_any_length_is_no_reason_to_work_hard() -> None:
    with pytest.raises(AddressError, match="there is no port"):
        parse_address("9" * 5000)


@given(st.text())
def test_any_text_is_parsed_or_refused_in_one_way(text: str) -> None:
    try:
        where = parse_address(text)
    except AddressError:
        return
    assert 0 <= where.port <= 65_535


def test_an_address_is_shown_as_it_is_typed() -> None:
    assert format_address("192.0.2.1", 80) == "192.0.2.1:80"
    assert format_address("::1", 80) == "[::1]:80"
    assert format_address("::ffff:192.0.2.1", 80) == "192.0.2.1:80"
    assert str(HostPort(None, 80)) == "80"


def test_a_name_is_no_ip_address() -> None:
    assert is_ip("192.0.2.1")
    assert is_ip("::1")
    assert not is_ip("localhost")
    assert not is_ip("256.1.1.1")
