"""The script that Redis runs for the lease of a node.

The leases are a sorted set: for each node the time, in milliseconds of the clock of Redis, at which its lease ends.
"""

from __future__ import annotations

from netsvc.chat.redis_log_scripts import NOW
from netsvc.redis.redis_script import RedisScript

#: The first line of scripts that must work when Redis has no memory left. They free some, or need little.
WITHOUT_MEMORY = "#!lua flags=allow-oom\n"

#: Begins or renews a lease. KEYS: leases, dead nodes. ARGV: node, milliseconds. Returns whether the node has a lease;
#: whether it had one before, which is not so if Redis has lost its data; some nodes whose leases have ended; and how
#: many leases last. A lease that has ended can be renewed while no other node has begun to remove the members of the
#: node.
RENEW = RedisScript(
    WITHOUT_MEMORY
    + NOW
    + """
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {0, 0, {}, 0} end
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = now()
redis.call('ZADD', KEYS[1], time + ARGV[2], ARGV[1])
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. time, 'LIMIT', 0, 10)
return {1, before and 1 or 0, ended, #redis.call('ZRANGEBYSCORE', KEYS[1], time, '+inf')}
"""
)
