"""The facts about this host and this user that limit a server: ports, addresses, connections, sockets of systemd's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from netsvc.cli.name_service import host_addresses
from netsvc.limits.file_limit import default_max_connections
from netsvc.server.start_plan import HostFacts

#: The lowest port that every user may open, unless the system says otherwise.
UNPRIVILEGED = 1024

#: The number of CAP_NET_BIND_SERVICE (capabilities(7)).
_BIND_SERVICE = 10


def host_facts() -> HostFacts:
    """Return the facts about this host and this user."""
    return HostFacts(
        first_free_port=0 if _may_open_every_port() else _first_unprivileged_port(),
        addresses=tuple(host_addresses()),
        connections_max=default_max_connections(),
        inherits_sockets=os.environ.get("LISTEN_PID") == str(os.getpid()),
    )


def _may_open_every_port() -> bool:
    with suppress(OSError, ValueError, IndexError):  # not Linux
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return bool(int(status.split("CapEff:")[1].split()[0], 16) >> _BIND_SERVICE & 1)
    return os.geteuid() == 0


def _first_unprivileged_port() -> int:
    with suppress(OSError, ValueError):
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    return UNPRIVILEGED
