"""The event loop of asyncio on a simulated host: it refuses everything, and says what to write instead.

Futures, tasks and ``asyncio.sleep`` need an event loop, and no event loop runs in virtual time: code that waits for
them would wait for ever. So this loop is the running one while the events of a network run. It hides the loop of a real
reactor, such as that of pytest-twisted, which goes on when the test is over.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from netsvc.testing.not_simulated import NotSimulatedError


def _refusing(name: str) -> Callable[..., Any]:
    def refuse(_loop: object, *args: object, **_kwargs: object) -> Any:
        for argument in args:
            if inspect.iscoroutine(argument):
                argument.close()  # otherwise, Python warns that it was never awaited
        raise NotSimulatedError(
            f"asyncio (loop.{name}) does not run in virtual time; in the code of a simulated host, write "
            "'await deferLater(host.reactor, seconds)' of twisted.internet.task instead of asyncio.sleep, a Deferred "
            "instead of a future, and 'Deferred.fromCoroutine(...)' instead of a task"
        )

    return refuse


_METHODS = [name for name, _ in inspect.getmembers(asyncio.AbstractEventLoop, callable) if not name.startswith("_")]

#: The loop. Its methods raise :class:`NotSimulatedError`.
REFUSING_LOOP: asyncio.AbstractEventLoop = type(
    "RefusingLoop",
    (asyncio.AbstractEventLoop,),
    # asyncio.current_task, and so a TaskGroup, asks for the hash of the loop.
    {**{name: _refusing(name) for name in _METHODS}, "__hash__": _refusing("current_task")},
)()
