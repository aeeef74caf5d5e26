"""The targets of a probe, as they are typed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.probe.probe_target import ProbeProtocol, ProbeTarget, ProbeTargetError, parse_probe_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("192.0.2.1", ProbeTarget("stamp", "192.0.2.1", 862)),
        ("example.org", ProbeTarget("stamp", "example.org", 862)),
        ("example.org:8620", ProbeTarget("stamp", "example.org", 8620)),
        ("2001:db8::1", ProbeTarget("stamp", "2001:db8::1", 862)),
        ("[2001:db8::1]", ProbeTarget("stamp", "2001:db8::1", 862)),
        ("[fe80::1%eth0]:862", ProbeTarget("stamp", "fe80::1%eth0", 862)),
        ("udp/192.0.2.1", ProbeTarget("udp", "192.0.2.1", 520)),
        ("UDP-Echo/192.0.2.1", ProbeTarget("udp-echo", "192.0.2.1", 7)),
        ("tcp/[::1]:443", ProbeTarget("tcp", "::1", 443)),
        ("tls/example.org:443", ProbeTarget("tls", "example.org", 443)),
    ],
)
def test_a_target_is_a_protocol_a_host_and_a_port(text: str, target: ProbeTarget) -> None:
    assert parse_probe_target(text) == target
    assert parse_probe_target(str(target), "tls") == target


@pytest.mark.parametrize("default", ["udp", "tcp"])
def test_a_target_without_a_protocol_has_that_of_the_options(default: ProbeProtocol) -> None:
    assert parse_probe_target("::1" if default == "udp" else "[::1]:80", default).protocol == default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": the host is missing; write HOST:PORT"),
        ("stamp/", "stamp/: the host is missing; write HOST:PORT"),
        ("862", "862: the host is missing; write HOST:862"),
        ("icmp/192.0.2.1", "icmp/192.0.2.1: 'icmp' is neither stamp, udp, udp-echo, tcp nor tls"),
        ("tcp/192.0.2.1", "tcp/192.0.2.1: the port is missing; write tcp/192.0.2.1:443"),
        ("tls/::1", "tls/::1: the port is missing; write tls/[::1]:443"),
        ("host:0", "host:0: there is no port 0; choose 1 to 65535"),
        ("host:65536", "host:65536: there is no port 65536"),
        ("a b", "a b: 'a b' is not a host name"),
    ],
)
def test_any_other_text_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ProbeTargetError) as e:
        parse_probe_target(text)
    assert str(e.value).startswith(message)


@given(st.text(max_size=40))
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(ProbeTargetError):
        parse_probe_target(text)
