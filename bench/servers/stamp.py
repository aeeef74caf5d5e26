"""UDP timestamp servers: ``python -m bench.servers.stamp NAME``. The naive ones answer whatever comes.

All of them format the time once a second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from twisted.internet.protocol import DatagramProtocol

from bench.servers.run import on_loop, on_reactor, said


class Stamp:
    """The time, as it stands before an answer."""

    second = 0
    prefix = b""

    def now(self) -> bytes:
        second = int(time.time())  # noqa: TID251  a server that takes no clock
        if second != self.second:
            self.second = second
            self.prefix = b"[%s] " % time.ctime(second).encode()
        return self.prefix


class Naive(DatagramProtocol):
    """The classic."""

    transport: Any
    stamp = Stamp()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(self.stamp.now() + datagram, addr)


class LoopNaive(asyncio.DatagramProtocol):
    """The same of asyncio's."""

    stamp = Stamp()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(self.stamp.now() + data, addr)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(LoopNaive, ("127.0.0.1", 0))
    said(transport.get_extra_info("sockname")[1])
    await asyncio.Event().wait()


def naive(reactor: Any) -> Any:
    return reactor.listenUDP(0, Naive(), "127.0.0.1")


def netsvc_stamp(reactor: Any) -> Any:
    """netsvc's, on the default path of ``--udp PORT``, with its guard, which admits every request of this load."""
    from netsvc import DatagramGuard, SourceBuckets, Terms, TimestampProtocol
    from netsvc.net.listening import datagram_listener

    guard = DatagramGuard(SourceBuckets(rate=1e6, burst=1_000_000, total=1e9))
    terms = Terms.on(reactor)
    listener = datagram_listener(reactor, "udp", "0", lambda: TimestampProtocol(terms, guard), 1400)
    listener.startService()
    return listener.ports[0]


def main(name: str) -> None:
    if name.startswith("netsvc_stamp_"):
        reactor = name.removeprefix("netsvc_stamp_")
        on_reactor("twisted_epoll" if reactor == "epoll" else f"netsvc_{reactor}", netsvc_stamp)
    elif name.endswith("_protocol"):
        on_loop(name, _serve)
    else:
        on_reactor(name, naive)


if __name__ == "__main__":
    main(*sys.argv[1:])
