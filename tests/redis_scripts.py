"""The Lua scripts of a Redis server in memory, run by Lua 5.1 with the conversions of Redis 7."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha1
from typing import Any

from lupa.lua51 import LuaRuntime, lua_type

from tests.redis_keyspace import NULL_ARRAY, CommandError, ErrorReply, Reply, Status, number_text

#: The source that Redis gives to every script; error messages quote it.
_SOURCE = b"@user_script"

NO_SCRIPT = "NOSCRIPT No matching script. Please use EVAL."

_PRELUDE = rb"""
local call, pcall_command, sha1hex, error_text, encode, decode, seed, fraction = ...
local getinfo, load_text, set_environment = debug.getinfo, loadstring, setfenv
local protected, pcall_function = xpcall, pcall
local type, error, tostring, unpack, rawget = type, error, tostring, unpack, rawget
local as_function = python.as_function

local function readonly() error('Attempt to modify a readonly table', 2) end
local function library(members) return setmetatable({}, {__index = members, __newindex = readonly}) end
local function text_of(err) return type(err) == 'userdata' and error_text(err) or err end

local function locate(err)
  local level = 2
  local info = getinfo(level, 'Sl')
  while info and (info.what == 'C' or info.source == '=redis') do
    level = level + 1
    info = getinfo(level, 'Sl')
  end
  if type(err) == 'userdata' then err = {err = error_text(err)} end
  if type(err) ~= 'table' then err = {err = 'ERR ' .. tostring(err)} end
  if info then err.source, err.line = info.source, info.currentline end
  return err
end

local function returned(ok, result, ...)
  if ok then return ok, result, ... end
  result = text_of(result)
  if type(result) == 'table' and type(result.err) == 'string' then result = result.err end
  return ok, result
end

local redis = {
  call = as_function(call), pcall = as_function(pcall_command), sha1hex = as_function(sha1hex),
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  log = function() end, set_repl = function() end, replicate_commands = function() return true end,
  error_reply = function(text)
    if type(text) ~= 'string' then return {err = 'ERR wrong number or type of arguments'} end
    if text:sub(1, 1) == '-' then text = text:sub(2) end
    if not text:find(' ', 1, true) then text = 'ERR ' .. text end
    return {err = text}
  end,
  status_reply = function(text)
    if type(text) ~= 'string' then return {err = 'ERR wrong number or type of arguments'} end
    return {ok = text}
  end,
}

local numbers = {}
for name, value in pairs(math) do numbers[name] = value end
numbers.randomseed = as_function(seed)
numbers.random = function(first, last)
  local fraction = fraction()
  if not first then return fraction end
  if not last then first, last = 1, first end
  if first > last then error('bad argument #1 to \'random\' (interval is empty)', 2) end
  return math.floor(fraction * (last - first + 1)) + first
end

