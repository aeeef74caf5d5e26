"""Calls that are due later, and may be due no more."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall


def cancel(call: IDelayedCall | None) -> None:
    """Cancel a call, unless it was never made, is done, or was cancelled before."""
    if call is not None and call.active():
        call.cancel()
