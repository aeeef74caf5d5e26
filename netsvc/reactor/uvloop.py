"""Installs the reactor on uvloop's event loop, by the convention of Twisted's reactor modules."""

from __future__ import annotations

from netsvc.reactor.loop import UvloopReactor


def install() -> None:
    """Make a :class:`UvloopReactor` the global reactor.

    Call it before anything imports ``twisted.internet.reactor``.

    :raises SystemExit: if uvloop is not installed; the message is one line.
    """
    UvloopReactor.install()
