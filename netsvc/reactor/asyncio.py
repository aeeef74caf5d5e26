"""Installs the reactor on the standard library's event loop, by the convention of Twisted's reactor modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netsvc.reactor.installing import install_reactor, reactor_class

if TYPE_CHECKING:
    from netsvc.reactor.asyncio_reactor import AsyncioReactor


__all__ = ["AsyncioReactor", "install"]


def install() -> None:
    """Make an :class:`AsyncioReactor` the global reactor.

    Call it before anything imports ``twisted.internet.reactor``.

    :raises SystemExit: if the system or Twisted lacks what the reactor needs; the message is one line.
    """
    install_reactor("AsyncioReactor")


def __getattr__(name: str) -> Any:
    if name == "AsyncioReactor":  # Scrapy looks for the class beside install()
        return reactor_class("AsyncioReactor")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
