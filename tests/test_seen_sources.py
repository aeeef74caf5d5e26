from __future__ import annotations

from netsvc.limits.seen_sources import GENERATION, SeenSources


def test_a_source_is_seen_from_its_second_time_on() -> None:
    seen = SeenSources()
    assert not seen.add("192.0.2.1", 0.0)
    assert seen.add("192.0.2.1", 0.0)
    assert not seen.add(b"\x20\x01\x0d\xb8\0\0\0\0", 0.0)


def test_a_source_is_remembered_for_one_to_two_generations() -> None:
    seen = SeenSources()
    seen.add("192.0.2.1", 0.0)
    assert seen.add("192.0.2.1", 1.5 * GENERATION)
    assert seen.add("192.0.2.1", 2.9 * GENERATION)
    assert not seen.add("192.0.2.1", 5.0 * GENERATION)


def test_few_new_sources_are_taken_for_known_ones() -> None:
    seen = SeenSources()
    for number in range(200_000):
        seen.add(number.to_bytes(8, "big"), number / 20_000)
    mistaken = sum(seen.add(number.to_bytes(8, "big"), 10.0) for number in range(1_000_000, 1_010_000))
    assert mistaken < 1_000
