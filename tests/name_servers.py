"""A name server for tests, made of Twisted's.

As a program, it listens on a free port of 127.0.0.1, on UDP and TCP, and prints its number.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.server import DNSServerFactory

#: More servers than a datagram of 512 bytes holds, so that a client must ask again by TCP.
MANY = 40

RECORDS: dict[bytes, list[Any]] = {
    b"example.org": [dns.Record_SOA(b"ns.example.org", b"root.example.org", minimum=60)],
    b"host.example.org": [
        dns.Record_A("192.0.2.7", ttl=60),
        dns.Record_A("192.0.2.8", ttl=60),
        dns.Record_AAAA("2001:db8::7", ttl=60),
    ],
    b"v4.example.org": [dns.Record_A("192.0.2.9", ttl=60)],
    b"my_host.example.org": [dns.Record_A("192.0.2.10", ttl=60)],
    b"xn--bcher-kva.example.org": [dns.Record_A("192.0.2.11", ttl=60)],
    b"_sip._tcp.example.org": [
        dns.Record_SRV(20, 0, 5060, b"spare.example.org", ttl=300),
        dns.Record_SRV(10, 5, 5062, b"small.example.org", ttl=300),
        dns.Record_SRV(10, 95, 5061, b"big.example.org", ttl=300),
    ],
    b"_many._udp.example.org": [dns.Record_SRV(1, 0, n, b"server%d.example.org" % n, ttl=60) for n in range(1, MANY)],
    b"_none._tcp.example.org": [dns.Record_SRV(0, 0, 0, b"", ttl=60)],
}

REVERSE: dict[bytes, list[Any]] = {
    b"2.0.192.in-addr.arpa": [dns.Record_SOA(b"ns.example.org", b"root.example.org", minimum=60)],
    b"7.2.0.192.in-addr.arpa": [dns.Record_PTR(b"host.example.org", ttl=60)],
}

REVERSE_IPV6: dict[bytes, list[Any]] = {
    b"8.b.d.0.1.0.0.2.ip6.arpa": [dns.Record_SOA(b"ns.example.org", b"root.example.org", minimum=60)],
    b"7.%s.8.b.d.0.1.0.0.2.ip6.arpa" % b".".join([b"0"] * 23): [dns.Record_PTR(b"host.example.org", ttl=60)],
}


class _Zone(FileAuthority):
    """The records of one domain. The first name has its SOA record."""

    records: Any
    soa: Any

    def __init__(self, records: dict[bytes, list[Any]]) -> None:
        self.records = records
        origin, [start] = next(iter(records.items()))
        self.soa = (origin, start)
        super().__init__("")


def listen(reactor: Any, interface: str, port: int = 0) -> int:
    """Open a name server on UDP and TCP. Return its port."""
    factory = DNSServerFactory(authorities=[_Zone(records) for records in (RECORDS, REVERSE, REVERSE_IPV6)])
    factory.noisy = False
    tcp = reactor.listenTCP(port, factory, interface=interface)
    number: int = tcp.getHost().port
    reactor.listenUDP(number, dns.DNSDatagramProtocol(factory, reactor=reactor), interface=interface)
    return number


def _serve(reactor: Any) -> Deferred[None]:
    sys.stdout.write(f"listening on {listen(reactor, '127.0.0.1')}\n")
    sys.stdout.flush()
    return Deferred()


if __name__ == "__main__":
    react(_serve)
