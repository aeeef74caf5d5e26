"""Whether there is a terminal for a screen, and the reactor that prompt_toolkit needs for it."""

from __future__ import annotations

import os
from importlib.util import find_spec


def has_screen() -> bool:
    """Return whether standard input and output are a terminal for a full screen, and prompt_toolkit is there."""
    return os.isatty(0) and output_moves_cursor() and find_spec("prompt_toolkit") is not None


def output_moves_cursor() -> bool:
    """Return whether standard output is a terminal that can write over what it shows."""
    return os.isatty(1) and os.environ.get("TERM", "dumb") not in ("", "dumb")


def install_asyncio_reactor() -> None:
    """Install a reactor on an asyncio loop. Call it before anything imports ``twisted.internet.reactor``."""
    from netsvc.reactor import asyncio, uvloop

    try:
        (uvloop if find_spec("uvloop") else asyncio).install()
    except SystemExit:  # not on this system, or not with this Twisted
        from twisted.internet import asyncioreactor

        asyncioreactor.install()
