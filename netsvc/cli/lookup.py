"""``netsvc lookup``: look up names, addresses, services and ports."""

from __future__ import annotations

from dataclasses import dataclass

import click
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from netsvc.cli.command import Command, CommandError
from netsvc.cli.console import notice
from netsvc.cli.name_service import (
    address_kind,
    addresses_of,
    host_addresses,
    host_name,
    names_of,
    ports_of,
    services_of,
)
from netsvc.cli.parameters import CONTEXT_SETTINGS
from netsvc.net.reactors import Reactor
from netsvc.wire.address import is_ip
from netsvc.wire.text import clean


@dataclass
class Lookup(Command):
    """What to look up. Without a subject, this host is described."""

    subjects: tuple[str, ...]

    async def run(self, reactor: Reactor) -> None:
        if not self.subjects:
            print(f"host name: {clean(host_name())}")
            for address in host_addresses():
                print(f"address: {address} ({address_kind(address)})", flush=True)
            return
        threads = IReactorThreads(reactor)
        all_found = True
        for subject in self.subjects:
            found = await deferToThreadPool(threads, threads.getThreadPool(), look_up, subject)
            for line in found:
                print(clean(f"{subject}: {line}"), flush=True)
            if not found:
                all_found = False
                notice(f"{subject}: not found")
        if not all_found:
            raise CommandError


def look_up(subject: str) -> list[str]:
    """Return one line for each fact about a name, an address, a service or a port. This may block."""
    if is_ip(subject):
        return [f"{address_kind(subject)} address", *(f"name {name}" for name in names_of(subject))]
    if subject.isascii() and subject.isdecimal():
        is_port = len(subject) <= 5 and int(subject) <= 65_535
        return [f"service {service}" for service in services_of(int(subject))] if is_port else []
    return [
        *(f"port {port}" for port in ports_of(subject)),
        *(f"address {address} ({address_kind(address)})" for address in addresses_of(subject)),
    ]


COMMAND = click.Command(
    "lookup",
    callback=Lookup,
    context_settings=CONTEXT_SETTINGS,
    short_help="Look up names, addresses, services and ports.",
    help=(
        "Look up the addresses of a name, the names of an address, the ports of a service and the services of a port. "
        "Without an argument, print the name and the addresses of this host."
    ),
    params=[click.Argument(["subjects"], metavar="[NAME|ADDRESS|SERVICE|PORT]...", nargs=-1)],
)
