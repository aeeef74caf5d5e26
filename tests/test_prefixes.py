from __future__ import annotations

import pytest

from netsvc.limits.prefixes import format_prefix, prefixes, source_prefix


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("64:ff9b::192.0.2.1", "192.0.2.1", True),
        ("::192.0.2.1", "192.0.2.1", True),
        ("2002:c000:201::1", "192.0.2.1", True),
        ("2002:c000:201:ffff::1", "2002:c000:201::1", True),
        ("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2", False),
        ("::1", "0.0.0.1", False),
        ("64:ff9b:1::192.0.2.1", "192.0.2.1", False),
    ],
)
def test_hosts_are_the_same_if_their_source_prefix_is(one: str, other: str, same: bool) -> None:
    assert (source_prefix(one) == source_prefix(other)) is same


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", ["192.0.2.1", "192.0.2.0/24"]),
        ("::ffff:192.0.2.1", ["192.0.2.1", "192.0.2.0/24"]),
        ("2001:db8:1:2345::1", ["2001:db8:1:2345::/64", "2001:db8:1:2300::/56", "2001:db8:1::/48"]),
        ("::1", ["::/64", "::/56", "::/48"]),
    ],
)
def test_a_host_has_prefixes_from_the_longest_to_the_shortest(host: str, expected: list[str]) -> None:
    assert [format_prefix(prefix) for prefix in prefixes(host)] == expected
