from __future__ import annotations

from netsvc.net.send_queue import OVER_LIMIT_SECONDS, SendQueue

KIB = 1024


def queue_of(*pieces: bytes, limit: int = 0) -> SendQueue:
    queue = SendQueue(limit)
    for piece in pieces:
        queue.append(piece)
    return queue


def test_pieces_are_written_in_order_until_the_transport_is_full() -> None:
    written: list[bytes] = []
    queue = queue_of(b"a", b"b", b"c")
    queue.flush(written.append, lambda: len(written) == 2)
    assert written == [b"a", b"b"]
    assert queue
    queue.flush(written.append, lambda: False)
    assert written == [b"a", b"b", b"c"]
    assert not queue


def test_the_size_counts_the_bytes_in_the_transport() -> None:
    queue = SendQueue(0)
    queue.size = 70 * KIB
    queue.append(b"x" * 10)
    assert queue.size == 70 * KIB + 10
    queue.flush(lambda _: None, lambda: True)  # the transport is full again after nothing was written
    assert queue.size == 64 * KIB + 10


def test_a_queue_overflows_after_half_a_second_above_its_limit() -> None:
    queue = queue_of(b"x" * 101, limit=100)
    assert not queue.overflows(10.0)
    assert not queue.overflows(10.0 + OVER_LIMIT_SECONDS - 0.01)
    assert queue.overflows(10.0 + OVER_LIMIT_SECONDS)


def test_a_queue_at_its_limit_and_one_without_a_limit_never_overflow() -> None:
    for queue in (queue_of(b"x" * 100, limit=100), queue_of(b"x" * 10_000)):
        assert not queue.overflows(0.0)
        assert not queue.overflows(100.0)


def test_a_queue_that_falls_below_its_limit_has_half_a_second_again() -> None:
    queue = queue_of(b"x" * 60 * KIB, b"x" * 60 * KIB, b"x", limit=100 * KIB)
    assert not queue.overflows(0.0)
    left = [False, False, True]
    queue.flush(lambda _: None, lambda: left.pop(0) if left else True)
    queue.append(b"x" * 60 * KIB)
    assert not queue.overflows(1.0)
    assert queue.overflows(1.0 + OVER_LIMIT_SECONDS)
