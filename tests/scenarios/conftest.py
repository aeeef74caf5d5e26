"""Fixtures that run every scenario in every environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from netsvc.reactor import AsyncioReactor, UvloopReactor
from netsvc.testing import splits
from tests.scenarios.environments import Environment, SimulatedEnvironment, asyncio_, epoll, native


def simulated(big: int = Environment.big, **settings: Any) -> Callable[[], Environment]:
    """Return a function that creates a simulated environment in which a big transfer has ``big`` bytes."""

    def create() -> Environment:
        environment = SimulatedEnvironment(**settings)
        environment.big = big
        return environment

    return create


ENVIRONMENTS: dict[str, Callable[[], Environment]] = {
    "simulated": simulated(),
    "simulated-far": simulated(262_144, latency=0.1, jitter=0.05),
    "simulated-lossy": simulated(262_144, bandwidth=10e6, loss=0.02),
    "simulated-one-byte": simulated(13_312, buffer=32_768, splits=splits.at(*range(1, 8_192))),
    "simulated-splits": simulated(latency=0.001, splits=splits.at_random),
    "epoll": epoll,
    "asyncio": asyncio_,
    "native": lambda: native(AsyncioReactor()),
    "native-uvloop": lambda: native(UvloopReactor()),
}


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> Environment:
    """The environment of the scenario."""
    return ENVIRONMENTS[request.param]()


@pytest.fixture(params=[name for name in ENVIRONMENTS if name != "simulated-lossy"])
def reliable_environment(request: pytest.FixtureRequest) -> Environment:
    """The environment of the scenario. It loses no datagram."""
    return ENVIRONMENTS[request.param]()
