"""Run a server of the benchmark on a reactor or on an event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.main import installReactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.reflect import namedAny

REACTORS = {
    "twisted_epoll": "twisted.internet.epollreactor.EPollReactor",
    "twisted_asyncio": "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
    "netsvc_asyncio": "netsvc.reactor.AsyncioReactor",
    "netsvc_uvloop": "netsvc.reactor.UvloopReactor",
}


def print_port(port: int) -> None:
    """Print the port for the benchmark, which reads it from this process."""
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def run_on_reactor(name: str, listen: Callable[[Any], Any]) -> None:
    """Run the reactor ``name``. ``listen`` opens a port on it and returns the port."""
    reactor = namedAny(REACTORS[name])()
    installReactor(reactor)
    # Log events are formatted and written, as twist does.
    log = open(os.devnull, "w")  # noqa: SIM115  open until the process exits
    globalLogBeginner.beginLoggingTo([textFileLogObserver(log)], redirectStandardIO=False)
    port = listen(reactor)
    reactor.callWhenRunning(print_port, port.getHost().port)
    reactor.run()


def run_on_loop(name: str, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``serve`` on uvloop if ``name`` begins with it, and on the event loop of the standard library if not."""
    if name.startswith("uvloop"):
        import uvloop

        uvloop.run(serve())
    else:
        asyncio.run(serve())


async def serve_streams(protocol: Callable[[], asyncio.Protocol], context: Any = None) -> None:
    """Serve an asyncio protocol for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=1024, ssl=context)
    print_port(server.sockets[0].getsockname()[1])
    await server.serve_forever()
