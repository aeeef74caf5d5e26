"""Loads and installs the reactors, or says in one line why they cannot be used here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from netsvc.reactor.private_names import ReactorUnavailableError, check

#: The classes of reactors, and their modules. The modules can be imported only where the reactors can be used.
MODULES = {"AsyncioReactor": "netsvc.reactor.asyncio_reactor", "UvloopReactor": "netsvc.reactor.uvloop_reactor"}


def reactor_class(name: str) -> Any:
    """Import the class of a reactor.

    :raises ReactorUnavailableError: if the reactors cannot be used here.
    """
    check()
    return getattr(import_module(MODULES[name]), name)


def install_reactor(name: str) -> None:
    """Create a reactor and make it the global one.

    :raises SystemExit: if the reactor cannot be used here; the message is one line.
    """
    try:
        reactor = reactor_class(name)()
    except ReactorUnavailableError as e:
        raise SystemExit(str(e)) from None
    from twisted.internet.main import installReactor

    installReactor(reactor)
