"""``netsvc lookup``: what this host knows of names."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThreadPool

from netsvc.cli.command import Command, CommandError
from netsvc.cli.console import notice
from netsvc.cli.name_service import addresses_of, host_addresses, host_name, names_of, ports_of, reach, services_of
from netsvc.wire.address import is_ip
from netsvc.wire.text import clean


class Lookup(Command):
    """Look up names, addresses, services and ports, both ways; without an argument, this host."""

    synopsis = "[NAME|ADDRESS|SERVICE|PORT]..."

    def parseArgs(self, *what: str) -> None:
        self["what"] = what

    async def run(self, reactor: Any) -> None:
        if not self["what"]:
            print(f"host name: {clean(host_name())}")
            for address in host_addresses():
                print(f"address: {address} ({reach(address)})", flush=True)
            return
        unknown = False
        for what in self["what"]:
            found = await deferToThreadPool(reactor, reactor.getThreadPool(), look_up, what)
            for line in found:
                print(clean(f"{what}: {line}"), flush=True)
            if not found:
                unknown = True
                notice(f"{what}: nothing is known")
        if unknown:
            raise CommandError  # each was said


def look_up(what: str) -> list[str]:
    """Return what is known of a name, an address, a service or a port, a line each. May block."""
    if is_ip(what):
        return [f"{reach(what)} address", *(f"name {name}" for name in names_of(what))]
    if what.isascii() and what.isdecimal():
        known = len(what) <= 5 and int(what) <= 65_535
        return [f"service {service}" for service in services_of(int(what))] if known else []
    return [
        *(f"port {port}" for port in ports_of(what)),
        *(f"address {address} ({reach(address)})" for address in addresses_of(what)),
    ]
