"""The scripts that Redis runs for the members of a chat. Each is done as a whole.

- ``netsvc:member:AUTHOR``, a hash: the ``node`` on which a member is, its ``nick``, the ``keys`` of the nick (see
  :meth:`netsvc.chat.names.Names.keys`) with spaces between them, what it says while it is ``away``, and for each of its
  rooms (``r:ROOM``) whether the room was told.
- ``netsvc:members:NODE``, a set: the members of a node.
- ``netsvc:nick:KEY``: which member has a nick with this key. It expires if the nick is only kept for the member.
- ``netsvc:kept:AUTHOR``: the nick that is kept, and its keys.
- ``netsvc:in:ROOM``, a hash: the nicks of the members of a room, by author.
- ``netsvc:rooms``, a sorted set: the numbers of members.
- ``netsvc:room-key:KEY``: the name of the room whose name has this key. It expires when no node renews it.
- ``netsvc:guests``: how many guests there were.
- ``netsvc:crowd:NODE:ROOM``: that the members of a dead node are summed up in a room. It expires.

A message to a node is published on ``netsvc:node:NODE``.
"""

from __future__ import annotations

from netsvc.chat.redis_log_scripts import LOG
from netsvc.chat.redis_node_scripts import WITHOUT_MEMORY
from netsvc.redis.redis_script import RedisScript

#: Milliseconds for which the name of a room is known without being renewed.
ROOM_NAME_MS = 60_000

#: Members of a room above which those of a dead node are summed up when they leave.
CROWD = 50

#: Members of a dead node that are removed at once, and rooms in which its counters are.
REAPED_AT_ONCE = 50
COUNTERS_AT_ONCE = 200

_MEMBERS = """
local function key(kind, name) return 'netsvc:' .. kind .. ':' .. name end

local function count(room)
  local members = redis.call('HLEN', key('in', room))
  if members == 0 then
    redis.call('ZREM', 'netsvc:rooms', room)
  else
    redis.call('ZADD', 'netsvc:rooms', members, room)
  end
end

local function enter_room(author, room, told, nick)
  redis.call('HSET', key('member', author), 'r:' .. room, told)
  redis.call('HSET', key('in', room), author, nick)
  count(room)
end

local function leave_room(author, room)
  redis.call('HDEL', key('member', author), 'r:' .. room)
  redis.call('HDEL', key('in', room), author)
  count(room)
end

-- The rooms of a member, each with whether it was told.
local function rooms_of(author)
  local rooms, fields = {}, redis.call('HGETALL', key('member', author))
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'r:' then rooms[#rooms + 1] = {string.sub(fields[i], 3), fields[i + 1] == '1'} end
  end
  return rooms
end

local function release(author, keys)
  for each in string.gmatch(keys or '', '%S+') do
    if redis.call('GET', key('nick', each)) == author then redis.call('DEL', key('nick', each)) end
  end
end

local function release_kept(author)
  local kept = redis.call('GET', key('kept', author))
  if kept then
    release(author, string.match(kept, '^%S+ (.*)$'))
    redis.call('DEL', key('kept', author))
  end
end

-- Why a member cannot have a nick: the nick of another one, "kept", or nothing.
local function problem(author, keys)
  for each in string.gmatch(keys, '%S+') do
    local owner = redis.call('GET', key('nick', each))
    if owner and owner ~= author then
      local taken = redis.call('HGET', key('member', owner), 'nick')
      if taken then return 'taken ' .. taken end
      if redis.call('PTTL', key('nick', each)) > 0 then return 'kept' end
    end
  end
end

local function set_nick(author, nick, keys)
  release(author, redis.call('HGET', key('member', author), 'keys'))
  release_kept(author)
  for each in string.gmatch(keys, '%S+') do redis.call('SET', key('nick', each), author) end
  redis.call('HSET', key('member', author), 'nick', nick, 'keys', keys)
  for _, room in ipairs(rooms_of(author)) do redis.call('HSET', key('in', room[1]), author, nick) end
end

local function set_node(author, node)
  redis.call('HSET', key('member', author), 'node', node)
  redis.call('SADD', key('members', node), author)
end

local function remove(author)
  local member = redis.call('HMGET', key('member', author), 'node', 'keys')
  for _, room in ipairs(rooms_of(author)) do leave_room(author, room[1]) end
  release(author, member[2])
  if member[1] then redis.call('SREM', key('members', member[1]), author) end
  redis.call('DEL', key('member', author))
end
"""

