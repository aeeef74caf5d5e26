"""``netsvc check``: which ports of a host can be reached from here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click
from click import UsageError

from netsvc.check.check_target import CheckTargetError, parse_check_target
from netsvc.check.finding import Finding, used_finding
from netsvc.check.host_check import AT_ONCE, HostCheck
from netsvc.cli.check_report import Table, fields_of
from netsvc.cli.command import Command, CommandError, explain
from netsvc.cli.console import print_line
from netsvc.cli.json_lines import json_line
from netsvc.cli.name_service import port_of
from netsvc.cli.parameters import CONTEXT_SETTINGS, address_family, family_options, json_option, wait_option
from netsvc.net.host_names import resolve
from netsvc.net.reactors import Reactor
from netsvc.net.server_tls import CertificateError, load_certificates
from netsvc.wire.address import AddressError, HostPort, is_ip, parse_address


@dataclass
class Check(Command):
    """A host, and what to check there."""

    where: str
    targets: tuple[str, ...]
    ipv4: bool
    ipv6: bool
    timeout: float
    as_json: bool
    ca: str | None

    def __post_init__(self) -> None:
        if self.ca is not None:
            _check_authorities(self.ca)
        self._host = _host(self.where)
        address_family(self.ipv4, self.ipv6)
        try:
            self._targets = [parse_check_target(text, port_of) for text in self.targets]
        except CheckTargetError as e:
            raise UsageError(str(e)) from None

    async def run(self, reactor: Reactor) -> None:
        addresses = await self._addresses(reactor)
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        table = Table(self.targets, addresses, width)
        every_address = self.ipv4 or self.ipv6
        all_open = True
        check = HostCheck(reactor, self._host, addresses, self.timeout, self.ca or "")
        async for findings in check.findings(self._targets):
            shown = findings if every_address else [used_finding(findings)]
            all_open &= all(finding.is_open for finding in shown)
            for line in self._lines(table, shown, findings, reactor.seconds()):
                print_line(line)
        if not all_open:
            raise CommandError

    def _lines(self, table: Table, shown: Sequence[Finding], findings: Sequence[Finding], now: float) -> list[str]:
        if self.as_json:
            return [json_line(fields_of(finding, self._host)) for finding in shown]
        others = [finding for finding in findings if finding not in shown]
        return [line for finding in shown for line in table.rows(finding, others, now)]

    async def _addresses(self, reactor: Reactor) -> list[str]:
        """Return the addresses of the host, of the family that was chosen."""
        try:
            found = await resolve(reactor, self._host)
        except Exception as e:
            raise CommandError(explain(e, HostPort(self._host, 0))) from None
        chosen = [address for address in found if not (self.ipv4 or self.ipv6) or (":" in address) == self.ipv6]
        if not chosen:
            family, flag = ("IPv6", "-6") if self.ipv6 else ("IPv4", "-4")
            raise CommandError(f"{self._host}: it has no {family} address; leave out {flag}")
        return chosen


def _check_authorities(path: str) -> None:
    try:
        load_certificates(path)
    except CertificateError as e:
        raise UsageError(f"--ca {path}: {e}; name a PEM file with certificates") from None


def _host(text: str) -> str:
    """Parse a host name or an IP address, with or without brackets."""
    address = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if is_ip(address):
        return address
    if text.isdecimal():  # the system would take it for an IPv4 address
        raise UsageError(f"{text}: the host is missing; write HOST tcp/{text}")
    if "/" in text:
        raise UsageError(f"{text}: the host comes first; write HOST {text}")
    try:
        host = parse_address(f"{text}:1").host or ""
    except AddressError:
        host = ""
    if host:
        return host
    try:
        where = parse_address(text)
    except AddressError:
        raise UsageError(f"{text!r} is not a host; write a name or an IP address") from None
    raise UsageError(f"{text}: the port follows the host; write {where.host} tcp/{where.port}")


COMMAND = click.Command(
    "check",
    callback=Check,
    context_settings=CONTEXT_SETTINGS,
    short_help="Check which ports of a host can be reached.",
    help=(
        "Check which ports of HOST can be reached from here. A TARGET is tcp/PORT, tls/PORT (TCP with a TLS "
        "handshake), udp/PORT, or PORT alone, which means tcp/PORT. PORT may be the name of a service. All addresses "
        "of HOST are tried, and the first that is open is shown; with -4 or -6, every address of that family is. The "
        f"exit status is 0 if all that is shown is open, and 1 if not. At most {AT_ONCE} sockets are open at once."
    ),
    params=[
        click.Argument(["where"], metavar="HOST"),
        click.Argument(["targets"], metavar="TARGET...", nargs=-1, required=True),
        *family_options(),
        wait_option(3.0, "Seconds to wait for a connection, for a handshake and for an answer to a datagram."),
        click.Option(
            ["--ca"],
            type=click.Path(),
            metavar="FILE",
            help="Trust the authorities in this PEM file instead of those of the system.",
        ),
        json_option(),
    ],
)
