"""The default rate and idle limits of chat members."""

from __future__ import annotations

#: Lines per second, and lines at once, of one member. This is more than a person types, and less than makes the send
#: queues of the others overflow.
CHAT_RATE = 5.0
CHAT_BURST = 10

#: Members of one host (an IPv4 address or IPv6 /64) that may each use the full rate. If there are more, they share what
#: this many may say, whether or not the others talk. Otherwise one host could use its 64 connections to say 64 times as
#: much.
FULL_RATE_MEMBERS = 8

#: Seconds that the lines of a member must wait at its rate for the member to be told.
MENTIONED_DELAY = 1.0

#: Seconds without a line after which a member is disconnected, and seconds before that at which it is warned.
CHAT_IDLE_TIMEOUT = 150.0
WARNING_TIME = 30.0
