from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from netsvc.chat.sqlite_file import APPLICATION, open_log_file
from netsvc.server.config import Config
from netsvc.server.start_check import problems_of
from netsvc.server.start_plan import HostFacts, conflicts_in, describe, warnings_about, without_inherited_sockets

EVERY_ADDRESS = "every address of this host, IPv4 and IPv6"


def test_it_lists_the_services_with_their_addresses() -> None:
    config = Config(tcp=["1314", "127.0.0.1:0"], udp=["[::1]:520"], chat=["unix:/run/c"], metrics="9100")
    assert list(describe(config)) == [
        f"tcp: port 1314 of {EVERY_ADDRESS}",
        "tcp: a free port of 127.0.0.1",
        "udp: port 520 of ::1",
        "chat: unix:/run/c",
        "metrics: port 9100 of 127.0.0.1",
        "store of the chat: memory",
    ]


def test_it_lists_the_settings_that_differ_from_their_defaults() -> None:
    config = Config(
        chat=["1"], allow=["192.0.2.0/24", "chat=::1"], udp_rate=0.5, max_connections=9, log_connections=True
    )
    assert list(describe(config))[2:] == [
        "--log-connections",
        "--allow 192.0.2.0/24, chat=::1 (default: every network)",
        "--max-connections 9 (default: open-file limit less 64)",
        "--udp-rate 0.5 (default: 100)",
    ]


def test_the_store_in_redis_is_named_without_asking_it() -> None:
    config = Config(chat=["1"], chat_store="redis://redis.example.org")
    assert "store of the chat: redis://redis.example.org:6379/0" in list(describe(config))


def test_it_lists_the_targets_and_no_default_services_beside_them() -> None:
    config = Config(probe=["192.0.2.1", "tcp/[2001:db8::1]:443"], probe_interval=0.5)
    assert list(describe(config)) == [
        "probe: stamp/192.0.2.1:862, every 0.5 s",
        "probe: tcp/[2001:db8::1]:443, every 0.5 s",
    ]


@pytest.mark.parametrize(
    ("first", "places"),
    [
        (1024, ["--tcp 443", "--udp 520", "--chat ssl:444:privateKey=k"]),
        (444, ["--tcp 443"]),
        (0, []),
    ],
)
def test_it_warns_of_ports_that_need_root(first: int, places: list[str]) -> None:
    config = Config(tcp=["443", "unix:/x", "0"], udp=["520"], chat=["ssl:444:privateKey=k"], daytime=["1300"])
    warnings = list(warnings_about(config, HostFacts(first_free_port=first)))
    assert [line.partition(": port")[0] for line in warnings] == places
    assert all("needs root, CAP_NET_BIND_SERVICE" in line for line in warnings)


def test_it_warns_of_addresses_that_the_host_does_not_have() -> None:
    facts = HostFacts(addresses=("127.0.0.1", "192.0.2.1", "::1", "fe80::1%eth0"))
    mine = ["192.0.2.1:1", "127.0.0.9:1", "[::1]:1", "[fe80::1%eth0]:1", "1", "0.0.0.0:2", "tcp:3:interface=192.0.2.1"]
    assert list(warnings_about(Config(tcp=mine), facts)) == []
    others = ["192.0.2.2:1", "[2001:db8::1]:1", "tcp:3:interface=192.0.2.3"]
    warnings = list(warnings_about(Config(tcp=others), facts))
    assert [line.partition(": this")[0] for line in warnings] == [f"--tcp {text}" for text in others]


def test_it_warns_of_sockets_that_only_systemd_can_pass() -> None:
    config = Config(tcp=["systemd:domain=INET6:name=web", "1314"])
    [warning] = warnings_about(config, HostFacts())
    assert warning.startswith("--tcp systemd:domain=INET6:name=web: systemd must pass this socket")
    assert list(warnings_about(config, HostFacts(inherits_sockets=True))) == []
    assert without_inherited_sockets(config)["tcp"] == ("127.0.0.1:0", "1314")


def test_it_warns_of_more_connections_than_files() -> None:
    [warning] = warnings_about(Config(max_connections=5_000), HostFacts(connections_max=4_032))
    assert warning.startswith("--max-connections 5000: the open-file limit allows 4,032; raise it")


@pytest.mark.parametrize(
    ("settings", "conflict"),
    [
        ({"tcp": ["1314"], "chat": ["127.0.0.1:1314"]}, "--chat 127.0.0.1:1314: already used by --tcp 1314"),
        ({"tcp": ["0.0.0.0:1", "127.0.0.1:1"]}, "--tcp 127.0.0.1:1: already used by --tcp 0.0.0.0:1"),
        ({"tcp": ["[::]:1", "127.0.0.1:1"]}, "--tcp 127.0.0.1:1: already used by --tcp [::]:1"),
        ({"tcp": ["127.0.0.1:9100"], "metrics": "9100"}, "--metrics 127.0.0.1:9100: already used by --tcp"),
        ({"udp": ["520", "520"]}, "--udp 520: already used by --udp 520"),
    ],
)
def test_two_services_cannot_have_one_port(settings: dict[str, list[str]], conflict: str) -> None:
    [found] = conflicts_in(Config(**settings))  # type: ignore[arg-type]  # the fields have several types
    assert found.startswith(conflict)
    assert found.endswith("; choose another port or address")


@pytest.mark.parametrize(
    "settings",
    [
        {"tcp": ["1314"], "udp": ["1314"]},
        {"tcp": ["127.0.0.1:1"], "chat": ["127.0.0.2:1"]},
        {"tcp": ["0.0.0.0:1", "[::1]:1"]},
        {"tcp": ["0", "0"]},
        {"tcp": ["1", "1"], "reuse_port": True},
        {"tcp": ["unix:a", "unix:b"]},
    ],
)
def test_different_addresses_transports_and_free_ports_do_not_conflict(settings: dict[str, list[str]]) -> None:
    assert list(conflicts_in(Config(**settings))) == []  # type: ignore[arg-type]  # as above


def test_a_store_that_can_be_opened_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    config = Config(chat=["1"], chat_store=f"sqlite:{path}")
    assert list(problems_of(config)) == []
    assert list(tmp_path.iterdir()) == []
    open_log_file(str(path)).close()
    assert list(problems_of(config)) == []
    opened = open_log_file(str(path))  # by a server that runs
    assert list(problems_of(config)) == []
    opened.close()


def test_a_store_that_cannot_be_opened_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not SQLite\n")
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute(f"PRAGMA application_id = {APPLICATION + 1}")
        other.execute("CREATE TABLE t (x)")
    other.close()
    for name, problem in [
        ("none/chat.db", "there is no such folder; make it"),
        ("text/chat.db", "there is no such folder; make it"),
        ("text", "is not a database; name another file"),
        ("other", "is a database of another program; name another file"),
        ("", "is a folder; name a file in it"),
    ]:
        path = os.path.join(tmp_path, name)
        config = Config(chat=["1"], chat_store=f"sqlite:{path}")
        assert list(problems_of(config)) == [f"--chat-store sqlite:{path}: {path}: {problem}"]


def test_a_folder_that_does_not_exist_has_no_socket(tmp_path: Path) -> None:
    where = f"unix:{tmp_path}/none/socket:mode=660"
    [problem] = problems_of(Config(tcp=[where, f"unix:{tmp_path}/socket"]))
    assert problem == f"--tcp {where}: there is no folder {tmp_path}/none; make it, or choose another path"