#: A node that others have found dead may do nothing more, also with what it had sent before.
_FENCE = """
if redis.call('ZSCORE', 'netsvc:dead', ARGV[1]) then return redis.error_reply('LEASE of this node is lost') end
"""

_TELL = (
    LOG
    + _MEMBERS
    + """
-- Append what happened to the log of a room, if there is one.
local function tell(room, kind, nick, text, author, bounds, time)
  local keys = {key('log', room), key('entries', room), key('retries', room), key('erased', room)}
  local log = redis.call('HMGET', keys[1], 'epoch', 'offset', 'shown')
  if not log[1] then return end
  local how = kind == 'notice' and 'shown' or 'not shown'
  local data = string.format(
    '["gone:%d","%s","%s","%s",%s,"%s",""]', log[2] + 1, kind, nick, text, time, author)
  append(keys, log, key('room', room), data, how, math.floor(tonumber(time)), '', bounds, '', nil, nil)
end
"""
)

#: Counts a guest. Returns the number.
COUNT_GUEST = RedisScript("return redis.call('INCR', 'netsvc:guests')")

#: Registers a member with all that is known of it. ARGV: node, author, nick, keys, away; for each room: name, whether
#: it was told. Returns ``registered`` and the nick, which is the one that was claimed last, whatever this node knows;
#: or ``missing`` if the member was not registered before; or ``elsewhere`` if it is on another node; or the problem
#: with its nick.
REGISTER = RedisScript(
    _MEMBERS
    + _FENCE
    + """
local node, author, nick, keys = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local there = redis.call('HGET', key('member', author), 'node')
if there and there ~= node then return 'elsewhere' end
local has_nick = there and redis.call('HGET', key('member', author), 'nick')
local why_not = not has_nick and problem(author, keys)
if why_not then return why_not end
local guest = tonumber(string.match(nick, '^guest%-(%d+)$'))
if guest and guest < 1e9 and guest > tonumber(redis.call('GET', 'netsvc:guests') or 0) then
  redis.call('SET', 'netsvc:guests', guest)
end
if has_nick then nick = has_nick else set_nick(author, nick, keys) end
set_node(author, node)
redis.call('HSET', key('member', author), 'away', ARGV[5])
local rooms = {}
for i = 6, #ARGV, 2 do
  rooms[ARGV[i]] = true
  enter_room(author, ARGV[i], ARGV[i + 1], nick)
end
for _, room in ipairs(rooms_of(author)) do
  if not rooms[room[1]] then leave_room(author, room[1]) end
end
return has_nick and 'registered ' .. nick or 'missing'
"""
)

#: Lists the members that are registered on a node. ARGV: node.
REGISTERED = RedisScript("return redis.call('SMEMBERS', 'netsvc:members:' .. ARGV[1])")

#: Gives a member another nick. ARGV: node, author, nick, keys. Returns ``claimed``; or ``missing`` if the member is not
#: registered on this node; or the problem.
CLAIM = RedisScript(
    _MEMBERS
    + _FENCE
    + """
if redis.call('HGET', key('member', ARGV[2]), 'node') ~= ARGV[1] then return 'missing' end
local why_not = problem(ARGV[2], ARGV[4])
if why_not then return why_not end
set_nick(ARGV[2], ARGV[3], ARGV[4])
return 'claimed'
"""
)

