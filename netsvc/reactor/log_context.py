"""The log prefix of the descriptor whose event is being handled, computed only if something is logged."""

from __future__ import annotations

from typing import Any

from twisted.python.log import ILogContext


class LogContext:
    """An entry of the stack of :mod:`twisted.python.context`.

    Twisted's ``callWithLogger`` asks for the prefix and builds two dicts for each event. This entry does both only when
    something is logged.

    :param contexts: the stack that this entry is pushed onto.
    :ivar selectable: the descriptor whose event is being handled.
    """

    __slots__ = ("_contexts", "selectable")

    def __init__(self, contexts: list[Any]) -> None:
        self._contexts = contexts
        self.selectable: Any = None

    def __getitem__(self, key: object) -> dict[str, Any]:
        """Return the log context, which is that of the entries below with the prefix of the descriptor as its system.

        :raises KeyError: if ``key`` is not :class:`~twisted.python.log.ILogContext`.
        """
        if key is not ILogContext:
            raise KeyError(key)
        try:
            prefix = self.selectable.logPrefix()
        except Exception:
            prefix = "(buggy logPrefix method)"  # as Twisted says it
        below: dict[str, Any] = {}
        for context in reversed(self._contexts[: self._contexts.index(self)]):
            try:
                below = context[ILogContext]
                break
            except KeyError:
                continue
        return {**below, "system": prefix}
