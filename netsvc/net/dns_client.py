"""Questions to name servers by DNS, without the system's resolver: addresses, names, and services (RFC 2782)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.internet import defer, error
from twisted.names import dns
from twisted.names.client import Resolver
from twisted.names.error import DNSNameError, DNSQueryRefusedError, DNSServerError, DomainError

from netsvc.errors import NetsvcError
from netsvc.net.reactors import Reactor
from netsvc.wire.address import HostPort
from netsvc.wire.service_record import ServiceRecord

#: The port of name servers.
DNS_PORT = 53

#: The failures of a question that no name server has answered, by UDP or, for a long answer, by TCP.
_NO_ANSWER = (defer.TimeoutError, error.TimeoutError, error.ConnectError, error.ConnectionClosed, OSError)

#: How often each name server is asked.
TRIES = 3


class NameServerError(NetsvcError):
    """No name server has answered the question. The text says why."""


class DNSClient:
    """Asks name servers.

    :param reactor: provides UDP and TCP.
    :param servers: the addresses of the name servers, in the order in which they are asked.
    :param timeout: seconds without an answer after which a question has failed.
    """

    def __init__(self, reactor: Reactor, servers: Sequence[HostPort], timeout: float) -> None:
        self._servers = servers
        addresses = [(server.host, server.port) for server in servers]
        interval = timeout / TRIES / len(servers)
        self._resolver: Any = Resolver(servers=addresses, timeout=(interval,) * TRIES, reactor=reactor)

    async def addresses(self, name: str, family: int = 0) -> list[str]:
        """Return the addresses of a host, IPv6 first.

        :param family: ``AF_INET`` or ``AF_INET6`` for the addresses of this family only; 0 for all.
        :raises NameServerError: if no name server answers.
        """
        found = []
        if family != socket.AF_INET:
            records = await self._records(self._resolver.lookupIPV6Address, name, dns.AAAA)
            found += [socket.inet_ntop(socket.AF_INET6, record.payload.address) for record in records]
        if family != socket.AF_INET6:
            records = await self._records(self._resolver.lookupAddress, name, dns.A)
            found += [record.payload.dottedQuad() for record in records]
        return found

    async def names(self, address: str) -> list[str]:
        """Return the names of an IP address.

        :raises NameServerError: if no name server answers.
        """
        question = ip_address(address.partition("%")[0]).reverse_pointer
        records = await self._records(self._resolver.lookupPointer, question, dns.PTR)
        return [_text(record.payload.name) for record in records]

    async def services(self, name: str) -> list[ServiceRecord]:
        """Return the places of a service, ``_service._protocol.domain``, in the order in which they are to be asked.

        :raises NameServerError: if no name server answers.
        """
        records = await self._records(self._resolver.lookupService, name, dns.SRV)
        found = [
            ServiceRecord(_text(srv.target), srv.port, srv.priority, srv.weight, record.ttl)
            for record in records
            for srv in [record.payload]
        ]
        return sorted(found, key=lambda record: (record.priority, -record.weight, record.target, record.port))

    async def _records(self, look_up: Callable[[str], defer.Deferred[Any]], name: str, kind: int) -> list[Any]:
        servers = ", ".join(str(server.host if server.port == DNS_PORT else server) for server in self._servers)
        try:
            answers, _, _ = await look_up(name.removesuffix("."))
        except DNSNameError:
            return []
        except _NO_ANSWER:
            raise NameServerError(f"no name server answers; asked: {servers}") from None
        except DomainError as e:
            what = {DNSServerError: "has failed", DNSQueryRefusedError: "refuses the question"}
            problem = what.get(type(e), "does not understand the question")
            raise NameServerError(f"the name server {problem}; asked: {servers}") from None
        return [record for record in answers if record.type == kind]


def _text(name: dns.Name) -> str:
    return name.name.decode("ascii", "backslashreplace")
