from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.wire.address import HostPort
from netsvc.wire.listening_string import (
    EndpointDescription,
    InheritedSocket,
    ListeningStringError,
    parse_datagram,
    parse_stream,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1314", HostPort(None, 1314)),
        ("127.0.0.1:0", HostPort("127.0.0.1", 0)),
        ("[fe80::1%eth0]:1314", HostPort("fe80::1%eth0", 1314)),
        ("tcp:1314", EndpointDescription("tcp:1314", "tcp", None, sets_backlog=False)),
        ("tcp:1314:127.0.0.1:7", EndpointDescription("tcp:1314:127.0.0.1:7", "tcp", None, sets_backlog=True)),
        ("tcp:1314:backlog=7", EndpointDescription("tcp:1314:backlog=7", "tcp", None, sets_backlog=True)),
        ("tls:/etc/keys:443", EndpointDescription("tls:/etc/keys:443", "tls", "/etc/keys", sets_backlog=False)),
        ("unix:/a/b:mode=660", EndpointDescription("unix:/a/b:mode=660", "unix", None, sets_backlog=False)),
    ],
)
def test_the_string_of_a_stream_service_is_an_address_or_a_description(text: str, value: object) -> None:
    assert parse_stream(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("520", HostPort(None, 520)),
        ("udp:520", HostPort(None, 520)),
        (r"udp:520:interface=\:\:1", HostPort("::1", 520)),
        ("systemd:domain=INET6:name=time", InheritedSocket("INET6", "time", None)),
        ("systemd:domain=INET:index=2", InheritedSocket("INET", None, 2)),
    ],
)
def test_the_string_of_a_datagram_service_is_an_address_or_an_inherited_socket(text: str, value: object) -> None:
    assert parse_datagram(text) == value


@given(st.text())
def test_any_text_is_parsed_or_refused_with_one_exception(text: str) -> None:
    for parse in (parse_stream, parse_datagram):
        with suppress(ListeningStringError):
            parse(text)
