"""The results of ``netsvc lookup``: a line for people, and an object for programs."""

from __future__ import annotations

from dataclasses import dataclass

from netsvc.cli.name_service import address_kind
from netsvc.linux.interface_addresses import InterfaceAddress
from netsvc.linux.services_database import NamedService
from netsvc.wire.address import format_address
from netsvc.wire.service_record import ServiceRecord


@dataclass(frozen=True, slots=True)
class Result:
    """Something that was found.

    :ivar text: one line for people.
    :ivar fields: the same for programs.
    """

    text: str
    fields: dict[str, object]


def host_result(name: str) -> Result:
    """Return the result that this host has a name."""
    return Result(f"host name: {name}", {"type": "host", "name": name})


def interface_result(found: InterfaceAddress) -> Result:
    """Return the result that an interface of this host has an address."""
    address, kind = found.address, address_kind(found.address)
    peer = f" peer {found.peer}" if found.peer else ""
    return Result(
        f"address: {address}{peer}/{found.prefix_length} on {found.interface}, scope {found.scope} ({kind})",
        {
            "type": "interface_address",
            "interface": found.interface,
            "address": address,
            "family": _family_name(address),
            "prefix_length": found.prefix_length,
            "scope": found.scope,
            "peer": found.peer,
            "kind": kind,
        },
    )


def address_result(subject: str, address: str) -> Result:
    """Return the result that ``subject`` is or has an address."""
    kind = address_kind(address)
    return Result(
        f"{subject}: {kind} address" if subject == address else f"{subject}: address {address} ({kind})",
        {
            "type": "address",
            "subject": subject,
            "address": address,
            "family": _family_name(address),
            "kind": kind,
        },
    )


def name_result(address: str, name: str) -> Result:
    """Return the result that an address has a name."""
    return Result(f"{address}: name {name}", {"type": "name", "subject": address, "name": name})


def port_result(subject: str, service: NamedService) -> Result:
    """Return the result that the service ``subject`` has a port."""
    return Result(f"{subject}: port {service.port}/{service.protocol}", _service_fields(subject, service))


def service_result(subject: str, service: NamedService) -> Result:
    """Return the result that the port ``subject`` has a service."""
    aliases = f" ({', '.join(service.aliases)})" if service.aliases else ""
    text = f"{subject}: service {service.name}/{service.protocol}{aliases}"
    return Result(text, _service_fields(subject, service))


def server_result(subject: str, record: ServiceRecord) -> Result:
    """Return the result that the service ``subject`` of a domain has a server."""
    where = format_address(record.target, record.port)
    return Result(
        f"{subject}: server {where}, priority {record.priority}, weight {record.weight}",
        {
            "type": "srv",
            "subject": subject,
            "target": record.target,
            "port": record.port,
            "priority": record.priority,
            "weight": record.weight,
            "ttl": float(record.ttl),
        },
    )


def _service_fields(subject: str, service: NamedService) -> dict[str, object]:
    return {
        "type": "service",
        "subject": subject,
        "service": service.name,
        "aliases": list(service.aliases),
        "port": service.port,
        "protocol": service.protocol,
    }


def _family_name(address: str) -> str:
    return "ipv6" if ":" in address else "ipv4"
