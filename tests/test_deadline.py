from __future__ import annotations

from twisted.internet.task import Clock

from netsvc.net.deadline import Deadline


def test_a_deadline_is_reached_after_its_seconds() -> None:
    clock = Clock()
    reached: list[float] = []
    Deadline(clock, clock.seconds, 10, lambda: reached.append(clock.seconds()))
    clock.advance(9.9)
    assert not reached
    clock.advance(0.1)
    assert reached == [10.0]


def test_a_wall_clock_that_is_set_forward_does_not_shorten_it() -> None:
    wall, monotonic = Clock(), Clock()
    reached: list[float] = []
    Deadline(wall, monotonic.seconds, 10, lambda: reached.append(monotonic.seconds()))
    monotonic.advance(4)
    wall.advance(3600)
    assert not reached
    monotonic.advance(6)
    wall.advance(6)
    assert reached == [10.0]


def test_a_cancelled_deadline_is_never_reached() -> None:
    wall, monotonic = Clock(), Clock()
    deadline = Deadline(wall, monotonic.seconds, 10, lambda: 1 // 0)
    wall.advance(3600)  # it is scheduled again
    deadline.cancel()
    deadline.cancel()
    monotonic.advance(3600)
    wall.advance(3600)
    assert not wall.getDelayedCalls()
