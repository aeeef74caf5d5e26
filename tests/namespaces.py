"""Programs in namespaces of their own, with other addresses, routes and names. They need no rights of root."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

#: Words before a command that runs it in a new namespace, without any interface that is up.
NAMESPACE = ("unshare", "--map-root-user", "--net", "--mount")


@cache
def _refusal() -> str:
    """Return why this host makes no namespaces; nothing if it does."""
    try:
        done = subprocess.run(
            [*NAMESPACE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, timeout=20, check=False
        )
    except OSError as e:
        return str(e)
    return done.stderr if done.returncode else ""


def namespace(commands: str = "") -> tuple[str, ...]:
    """Return the words before a command that runs it in a new namespace, after some commands of the shell.

    The test is skipped if this host makes no namespaces.
    """
    if reason := _refusal():
        pytest.skip(f"this host makes no namespace: {reason}")
    return (*NAMESPACE, "sh", "-ec", f'{commands}\nexec "$@"', "sh") if commands else NAMESPACE


#: A link of which nobody answers.
_LINK = """
ip link set lo up
ip tuntap add silent mode tun
ip link set silent up
ip address add 192.0.2.200/24 dev silent
ip address add 2001:db8::200/64 dev silent nodad
"""


def with_hosts(hosts: Path) -> tuple[str, ...]:
    """Return the words before a command that runs it where ``hosts`` is the file /etc/hosts.

    There is a link to 192.0.2.0/24 and 2001:db8::/64, on which nothing is ever answered.
    """
    return namespace(f"{_LINK}\nmount --bind {hosts} /etc/hosts")