local environment
local globals = {
  redis = library(redis), cjson = library({encode = as_function(encode), decode = as_function(decode), null = false}),
  math = library(numbers), string = library(string), table = library(table), coroutine = library(coroutine),
  pcall = function(...) return returned(pcall_function(...)) end,
  loadstring = function(text)
    local chunk, problem = load_text(text)
    if not chunk then return chunk, problem end
    return set_environment(chunk, environment)
  end,
}
for _, name in ipairs({
  'assert', 'collectgarbage', 'error', 'gcinfo', 'getmetatable', 'ipairs', 'next', 'pairs', 'rawequal', 'rawget',
  'rawset', 'select', 'setmetatable', 'tonumber', 'tostring', 'type', 'unpack', 'xpcall', '_VERSION',
}) do globals[name] = _G[name] end
setmetatable(globals, {__index = function(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end})
environment = library(globals)
globals._G = environment

local function load(text, source)
  local chunk, problem = load_text(text, source)
  if not chunk then return problem end
  return set_environment(chunk, environment)
end

local function run(chunk, keys, arguments)
  globals.KEYS, globals.ARGV = keys, arguments
  local ok, result = protected(chunk, locate)
  return ok, result
end

-- This gives the kind of a table that a script returns, and its content.
local function content(value)
  if type(rawget(value, 'err')) == 'string' then return 'err', value.err end
  if type(rawget(value, 'ok')) == 'string' then return 'ok', value.ok end
  if type(rawget(value, 'double')) == 'number' then return 'double', value.double end
  if type(rawget(value, 'map')) == 'table' then
    local pairs_of_map = {}
    for key, each in pairs(value.map) do
      pairs_of_map[#pairs_of_map + 1] = key
      pairs_of_map[#pairs_of_map + 1] = each
    end
    value = pairs_of_map
  end
  local count = 0
  while value[count + 1] ~= nil do count = count + 1 end
  if count > 1000 then return 'long', count end
  return 'array', unpack(value, 1, count)
end

return load, run, content
"""


#: The state of drand48 in a new process.
_FIRST_RANDOM_STATE = 0x1234ABCD330E


class Scripts:
    """The scripts that a server knows, by their SHA-1.

    :param run_command: runs a command of a script.
    """

    def __init__(self, run_command: Callable[[list[bytes]], Reply]) -> None:
        self._run_command = run_command
        lua = LuaRuntime(encoding=None, register_eval=False)
        self._table_from = lua.table_from
        prelude = lua.eval(b"function(text) return loadstring(text, '=redis') end")(_PRELUDE)
        called = (self._call, self._pcall, self._sha1hex, self._error_text, self._encode_json, self._decode_json)
        self._load, self._run, self._content = prelude(*called, self._seed, self._fraction)
        self._random_state = _FIRST_RANDOM_STATE
        self._functions: dict[bytes, Any] = {}
        self.without_memory: set[bytes] = set()  # scripts that may also write when the memory is full
        self._mistake: BaseException | None = None

    def load(self, text: bytes) -> bytes:
        """Compile a script unless it is known. Returns its SHA-1.

        :raises CommandError: if it is not Lua.
        """
        sha = sha1(text).hexdigest().encode()
        if sha not in self._functions:
            function = self._load(_without_shebang(text), _SOURCE)
            if isinstance(function, bytes):
                raise CommandError(b"ERR Error compiling script (new function): " + function)
            self._functions[sha] = function
            if b"allow-oom" in text.partition(b"\n")[0]:
                self.without_memory.add(sha)
        return sha

    def knows(self, sha: bytes) -> bool:
        """Return whether a script is known."""
        return sha.lower() in self._functions

    def clear(self) -> None:
        """Forget all scripts."""
        self._functions.clear()

    def restart(self) -> None:
        """Forget all scripts, and begin the random numbers anew."""
        self._functions.clear()
        self._random_state = _FIRST_RANDOM_STATE

    def run(self, sha: bytes, keys: list[bytes], arguments: list[bytes]) -> Reply:
        """Run a script.

        :raises CommandError: if it is not known or it raises an error.
        """
        sha = sha.lower()
        function = self._functions.get(sha)
        if function is None:
            raise CommandError(NO_SCRIPT)
        succeeded, value = self._run(function, self._table_from(keys), self._table_from(arguments))
        if self._mistake is not None:
            mistake, self._mistake = self._mistake, None
            raise mistake
        if succeeded:
            return self._reply(value)
        text = value[b"err"]
        if not isinstance(text, bytes):
            text = b"ERR unknown error"
        if value[b"source"] is not None:
            text += b" script: %s, on %s:%d." % (sha, value[b"source"], value[b"line"])
        raise CommandError(text)

    # What scripts call

    def _call(self, *arguments: Any) -> Any:
        return self._lua_value(self._run_command(self._texts(arguments)))

    def _pcall(self, *arguments: Any) -> Any:
        try:
            return self._lua_value(self._run_command(self._texts(arguments)))
        except CommandError as e:
            return self._table_from({b"err": e.text, b"ignore_error_stats_update": True})

    def _texts(self, arguments: tuple[Any, ...]) -> list[bytes]:
        if not arguments:
            raise CommandError("ERR Please specify at least one argument for this redis lib call")
        texts = []
        for argument in arguments:
            kind = type(argument)
            if kind is bytes:
                texts.append(argument)
            elif kind is int or kind is float:
                texts.append(number_text(argument))
            else:
                raise CommandError("ERR Lua redis lib command arguments must be strings or integers")
        return texts

    def _sha1hex(self, *arguments: Any) -> bytes:
        if len(arguments) != 1:
            raise CommandError("ERR wrong number of arguments")
        text = arguments[0]
        return sha1(text if isinstance(text, bytes) else b"%.14g" % text).hexdigest().encode()

    def _seed(self, number: float) -> None:
        self._random_state = (int(number) % 2**32 << 16) + 0x330E

    def _fraction(self) -> float:
        """Return the next random number below 1, as the copy of drand48 in Redis does."""
        self._random_state = (self._random_state * 0x5DEECE66D + 0xB) % 2**48
        return (self._random_state >> 17) % (2**31 - 1) / (2**31 - 1)

    def _error_text(self, error: BaseException) -> bytes:
        """Return the text of an exception. One that is no CommandError is a mistake in this module."""
        if isinstance(error, CommandError):
            return error.text
        self._mistake = error
        return b"ERR internal error"

    # Conversions

    def _lua_value(self, reply: Reply) -> Any:
        if type(reply) is bytes or type(reply) is int:
            return reply
        if reply is None or reply is NULL_ARRAY:
            return False
        if isinstance(reply, list):
            return self._table_from([self._lua_value(each) for each in reply])
        if isinstance(reply, Status):
            return self._table_from({b"ok": reply.text})
        raise AssertionError(f"a command returned {reply!r}")

    def _reply(self, value: Any) -> Reply:
        if type(value) is bytes:
            return value
        if value is None or value is False:
            return None
        if isinstance(value, int | float):
            # A double that does not fit becomes the smallest integer, as on x86.
            return int(value) if -(2.0**63) <= value < 2.0**63 else -(2**63)
        if lua_type(value) != "table":
            return None
        content = self._content(value)
        if type(content) is bytes:
            return []  # an array without members
        kind, *members = content
        if kind == b"array":
            return [self._reply(each) for each in members]
        if kind == b"long":
            return [self._reply(value[index + 1]) for index in range(members[0])]
        if kind == b"err":
            return ErrorReply(_one_line(members[0]))
        if kind == b"ok":
            return Status(_one_line(members[0]))
        return number_text(members[0])

    def _encode_json(self, value: Any) -> bytes:
        return (
            json.dumps(self._plain(value), separators=(",", ":"), ensure_ascii=False)
            .replace("/", "\\/")
            .encode("latin-1")
        )

    def _plain(self, value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if lua_type(value) != "table":
            return value
        items = dict(value.items())
        if items and set(items) == set(range(1, len(items) + 1)):
            return [self._plain(items[index]) for index in range(1, len(items) + 1)]
        return {self._plain(key): self._plain(each) for key, each in items.items()}

    def _decode_json(self, text: bytes) -> Any:
        return self._from_plain(json.loads(text.decode("latin-1")))

    def _from_plain(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("latin-1")
        if isinstance(value, list):
            return self._table_from([self._from_plain(each) for each in value])
        if isinstance(value, dict):
            return self._table_from({key.encode("latin-1"): self._from_plain(each) for key, each in value.items()})
        return False if value is None else value


def _without_shebang(text: bytes) -> bytes:
    """Return a script without its first line ``#!lua``. Of its flags only ``allow-oom`` counts."""
    line, newline, rest = text.partition(b"\n")
    return newline + rest if line.split()[:1] == [b"#!lua"] else text


def _one_line(text: bytes) -> bytes:
    return text.replace(b"\r", b" ").replace(b"\n", b" ")
