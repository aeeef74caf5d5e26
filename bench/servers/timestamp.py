"""UDP timestamp servers: ``python -m bench.servers.timestamp NAME``. The naive ones answer every datagram.

All of them format the time once a second.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from twisted.internet.protocol import DatagramProtocol

from bench.servers.run import print_port, run_on_loop, run_on_reactor


class Timestamp:
    """The timestamp at the beginning of an answer."""

    second = 0
    prefix = b""

    def current(self) -> bytes:
        second = int(time.time())  # noqa: TID251  this server has no clock argument
        if second != self.second:
            self.second = second
            self.prefix = b"[%s] " % time.ctime(second).encode()
        return self.prefix


class NaiveTimestamp(DatagramProtocol):
    """A Twisted protocol without limits."""

    transport: Any
    timestamp = Timestamp()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(self.timestamp.current() + datagram, addr)


class AsyncioNaiveTimestamp(asyncio.DatagramProtocol):
    """The same server on asyncio."""

    timestamp = Timestamp()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(self.timestamp.current() + data, addr)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(AsyncioNaiveTimestamp, ("127.0.0.1", 0))
    print_port(transport.get_extra_info("sockname")[1])
    await asyncio.Event().wait()


def listen_naive(reactor: Any) -> Any:
    return reactor.listenUDP(0, NaiveTimestamp(), "127.0.0.1")


def listen_netsvc(reactor: Any) -> Any:
    """Listen with netsvc's service as ``--udp PORT`` does. Its guard admits every request of this load."""
    from netsvc import DatagramGuard, SourceBuckets, Terms, TimestampProtocol
    from netsvc.net.listening import datagram_listener

    guard = DatagramGuard(SourceBuckets(rate=1e6, burst=1_000_000, total=1e9))
    terms = Terms.on(reactor)
    listener = datagram_listener(reactor, "udp", "0", lambda: TimestampProtocol(terms, guard), 1400)
    listener.startService()
    return listener.ports[0]


def main(name: str) -> None:
    if name.startswith("netsvc_timestamp_"):
        reactor = name.removeprefix("netsvc_timestamp_")
        run_on_reactor("twisted_epoll" if reactor == "epoll" else f"netsvc_{reactor}", listen_netsvc)
    elif name.endswith("_protocol"):
        run_on_loop(name, _serve)
    else:
        run_on_reactor(name, listen_naive)


if __name__ == "__main__":
    main(*sys.argv[1:])
