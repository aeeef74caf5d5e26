"""``netsvc lookup``: look up names, addresses, services and ports."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import click
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from netsvc.cli.command import Command, CommandError
from netsvc.cli.console import notice, print_line
from netsvc.cli.json_lines import json_line
from netsvc.cli.lookup_results import (
    Result,
    address_result,
    host_result,
    interface_result,
    name_result,
    port_result,
    server_result,
    service_result,
)
from netsvc.cli.name_service import addresses_of, host_name, name_servers, names_of
from netsvc.cli.parameters import CONTEXT_SETTINGS, address_family, family_options, json_option, wait_option
from netsvc.linux.interface_addresses import interface_addresses
from netsvc.linux.services_database import PROTOCOLS, services_at, services_named
from netsvc.net.error_words import failure_words
from netsvc.net.name_resolver import ascii_name
from netsvc.net.reactors import Reactor
from netsvc.wire.address import AddressError, HostPort, family_of, is_ip, parse_address

_PORT = re.compile(r"([0-9]{1,5})(?:/([a-z]+))?")
_SERVICE = re.compile(r"([^/]+)/([a-z]+)")
_MISSING: dict[int, str] = {0: "not found", socket.AF_INET: "no IPv4 address", socket.AF_INET6: "no IPv6 address"}
_SERVICE_RECORD = re.compile(r"_[^.]+\._[^.]+\..+")  # RFC 2782


class NotFoundError(CommandError):
    """Something was not found. The text says what."""


@dataclass
class Lookup(Command):
    """The subjects to look up. Without one, this host is described."""

    subjects: tuple[str, ...]
    ipv4: bool
    ipv6: bool
    name_server: str | None
    timeout: float
    as_json: bool

    def __post_init__(self) -> None:
        self._family = address_family(self.ipv4, self.ipv6)
        self._name_server = parse_name_server(self.name_server) if self.name_server else None

    async def run(self, reactor: Reactor) -> None:
        if not self.subjects:
            self._print(describe_host(self._family))
            return
        all_found = True
        for subject in self.subjects:
            try:
                self._print(await self._look_up(reactor, subject))
            except NotFoundError as e:
                all_found = False
                notice(str(e))
        if not all_found:
            raise CommandError

    def _print(self, results: Iterable[Result]) -> None:
        for result in results:
            print_line(json_line(result.fields) if self.as_json else result.text)

    async def _look_up(self, reactor: Reactor, subject: str) -> list[Result]:
        """Return what is known about a subject.

        :raises NotFoundError: if nothing is known.
        """
        if is_ip(subject):
            self._print([address_result(subject, subject)])
            return await self._look_up_names(reactor, subject)
        if match := _PORT.fullmatch(subject):
            return look_up_port(subject, int(match[1]), match[2] or "")
        if match := _SERVICE.fullmatch(subject):
            return look_up_service(subject, match[1], match[2])
        try:
            name = ascii_name(subject)
        except UnicodeError:
            name = ""
        if not name:
            raise NotFoundError(f"{subject or '(empty)'}: not found; this is not a host name")
        if _SERVICE_RECORD.fullmatch(name):
            return await self._look_up_service_records(reactor, subject, name)
        return await self._look_up_name(reactor, subject, name)

    async def _look_up_names(self, reactor: Reactor, address: str) -> list[Result]:
        if self._name_server:
            names = await self._ask_name_servers(reactor, address, lambda client: client.names(address))
        else:
            names = await _in_thread(reactor, names_of, address)
        if not names:
            raise NotFoundError(f"{address}: no name found")
        return [name_result(address, name) for name in names]

    async def _look_up_name(self, reactor: Reactor, subject: str, name: str) -> list[Result]:
        services = [] if self._name_server else services_named(name)
        family = self._family
        if self._name_server:
            addresses = await self._ask_name_servers(reactor, subject, lambda client: client.addresses(name, family))
        else:
            addresses = await _in_thread(reactor, addresses_of, name, family)
        if not services and not addresses:
            raise NotFoundError(f"{subject}: {_MISSING[family]}")
        found = [port_result(subject, service) for service in services]
        return found + [address_result(subject, address) for address in addresses]

    async def _look_up_service_records(self, reactor: Reactor, subject: str, name: str) -> list[Result]:
        records = await self._ask_name_servers(reactor, subject, lambda client: client.services(name))
        if not records:
            raise NotFoundError(f"{subject}: no SRV record found")
        if [record.target for record in records] == [""]:  # RFC 2782: the service is decidedly not available
            raise NotFoundError(f"{subject}: the domain does not offer this service")
        return [server_result(subject, record) for record in records]

    async def _ask_name_servers(self, reactor: Reactor, subject: str, question: Callable[[Any], Any]) -> Any:
        """Return the answer to a question to the name servers.

        :param question: puts it to a client.
        """
        from netsvc.net.dns_client import DNS_PORT, DNSClient, NameServerError  # which takes 50 ms

        servers = [self._name_server] if self._name_server else [HostPort(host, DNS_PORT) for host in name_servers()]
        try:
            return await question(DNSClient(reactor, servers, self.timeout))
        except NameServerError as e:
            raise NotFoundError(f"{subject}: {e}") from None


def parse_name_server(text: str) -> HostPort:
    """Parse ``ADDRESS`` or ``ADDRESS:PORT``. Without a port, it is that of DNS."""
    if is_ip(text):
        return HostPort(text, 53)
    try:
        where = parse_address(text)
    except AddressError:
        where = HostPort(None, 0)
    if where.host is None or not is_ip(where.host) or not where.port:
        raise click.UsageError(f"--name-server {text}: not an IP address; write ADDRESS or ADDRESS:PORT")
    return where


async def _in_thread(reactor: Reactor, function: Callable[..., list[str]], *args: Any) -> list[str]:
    threads = IReactorThreads(reactor)
    return await deferToThreadPool(threads, threads.getThreadPool(), function, *args)


def describe_host(family: int) -> list[Result]:
    """Return the name and the addresses of this host.

    :param family: the address family; 0 for all.
    :raises CommandError: if the system does not tell.
    """
    try:
        addresses = interface_addresses()
    except OSError as e:
        raise CommandError(f"the addresses of this host: {failure_words(e)}") from None
    found = [interface_result(each) for each in addresses if family in (0, family_of(each.address))]
    return [host_result(host_name()), *found]


def look_up_port(subject: str, port: int, protocol: str) -> list[Result]:
    """Return the services at a port.

    :param protocol: one protocol; empty for all.
    :raises NotFoundError: if there are none.
    """
    services = services_at(port, protocol) if port <= 65_535 and protocol in ("", *PROTOCOLS) else []
    if not services:
        raise NotFoundError(f"{subject}: no service has this port")
    return [service_result(subject, service) for service in services]


def look_up_service(subject: str, name: str, protocol: str) -> list[Result]:
    """Return the port of a service with one protocol.

    :raises NotFoundError: if there is none.
    """
    services = services_named(name, protocol) if protocol in PROTOCOLS else []
    if not services:
        raise NotFoundError(f"{subject}: no such service")
    return [port_result(subject, service) for service in services]


COMMAND = click.Command(
    "lookup",
    callback=Lookup,
    context_settings=CONTEXT_SETTINGS,
    short_help="Look up names, addresses, services and ports.",
    help=(
        "Look up the addresses of a name, the names of an address, the ports of a service, the services of a port, and "
        "the servers of _SERVICE._PROTOCOL.DOMAIN (SRV). A port or a service may have a protocol: 443/tcp. Without an "
        "argument, print the name and the addresses of this host. If something is not found, the exit status is 1."
    ),
    params=[
        click.Argument(["subjects"], metavar="[NAME|ADDRESS|SERVICE|PORT]...", nargs=-1),
        *family_options(),
        click.Option(
            ["--name-server"],
            metavar="ADDRESS[:PORT]",
            help="Ask this name server by DNS, not the resolver of the system.",
        ),
        wait_option(5.0, "Seconds without an answer of a name server after which a question by DNS has failed."),
        json_option(),
    ],
)
