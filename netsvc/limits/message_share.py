"""How many messages one connection may process in a reactor iteration, while others have more to process as well."""

from __future__ import annotations

#: Messages of one peer per reactor iteration. Without this bound 65,536 empty lines in one read would delay all other
#: connections.
MESSAGES_PER_ITERATION = 64

#: Messages of all peers per reactor iteration, if more than eight have that many. 512 acknowledged lines take 6 ms.
MESSAGES_OF_ALL = 512


class MessageShare:
    """Divides the messages of a reactor iteration among the connections that have more to process.

    Every one of them gets its share in each iteration. The services of one server share it.

    :ivar busy: connections that have more to process in the next iteration. They count themselves.
    """

    def __init__(self) -> None:
        self.busy = 0

    def messages(self) -> int:
        """Return how many messages one connection may process now."""
        return max(1, min(MESSAGES_PER_ITERATION, MESSAGES_OF_ALL // (self.busy + 1)))
