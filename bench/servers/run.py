"""How a server of the comparison is run: on one of Twisted's reactors or on an event loop."""

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


def said(port: int) -> None:
    """Print the port, for whoever started this."""
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def on_reactor(name: str, listen: Callable[[Any], Any]) -> None:
    """Run the reactor of that name; ``listen`` opens a port with it and returns the port."""
    reactor = namedAny(REACTORS[name])()
    installReactor(reactor)
    # What is logged is formatted and written, as it is by twist.
    globalLogBeginner.beginLoggingTo([textFileLogObserver(open(os.devnull, "w"))], redirectStandardIO=False)  # noqa: SIM115  until the end
    port = listen(reactor)
    reactor.callWhenRunning(said, port.getHost().port)
    reactor.run()


def on_loop(name: str, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``serve`` on the standard library's event loop or on uvloop's, whichever the name begins with."""
    if name.startswith("uvloop"):
        import uvloop

        uvloop.run(serve())
    else:
        asyncio.run(serve())


async def serve_streams(protocol: Callable[[], asyncio.Protocol], context: Any = None) -> None:
    """Serve a protocol of asyncio's for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=1024, ssl=context)
    said(server.sockets[0].getsockname()[1])
    await server.serve_forever()
