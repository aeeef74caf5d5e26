"""The log prefix of the descriptor whose event is being handled, computed only if something is logged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.python import context
from twisted.python.log import ILogContext


class LogContext:
    """An entry of the stack of :mod:`twisted.python.context`.

    Twisted's ``callWithLogger`` asks for the prefix and builds two dicts for each event. This entry does both only when
    something is logged. It never changes, so a thread that is started meanwhile can keep it.

    :param selectable: the descriptor whose event is being handled.
    :param below: the log context without this entry.
    """

    __slots__ = ("_below", "_selectable")

    def __init__(self, selectable: Any, below: Mapping[str, Any]) -> None:
        self._selectable = selectable
        self._below = below

    def __getitem__(self, key: object) -> dict[str, Any]:
        """Return the log context below, with the prefix of the descriptor as its system.

        :raises KeyError: if ``key`` is not :class:`~twisted.python.log.ILogContext`.
        """
        if key is not ILogContext:
            raise KeyError(key)
        try:
            prefix = self._selectable.logPrefix()
        except Exception:
            prefix = "(buggy logPrefix method)"  # as Twisted says it
        return {**self._below, "system": prefix}


def current_log_context() -> Mapping[str, Any]:
    """Return the log context of the calling thread."""
    current: Mapping[str, Any] = context.get(ILogContext)
    return current