#: Makes one member another, whose session it resumes. ARGV: node, author, nick that it would like, its keys, author
#: before, nick that it has, its keys, entries_max, oldest time, time; then the rooms in which it is about to be.
#: Returns its nick, the keys, what it says while it is away, and in which of the rooms its connection to another node
#: was. Other rooms are told that it left.
ADOPT = RedisScript(
    _TELL
    + _FENCE
    + """
local node, author, before = ARGV[1], ARGV[2], ARGV[5]
local nick, keys = ARGV[3], ARGV[4]
local earlier = redis.call('HMGET', key('member', author), 'node', 'nick', 'keys', 'away')
local kept = redis.call('GET', key('kept', author))
if earlier[2] then
  nick, keys = earlier[2], earlier[3]
elseif kept then
  nick, keys = string.match(kept, '^(%S+) (.*)$')
end
local wanted, stayed = {}, {}
for i = 11, #ARGV do wanted[ARGV[i]] = true end
if earlier[1] and earlier[1] ~= node then
  for _, room in ipairs(rooms_of(author)) do
    leave_room(author, room[1])
    if room[2] and wanted[room[1]] then
      stayed[#stayed + 1] = room[1]
    elseif room[2] then
      tell(room[1], 'left', nick, 'left', author, {tonumber(ARGV[8]), tonumber(ARGV[9])}, ARGV[10])
    end
  end
  redis.call('SREM', key('members', earlier[1]), author)
  redis.call('PUBLISH', key('node', earlier[1]), 'taken\\n' .. author)
end
if before ~= author then remove(before) end
if problem(author, keys) then nick, keys = ARGV[6], ARGV[7] end
set_nick(author, nick, keys)
set_node(author, node)
return {nick, earlier[4] or '', stayed}
"""
)

#: Removes a member of a node. ARGV: node, author, milliseconds for which its nick is kept.
LEAVE = RedisScript(
    WITHOUT_MEMORY
    + _MEMBERS
    + """
local author, keep = ARGV[2], tonumber(ARGV[3])
local member = redis.call('HMGET', key('member', author), 'node', 'nick', 'keys')
if member[1] ~= ARGV[1] then return 0 end
if keep > 0 and member[2] then
  redis.call('SET', key('kept', author), member[2] .. ' ' .. member[3], 'PX', keep)
  for each in string.gmatch(member[3], '%S+') do redis.call('PEXPIRE', key('nick', each), keep) end
  redis.call('HSET', key('member', author), 'keys', '')
end
remove(author)
return 1
"""
)

#: Notes that a member is in a room. ARGV: node, author, room, whether the room was told.
JOIN = RedisScript(
    _MEMBERS
    + """
local member = redis.call('HMGET', key('member', ARGV[2]), 'node', 'nick')
if member[1] ~= ARGV[1] then return 0 end
enter_room(ARGV[2], ARGV[3], ARGV[4], member[2])
return 1
"""
)

#: Notes that a member is no longer in a room. ARGV: node, author, room.
PART = RedisScript(
    WITHOUT_MEMORY
    + _MEMBERS
    + """
if redis.call('HGET', key('member', ARGV[2]), 'node') ~= ARGV[1] then return 0 end
leave_room(ARGV[2], ARGV[3])
return 1
"""
)

#: Notes what a member says while it is away. ARGV: node, author, text.
SET_AWAY = RedisScript(
    _MEMBERS
    + """
if redis.call('HGET', key('member', ARGV[2]), 'node') ~= ARGV[1] then return 0 end
redis.call('HSET', key('member', ARGV[2]), 'away', ARGV[3])
return 1
"""
)

#: Sends a private message. ARGV: author of the sender, its nick, text, keys of the recipient's nick. Returns the nick
#: of the recipient and what it says while it is away; nothing if there is none.
WHISPER = RedisScript(
    WITHOUT_MEMORY
    + _MEMBERS
    + """
for each in string.gmatch(ARGV[4], '%S+') do
  local author = redis.call('GET', key('nick', each))
  local member = author and redis.call('HMGET', key('member', author), 'node', 'nick', 'away')
  if member and member[1] then
    local message = table.concat({'whisper', author, ARGV[2], member[2], ARGV[3]}, '\\n')
    if author == ARGV[1] or redis.call('PUBLISH', key('node', member[1]), message) > 0 then
      return {member[2], member[3] or ''}
    end
  end
end
return false
"""
)

