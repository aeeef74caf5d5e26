from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.check.check_target import PROTOCOLS, CheckTarget, CheckTargetError, parse_check_target

SERVICES = {("https", "tcp"): 443, ("domain", "udp"): 53, ("irc-s", "tcp"): 6697}


def parse(text: str) -> CheckTarget:
    return parse_check_target(text, lambda name, transport: SERVICES.get((name, transport)))


@pytest.mark.parametrize(
    ("text", "protocol", "port"),
    [
        ("tcp/443", "tcp", 443),
        ("tls/6697", "tls", 6697),
        ("udp/520", "udp", 520),
        ("443", "tcp", 443),
        ("TCP/443", "tcp", 443),
        ("https", "tcp", 443),
        ("tls/https", "tls", 443),
        ("tls/irc-s", "tls", 6697),
        ("udp/domain", "udp", 53),
        ("tcp/65535", "tcp", 65_535),
        ("tcp/00080", "tcp", 80),
    ],
)
def test_a_target_is_a_protocol_and_a_port_or_the_name_of_a_service(text: str, protocol: str, port: int) -> None:
    target = parse(text)
    assert (target.text, target.protocol, target.port) == (text, protocol, port)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sctp/80", "sctp/80: 'sctp' is neither tcp, tls nor udp; write tcp/80"),
        ("/80", "/80: '' is neither tcp, tls nor udp; write tcp/80"),
        ("443/tcp", "443/tcp: the protocol comes first; write tcp/443"),
        ("tcp/", "tcp/: the port is missing; write tcp/443"),
        ("", ": the port is missing; write tcp/443"),
        ("tcp/0", "tcp/0: there is no port 0; choose 1 to 65535"),
        ("udp/65536", "udp/65536: there is no port 65536; choose 1 to 65535"),
        ("tcp/-1", "tcp/-1: this host knows no service '-1'; write a port number, as in tcp/443"),
        ("udp/https", "udp/https: this host knows no service 'https'; write a port number, as in udp/443"),
    ],
)
def test_another_text_is_an_error_with_the_remedy(text: str, error: str) -> None:
    with pytest.raises(CheckTargetError) as caught:
        parse(text)
    assert str(caught.value) == error


@given(st.text() | st.builds("{}/{}".format, st.sampled_from(PROTOCOLS), st.text()))
def test_no_text_raises_another_exception(text: str) -> None:
    try:
        target = parse(text)
    except CheckTargetError:
        return
    assert target.protocol in PROTOCOLS
    assert 1 <= target.port <= 65_535
