"""A place of a service, as DNS knows it (RFC 2782)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """One place of a service: an SRV record.

    :ivar target: the name of the host.
    :ivar priority: hosts with the lowest number are asked first.
    :ivar weight: the share of this host among those of the same priority.
    :ivar ttl: seconds for which the record is valid.
    """

    target: str
    port: int
    priority: int
    weight: int
    ttl: int
