"""The scripts that Redis runs for the logs of rooms. Each is done as a whole.

A log is a hash with its ``epoch``, the last ``offset``, the ``first`` offset that is kept, the ``topic``, whether
something is ``shown`` in a history, whether it was set back (``forked``), and the last counter of each node
(``n:NODE``). Its entries are a stream, whose ids are the offsets. Beside them are the offsets by what retries are
recognised by, and the entries whose texts were erased.
"""

from __future__ import annotations

from netsvc.redis.redis_script import RedisScript

#: The time of Redis, in milliseconds. All leases are compared with it, never with the clock of a node.
NOW = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""

#: Functions that scripts share. ``keys``: log, entries, retries, erased.
LOG = (
    NOW
    + """
local function begin(keys, epoch)
  redis.call('DEL', keys[2], keys[3], keys[4])
  redis.call('HSET', keys[1], 'epoch', epoch, 'offset', 0, 'first', 1)
end

-- A log that is in use expires after its age, or never. That is set once a minute.
local function keep(keys, age)
  local left = redis.call('PTTL', keys[1])
  if age > 0 and left > age - 60000 and left > 60000 or age == 0 and left < 0 then return end
  for _, key in ipairs(keys) do
    if age > 0 then redis.call('PEXPIRE', key, age) else redis.call('PERSIST', key) end
  end
end

-- The tag of an entry; empty if the entry is no longer kept.
local function tag_at(keys, offset)
  local found = redis.call('XRANGE', keys[2], offset, offset)
  local data = found[1] and found[1][2][2] or redis.call('HGET', keys[4], offset)
  return data and string.match(data, '^%["([^"]*)"') or ''
end

-- Forget the oldest entries: some at once, so that a lower bound takes effect step by step.
local function trim(keys, offset, entries_max, oldest)
  local first
  for _, each in ipairs(redis.call('XRANGE', keys[2], '-', '+', 'COUNT', 4)) do
    local place = tonumber(string.match(each[1], '^%d+'))
    local is_old = entries_max > 0 and place <= offset - entries_max or tonumber(each[2][4]) < oldest
    if not is_old or place == offset then
      break
    end
    first = place + 1
    if each[2][6] then redis.call('HDEL', keys[3], each[2][6]) end
  end
  if first then
    redis.call('XTRIM', keys[2], 'MINID', '=', first .. '-0')
    if redis.call('EXISTS', keys[4]) == 1 then
      local before = tonumber(redis.call('HGET', keys[1], 'first') or first)
      for place = before, first - 1 do
        local data = redis.call('HGET', keys[4], place)
        if data then
          redis.call('HDEL', keys[4], place)
          local author, id = string.match(data, '"([^"]*)","([^"]*)"%]$')
          if id and id ~= '' then redis.call('HDEL', keys[3], author .. ':' .. id) end
        end
      end
    end
    redis.call('HSET', keys[1], 'first', first)
  end
end

-- Append an entry to a log of which epoch, offset and shown are known. Return its offset and the epoch.
local function append(keys, log, channel, data, how, time, retry, bounds, epoch, field, counter)
  if log[1] then epoch = log[1] else begin(keys, epoch) end
  local offset = (tonumber(log[1] and log[2]) or 0) + 1
  local fields = {'offset', offset}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if field then set(field, counter) end
  if how ~= 'not shown' and not (log[1] and log[3]) then set('shown', 1) end
  if how == 'topic' then set('topic', offset .. ' ' .. data) end
  redis.call('HSET', keys[1], unpack(fields))
  if how == 'no topic' then redis.call('HDEL', keys[1], 'topic') end
  if retry == '' then
    redis.call('XADD', keys[2], offset .. '-0', 'e', data, 't', time)
  else
    redis.call('XADD', keys[2], offset .. '-0', 'e', data, 't', time, 'r', retry)
    redis.call('HSET', keys[3], retry, offset)
  end
  trim(keys, offset, bounds[1], bounds[2])
  redis.call('PUBLISH', channel, epoch .. ' ' .. offset .. ' ' .. data)
  return offset, epoch
end
"""
)

#: Appends the entry of a node. KEYS: log, entries, retries, erased, leases, rooms in which the node has a counter.
#: ARGV: node, counter, its lowest counter without an answer, data, how, time, retry, entries_max, oldest time, channel,
#: epoch of a new log, room.
APPEND = RedisScript(
    LOG
    + """
local node, counter, retry = ARGV[1], tonumber(ARGV[2]), ARGV[7]
local lease = redis.call('ZSCORE', KEYS[5], node)
if not lease or tonumber(lease) < now() then
  return redis.error_reply('LEASE of this node is lost')
end
local keys = {KEYS[1], KEYS[2], KEYS[3], KEYS[4]}
local field = 'n:' .. node
local log = redis.call('HMGET', keys[1], 'epoch', 'offset', 'shown', field)
local last = tonumber(log[4] or 0)
local function earlier(answer)
  local offset = retry ~= '' and redis.call('HGET', keys[3], retry)
  if not offset then return false end
  local found = redis.call('XRANGE', keys[2], offset, offset)
  local data = found[1] and found[1][2][2] or redis.call('HGET', keys[4], offset)
  return data and {answer, tonumber(offset), log[1], data}
end
if counter <= last then
  return earlier('seen') or {'seen'}
end
if counter ~= last + 1 and counter ~= tonumber(ARGV[3]) then
  return redis.error_reply('COUNTER ' .. last + 1 .. ' is expected')
end
if last == 0 then redis.call('SADD', KEYS[6], ARGV[12]) end
local repeated = earlier('retry')
if repeated then
  redis.call('HSET', keys[1], field, counter)
  return repeated
end
local bounds = {tonumber(ARGV[8]), tonumber(ARGV[9])}
local offset, epoch = append(keys, log, ARGV[10], ARGV[4], ARGV[5], ARGV[6], retry, bounds, ARGV[11], field, counter)
return {'new', offset, epoch}
"""
)

