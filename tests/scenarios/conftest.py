"""Every scenario in every world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from netsvc.reactor import AsyncioReactor, UvloopReactor
from netsvc.testing import cuts
from tests.scenarios.worlds import Simulated, World, asyncio_, epoll, native


def simulated(big: int = World.big, **settings: Any) -> Callable[[], World]:
    """Return what makes a simulated world like that, in which a big transfer is of ``big`` bytes."""

    def make() -> World:
        world = Simulated(**settings)
        world.big = big
        return world

    return make


WORLDS: dict[str, Callable[[], World]] = {
    "simulated": simulated(),
    "simulated-far": simulated(262_144, latency=0.1, jitter=0.05),
    "simulated-lossy": simulated(262_144, bandwidth=10e6, loss=0.02),
    "simulated-one-byte": simulated(13_312, buffer=32_768, cuts=cuts.one_byte),
    "simulated-cut": simulated(latency=0.001, cuts=cuts.anywhere),
    "epoll": epoll,
    "asyncio": asyncio_,
    "native": lambda: native(AsyncioReactor()),
    "native-uvloop": lambda: native(UvloopReactor()),
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    """Where the scenario happens."""
    return WORLDS[request.param]()


@pytest.fixture(params=[name for name in WORLDS if name != "simulated-lossy"])
def reliable_world(request: pytest.FixtureRequest) -> World:
    """Where the scenario happens; a place where no datagram is lost."""
    return WORLDS[request.param]()
