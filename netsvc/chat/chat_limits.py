"""The default limits of a chat as a whole. Those of one member are in :mod:`netsvc.chat.pace`."""

from __future__ import annotations

#: Entries that the log of a room keeps, and seconds for which it keeps them.
HISTORY_MAX = 10_000
HISTORY_AGE = 7 * 86_400.0

#: Entries that a member sees when it joins a room: the default, and the most.
REPLAY = 20
REPLAY_MAX = 1_000

#: How many rooms there may be, and how many of them members of one host may have opened.
ROOMS_MAX = 1_024
ROOMS_PER_HOST = 64

#: Deliveries per second of the whole chat.
DELIVERIES_RATE = 50_000.0
