"""The error of what the simulated network cannot do."""

from __future__ import annotations

from netsvc.errors import NetsvcError


class NotSimulatedError(NetsvcError, RuntimeError):
    """The simulated network cannot do this."""
