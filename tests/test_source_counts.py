"""The sources that cause the most events."""

from __future__ import annotations

from netsvc.limits.source_counts import SOURCES_MAX, SourceCounts


def test_the_sources_with_the_most_events_are_told_with_the_largest_first() -> None:
    counts = SourceCounts()
    for host in ("192.0.2.1", "2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.9"):
        counts.add(host)
    assert counts.top(2) == [("192.0.2.1", 3), ("2001:db8::/64", 2)]


def test_forged_sources_do_not_remove_one_that_goes_on() -> None:
    counts = SourceCounts()
    for number in range(3 * SOURCES_MAX):
        counts.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        if number % 1_000 == 0:
            counts.add("192.0.2.1")
    assert counts.top(1) == [("192.0.2.1", 13)]
    assert len(counts.top(2 * SOURCES_MAX)) == SOURCES_MAX
