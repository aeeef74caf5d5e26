"""One protocol by itself: an echo server and its client in one program, which checks one echo and ends.

python one_protocol.py
"""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.task import react

from netsvc import EchoClient, EchoFactory, Terms


async def main(reactor: Any) -> None:
    """Serve on a free port of 127.0.0.1, send one request, and stop."""
    factory = EchoFactory(Terms.on(reactor))
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    server = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    client = await connectProtocol(server, EchoClient(reactor))
    echo = await client.ask(b"hello")
    print(f"{echo.data.decode()} came back")
    client.transport.loseConnection()
    await port.stopListening()
    await factory.drain(timeout=5.0)


if __name__ == "__main__":
    react(main)