#: Counts the members of a room. ARGV: room, how many nicks at most. Returns the number and the nicks.
MEMBERS = RedisScript(
    """
local key, limit = 'netsvc:in:' .. ARGV[1], tonumber(ARGV[2])
local number = redis.call('HLEN', key)
if number <= limit then return {number, redis.call('HVALS', key)} end
local nicks, fields = {}, redis.call('HRANDFIELD', key, limit, 'WITHVALUES')
for i = 2, #fields, 2 do nicks[i / 2] = fields[i] end
return {number, nicks}
"""
)

#: Lists the largest rooms. ARGV: how many at most. Returns the number of rooms, and names with numbers of members.
ROOMS = RedisScript(
    """
return {redis.call('ZCARD', 'netsvc:rooms'), redis.call('ZREVRANGE', 'netsvc:rooms', 0, ARGV[1] - 1, 'WITHSCORES')}
"""
)

#: Finds the room whose name looks like this one, or begins one. ARGV: name, then its keys. Returns the name.
ROOM_NAME = RedisScript(
    WITHOUT_MEMORY
    + f"""
local name = ARGV[1]
for i = 2, #ARGV do
  local known = redis.call('GET', 'netsvc:room-key:' .. ARGV[i])
  if known then
    name = known
    break
  end
end
if name == ARGV[1] then
  for i = 2, #ARGV do redis.call('SET', 'netsvc:room-key:' .. ARGV[i], name, 'PX', {ROOM_NAME_MS}) end
end
return name
"""
)

#: Removes some members of a dead node, and its counters. KEYS: leases, dead nodes. ARGV: node, entries_max, oldest
#: time, time. Returns how much is left; -1 if the node is not dead.
REAP = RedisScript(
    WITHOUT_MEMORY
    + _TELL
    + f"""
local node, bounds, time = ARGV[1], {{tonumber(ARGV[2]), tonumber(ARGV[3])}}, ARGV[4]
local lease = redis.call('ZSCORE', KEYS[1], node)
if lease and tonumber(lease) >= now() then return -1 end
redis.call('ZADD', KEYS[2], now(), node)
local crowds = {{}}
for _, author in ipairs(redis.call('SPOP', key('members', node), {REAPED_AT_ONCE})) do
  local member = redis.call('HMGET', key('member', author), 'node', 'nick')
  if member[1] == node then
    for _, room in ipairs(rooms_of(author)) do
      local crowd = key('crowd', node .. ':' .. room[1])  -- a room stays a crowd until all have left
      if room[2] and (redis.call('HLEN', key('in', room[1])) > {CROWD} or redis.call('EXISTS', crowd) == 1) then
        redis.call('SET', crowd, 1, 'PX', 60000)
        crowds[#crowds + 1] = room[1]
        crowds[room[1]] = (crowds[room[1]] or 0) + 1
      elseif room[2] then
        tell(room[1], 'left', member[2], 'left: its server failed', author, bounds, time)
      end
    end
    remove(author)
  end
end
for _, room in ipairs(crowds) do
  if crowds[room] then
    tell(room, 'notice', '', crowds[room] .. ' left: their server failed', '', bounds, time)
    crowds[room] = nil
  end
end
for _, room in ipairs(redis.call('SPOP', key('counted', node), {COUNTERS_AT_ONCE})) do
  redis.call('HDEL', key('log', room), 'n:' .. node)
end
local left = redis.call('SCARD', key('members', node)) + redis.call('SCARD', key('counted', node))
if left == 0 then
  redis.call('ZREM', KEYS[1], node)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now() - 86400000)
end
return left
"""
)

DIRECTORY_SCRIPTS = (
    *(COUNT_GUEST, REGISTER, REGISTERED, CLAIM, ADOPT, LEAVE, JOIN, PART),
    *(SET_AWAY, WHISPER, MEMBERS, ROOMS, ROOM_NAME, REAP),
)