#: Begins a subscription. KEYS: log, entries, retries, erased. ARGV: epoch of a new log, milliseconds until the log
#: expires. Returns the tag of the last entry, and the fields of the log.
BEGIN = RedisScript(
    LOG
    + """
if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then begin(KEYS, ARGV[1]) end
keep(KEYS, tonumber(ARGV[2]))
return {tag_at(KEYS, redis.call('HGET', KEYS[1], 'offset')), redis.call('HGETALL', KEYS[1])}
"""
)

#: Compares positions with logs. KEYS: log, entries, retries, erased of each room. ARGV: epoch of a new log,
#: milliseconds until a log expires; for each room: epoch, offset, tag, node. Returns for each: epoch, last offset, last
#: counter of the node.
#: A log that ends before the position, or has another entry there, was set back: it gets another epoch.
CHECK = RedisScript(
    LOG
    + """
local answers = {}
for i = 1, #KEYS / 4 do
  local keys = {KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]}
  local epoch, offset, tag, node = ARGV[4 * i - 1], tonumber(ARGV[4 * i]), ARGV[4 * i + 1], ARGV[4 * i + 2]
  local log = redis.call('HMGET', keys[1], 'epoch', 'offset', 'n:' .. node)
  if not log[1] then
    begin(keys, ARGV[1])
    log = {ARGV[1], 0, false}
  end
  keep(keys, tonumber(ARGV[2]))
  if log[1] == epoch then
    local there = ''
    if tag ~= '' and tonumber(log[2]) >= offset then there = tag_at(keys, offset) end
    if tonumber(log[2]) < offset or there ~= '' and there ~= tag then
      redis.call('HSET', keys[1], 'epoch', ARGV[1], 'forked', 1)
      log[1] = ARGV[1]
    end
  end
  answers[i] = {log[1], tonumber(log[2]), tonumber(log[3] or 0)}
end
return answers
"""
)

#: Reads entries. KEYS: log, entries, retries, erased. ARGV: offset before the first, how many at most.
#: Returns the epoch, the last offset of the log, and pairs of offset and data.
READ = RedisScript(
    """
local log = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'first')
if not log[1] then return {'', 0, {}} end
local last = tonumber(log[2])
local from = math.max(tonumber(ARGV[1]) + 1, tonumber(log[3]))
local to = math.min(last, from + tonumber(ARGV[2]) - 1)
local answer = {}
if from <= to then
  local has_erased = redis.call('EXISTS', KEYS[4]) == 1
  local place = from
  local function add_erased(until_place)
    while place <= until_place do
      local data = has_erased and redis.call('HGET', KEYS[4], place)
      if data then answer[#answer + 1] = {place, data} end
      place = place + 1
    end
  end
  for _, each in ipairs(redis.call('XRANGE', KEYS[2], from, to)) do
    local offset = tonumber(string.match(each[1], '^%d+'))
    add_erased(offset - 1)
    answer[#answer + 1] = {offset, each[2][2]}
    place = offset + 1
  end
  add_erased(to)
end
return {log[1], last, answer}
"""
)

#: Finds the entry of which a draft is a retry. KEYS: log, entries, retries, erased. ARGV: retry. Returns the epoch, the
#: offset and the data; nothing if there is none.
FIND = RedisScript(
    """
local offset = redis.call('HGET', KEYS[3], ARGV[1])
if not offset then return false end
local found = redis.call('XRANGE', KEYS[2], offset, offset)
local data = found[1] and found[1][2][2] or redis.call('HGET', KEYS[4], offset)
return data and {redis.call('HGET', KEYS[1], 'epoch'), tonumber(offset), data}
"""
)

#: Erases a text. KEYS: log, entries, retries, erased. ARGV: offset, the entry without its text, milliseconds until the
#: log expires.
ERASE = RedisScript(
    LOG
    + """
if redis.call('XDEL', KEYS[2], ARGV[1] .. '-0') == 1 then
  redis.call('HSET', KEYS[4], ARGV[1], ARGV[2])
  keep(KEYS, tonumber(ARGV[3]))
end
return 1
"""
)

#: Ends a subscription: a log in which is nothing that a history shows ends after a minute, unless it is used again.
#: KEYS: log, entries, retries, erased.
END = RedisScript(
    """
if redis.call('HEXISTS', KEYS[1], 'shown') == 0 then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 60000) end
end
return 1
"""
)

LOG_SCRIPTS = (APPEND, BEGIN, CHECK, READ, FIND, ERASE, END)
