"""The requests of a chat client that wait for being sent, and those that the server has not confirmed yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from twisted.python.failure import Failure

from netsvc.chat.chat_connection import request_line
from netsvc.chat.client import ChatClient, NotSaidError
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Act, Join, Leave, Say

#: Requests that wait for being sent. A longer paste is refused.
WAITING_MAX = 10_000

#: Lines that are sent and not confirmed yet. The server reads as many at once; more would only wait at the server,
#: where they cannot be dropped any more.
UNCONFIRMED_MAX = 10

#: As long as the IDs that the client gives to its lines.
_LONGEST_ID = "x" * 20

#: A request whose order matters.
Ordered = Say | Act | Join | Leave


def check_length(request: Ordered) -> None:
    """Check that a request fits into a line, with an ID.

    :raises MessageError: if it is too long.
    """
    request_line(request, _LONGEST_ID)


class ChatOutbox:
    """Sends lines, and moves between rooms, in their order and at the pace of the server.

    :param client: sends them.
    :param changed: called when the server has confirmed or refused a line.
    :param not_said: called with one line about a line that was not said, or of which this is unknown.
    """

    def __init__(self, client: ChatClient, changed: Callable[[], object], not_said: Callable[[str], object]) -> None:
        self._client = client
        self._changed = changed
        self._not_said = not_said
        self._waiting: deque[Ordered] = deque()
        self._unconfirmed = 0

    @property
    def unsent(self) -> int:
        """How many lines the server has not confirmed yet."""
        return self._waiting_lines + self._unconfirmed

    @property
    def has_waiting(self) -> bool:
        """Whether requests wait for being sent."""
        return bool(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no more requests should be read from a pipe."""
        return len(self._waiting) >= UNCONFIRMED_MAX

    def add(self, requests: Sequence[Ordered]) -> None:
        """Let requests wait. :meth:`send` sends them.

        :raises MessageError: if there are too many. Then none is added.
        """
        if len(self._waiting) + len(requests) > WAITING_MAX:
            raise MessageError(f"at most {WAITING_MAX:,} lines can wait; nothing of this was sent")
        self._waiting.extend(requests)

    def send(self) -> None:
        """Send what waits, in order. A room that is to be joined waits for a connection; the client keeps lines."""
        while self._waiting and self._unconfirmed < UNCONFIRMED_MAX:
            request = self._waiting[0]
            if isinstance(request, Join | Leave) and not self._client.is_connected:
                break
            self._waiting.popleft()
            try:
                self._send(request)
            except MessageError as e:
                self._report(Failure(e), request)

    def drop(self) -> int:
        """Drop what waits. Return how many lines were among it."""
        count = self._waiting_lines
        self._waiting.clear()
        return count

    @property
    def _waiting_lines(self) -> int:
        return sum(isinstance(each, Say | Act) for each in self._waiting)

    def _send(self, request: Ordered) -> None:
        if isinstance(request, Join | Leave):
            self._client.request(request)
            return
        said = self._client.say(request.text) if isinstance(request, Say) else self._client.act(request.text)
        self._unconfirmed += 1
        said.addCallbacks(lambda _: None, self._report, errbackArgs=(request,))
        said.addCallback(lambda _: self._confirmed())

    def _confirmed(self) -> None:
        self._unconfirmed -= 1
        self._changed()

    def _report(self, failure: Failure, request: Ordered) -> None:
        failure.trap(NotSaidError, MessageError)
        is_unknown = isinstance(failure.value, NotSaidError) and failure.value.cause is None
        outcome = "it is unknown whether this was sent" if is_unknown else "not sent"
        self._not_said(f"{outcome}: {getattr(request, 'text', '')[:64]}: {failure.value}")
