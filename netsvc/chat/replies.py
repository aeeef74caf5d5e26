"""Serves the requests of members, and tells them what was refused."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.chat.chat_events import Refused
from netsvc.chat.participant import Participant
from netsvc.chat.store import StoreError
from netsvc.limits.cause import Cause
from netsvc.net.counters import Counters


class Replies:
    """Serves requests that may take time, and refuses.

    :param counters: count the refusals.
    """

    log = Logger()

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def serve(self, participant: Participant, request: Coroutine[Any, Any, None], message_id: str = "") -> None:
        """Begin with a request. If it takes time, the member's input is paused meanwhile."""
        done = Deferred.fromCoroutine(request)
        done.addErrback(self._failed, participant, message_id)
        if not done.called:
            participant.begin_wait()
            done.addBoth(lambda _: participant.end_wait())

    def _failed(self, failure: Failure, participant: Participant, message_id: str) -> None:
        if isinstance(failure.value, StoreError):
            reason = str(failure.value)
            self.refuse(participant, Cause.STORE_FAILED, f"not done: {reason}", message_id, detail=reason)
        else:
            self.log.failure("the chat failed to serve a request", failure)

    def refuse(
        self, participant: Participant, cause: Cause, text: str, message_id: str = "", *, detail: str = ""
    ) -> None:
        """Tell a member that what it asked for is not done, and why.

        :param detail: more about the cause for the log; nothing that a peer sent.
        """
        self._counters.refuse(cause, participant.member.peer, detail)
        participant.member.tell(Refused(cause, text, message_id))
