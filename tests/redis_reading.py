"""Asks a real Redis, with a blocking socket."""

from __future__ import annotations

import socket
from typing import Any

import hiredis

from netsvc.chat.redis_entries import TaggedEntry, decode_entry
from netsvc.redis.redis_protocol import pack_command

#: Seconds that an answer may take.
SECONDS = 20.0


def redis_reply(port: int, *command: bytes | str | int) -> Any:
    """Send one command to a Redis on 127.0.0.1 and return its answer.

    :raises RuntimeError: if Redis answers with an error.
    """
    with socket.create_connection(("127.0.0.1", port), SECONDS) as opened:
        opened.sendall(pack_command(command))
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            data = opened.recv(1 << 16)
            if not data:
                raise ConnectionError("Redis closed the connection")
            reader.feed(data)
    if isinstance(reply, hiredis.ReplyError):
        raise RuntimeError(str(reply))
    return reply


def log_in_redis(port: int, room: str) -> list[TaggedEntry]:
    """Return the log of a room, as Redis has it."""
    epoch = redis_reply(port, "HGET", f"netsvc:log:{room}", "epoch")
    found = redis_reply(port, "XRANGE", f"netsvc:entries:{room}", "-", "+")
    return [decode_entry(room, epoch.decode(), int(place.split(b"-")[0]), fields[1]) for place, fields in found]
