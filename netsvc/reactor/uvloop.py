"""Installs the reactor on uvloop's event loop, by the convention of Twisted's reactor modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netsvc.reactor.installing import install_reactor, reactor_class

if TYPE_CHECKING:
    from netsvc.reactor.uvloop_reactor import UvloopReactor


__all__ = ["UvloopReactor", "install"]


def install() -> None:
    """Make a :class:`UvloopReactor` the global reactor.

    Call it before anything imports ``twisted.internet.reactor``.

    :raises SystemExit: if uvloop is not installed, or the system or Twisted lacks what the reactor needs; the
        message is one line.
    """
    install_reactor("UvloopReactor")


def __getattr__(name: str) -> Any:
    if name == "UvloopReactor":  # Scrapy looks for the class beside install()
        return reactor_class("UvloopReactor")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
