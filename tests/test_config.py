from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from netsvc import Config, ConfigError
from netsvc.limits.stream_limits import StreamLimits
from netsvc.server.config import SETTINGS

GOPHER = "--probe 'gopher/x': 'gopher' is neither stamp, udp, udp-echo, tcp nor tls; write stamp/x"


def test_by_default_it_echoes_on_1314_and_sends_timestamps_on_520() -> None:
    assert (Config().tcp, Config().udp, Config().chat) == (("1314",), ("520",), ())


def test_a_service_that_is_named_is_the_only_one() -> None:
    config = Config(chat=["1400"])
    assert (config.tcp, config.udp, config.chat) == ((), (), ("1400",))


def test_a_target_without_a_service_opens_no_default_port() -> None:
    config = Config(probe=["host"])
    assert (config.tcp, config.udp) == ((), ())
    assert [str(target) for target in config.probe_targets] == ["stamp/host:862"]
    assert Config(probe=["host"], udp=["1"]).udp == ("1",)


def test_it_is_frozen_and_hashable_and_a_changed_copy_is_easy() -> None:
    config = Config(tcp=["1"])
    with pytest.raises(FrozenInstanceError):
        config.reply = "x"  # type: ignore[misc]
    assert hash(config) == hash(replace(config))
    assert replace(config, drain_timeout=1).drain_timeout == 1


def test_every_setting_has_a_meaning_and_a_group() -> None:
    assert all(setting.meaning and setting.group for setting in SETTINGS.values())


def test_the_limits_of_a_connection_are_its_own() -> None:
    config = Config(queue_max=70_000, stall_timeout=2, close_timeout=3)
    assert config.limits == StreamLimits(queue_max=70_000, stall_timeout=2, close_timeout=3)
    assert Config().limits == StreamLimits()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tcp": "1314"}, """--tcp '1314': a list of strings is needed; write ["1314"]"""),
        ({"probe": ["gopher/x"]}, GOPHER),
        ({"probe": ["tcp/h"]}, "--probe 'tcp/h': the port is missing; write tcp/h:443"),
        ({"probe": [""]}, "--probe '': the host is missing; write HOST:PORT"),
        ({"probe": ["h", "stamp/h:862"]}, "--probe stamp/h:862: the target is named twice; remove one of them"),
        ({"probe": "h"}, """--probe 'h': a list of strings is needed; write ["h"]"""),
        ({"probe_interval": 2}, "--probe-interval 2: there is no target; add --probe"),
        (
            {"probe": ["h"], "probe_interval": 0},
            "--probe-interval 0: out of range; choose 0.01 to 3600 seconds",
        ),
        ({"framing": "line"}, "--framing line: an echo has no messages to frame; add --reply"),
        ({"reply": "x", "chat": ["1"]}, "--reply 'x': no service acknowledges messages; add --tcp"),
        ({"queue_max": 65_535}, "--queue-max 65535: smaller than the transport's own buffer; give 65536 or more, or 0"),
        ({"reply": 5}, '--reply 5: a string is needed; write "5"'),
        ({"metrics": 9100}, '--metrics 9100: a string is needed; write "9100"'),
        ({"tcp": [1314]}, """--tcp [1314]: a list of strings is needed; write ["1314"]"""),
        ({"tcp": None}, """--tcp None: a list of strings is needed; write ["1314"]"""),
        (
            {"allow": ["nonsense"]},
            "--allow nonsense: neither a network nor an address; write it as 192.0.2.0/24 or 2001:db8::1",
        ),
        (
            {"deny": ["ftp=::1"]},
            "--deny ftp=::1: there is no service 'ftp'; the services are tcp, udp, udp-echo, chat, web, discard, "
            "chargen, stamp, daytime, time and metrics",
        ),
        ({"allow": "192.0.2.0/24"}, """--allow '192.0.2.0/24': a list of strings is needed; write ["192.0.2.0/24"]"""),
        ({"framing": None}, "--framing None: the choices are raw and line; choose one of them"),
        ({"udp_rate": None}, "--udp-rate None: not a number; give a number from 0, which means no limit"),
        ({"framing": "words"}, "--framing words: the choices are raw and line; choose one of them"),
        ({"udp_rate": -1}, "--udp-rate -1: out of range; give a number from 0, which means no limit"),
        ({"udp_rate": float("nan")}, "--udp-rate nan: out of range; give a number from 0, which means no limit"),
        ({"udp_total": float("inf")}, "--udp-total inf: out of range; give a number from 0, which means no limit"),
        ({"queue_max": 1.5}, "--queue-max 1.5: not a whole number; give a whole number from 0, which means no limit"),
        ({"queue_max": True}, "--queue-max True: not a whole number; give a whole number from 0, which means no limit"),
        (
            {"chat": ["1"], "chat_replay": -1},
            "--chat-replay -1: out of range; give a whole number from 0, which means none",
        ),
        (
            {"receive_buffer": -1},
            "--receive-buffer -1: out of range; give a whole number from 0, which means the kernel's own size",
        ),
        ({"probe_interval": -1}, "--probe-interval -1: out of range; give a number above 0"),
        ({"drain_timeout": "5"}, "--drain-timeout 5: not a number; give a number from 0, which means no limit"),
        ({"reuse_port": 1}, "--reuse-port 1: neither True nor False; give one of them"),
        (
            {"chat": ["1"], "chat_store": "nowhere"},
            "--chat-store nowhere: there is no such store; write memory, sqlite:PATH or redis://HOST:6379/0",
        ),
        (
            {"chat": ["1"], "chat_store": "redis://:secret@db"},
            "--chat-store redis://***@db: the URL contains a user or a password; remove it, and give the password by "
            "NETSVC_REDIS_PASSWORD or a credentials file",
        ),
        ({"chat_store": "redis://db"}, "--chat-store redis://db: there is no chat; add --chat or --web"),
        (
            {"chat": ["1"], "chat_store_credentials": "f"},
            "--chat-store-credentials f: there is no Redis; add --chat-store redis://HOST",
        ),
        (
            {"chat": ["1"], "chat_store": "redis://db", "chat_store_ca": "f"},
            "--chat-store-ca f: the connection has no TLS; write rediss://HOST",
        ),
        (
            {"chat": ["1"], "reuse_port": True},
            "--reuse-port: each process would have a chat of its own; add --chat-store redis://HOST, which all "
            "processes share",
        ),
        ({"reply": "{x}"}, "--reply '{x}': {x} is not a field; write {message}, {peer}, {time}, or {{ for a brace"),
    ],
)
def test_a_value_without_a_meaning_is_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        Config(**settings)
    assert str(refusal.value) == message
    assert isinstance(refusal.value, ValueError)
