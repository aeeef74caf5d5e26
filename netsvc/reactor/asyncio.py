"""Installs the reactor on the standard library's event loop, by the convention of Twisted's reactor modules."""

from __future__ import annotations

from netsvc.reactor.loop import AsyncioReactor


def install() -> None:
    """Make an :class:`AsyncioReactor` the global reactor.

    Call it before anything imports ``twisted.internet.reactor``.
    """
    AsyncioReactor.install()
