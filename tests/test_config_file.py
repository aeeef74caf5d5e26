from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from netsvc.server.config import DEFAULTS, SETTINGS, Config
from netsvc.server.config_file import ConfigFileError, parse_config, read_config_file


def test_the_keys_are_the_flags_with_dashes_or_underscores() -> None:
    text = 'tcp = ["1314", "[::1]:1"]\nudp-rate = 5\nmax_per_host = 3\nlog-connections = true\nreply = "ok"'
    assert Config(**parse_config(text)) == Config(
        tcp=["1314", "[::1]:1"], udp_rate=5, max_per_host=3, log_connections=True, reply="ok"
    )


def test_every_setting_may_be_in_the_file() -> None:
    examples = {
        "listen": '["1"]',
        "networks": '["::1"]',
        "names": '["a"]',
        "number": "1.5",
        "whole number": "1",
        "switch": "true",
        "text": '"x"',
    }
    lines = [f"{name.replace('_', '-')} = {examples[setting.kind]}" for name, setting in SETTINGS.items()]
    assert set(parse_config("\n".join(lines))) == set(DEFAULTS)


def test_a_key_that_is_no_setting_is_returned_if_it_is_expected() -> None:
    assert parse_config('reactor = "epoll"', ("reactor",)) == {"reactor": "epoll"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("udp-rat = 1", "udp-rat: there is no such key; write udp-rate"),
        ("nonsense = 1", "nonsense: there is no such key; netsvc serve --help lists the flags, which are the keys"),
        ("[tls]\ncert = 'x'", "tls: a table; write lines such as udp-rate = 20, without tables"),
        ("udp-rate = 1\nudp_rate = 2", "udp_rate: written twice, with - and with _; remove one of them"),
        ("tcp = 1314", 'tcp: 1314 is not a list of strings; write tcp = ["1314"]'),
        ('tcp = "1314"', 'tcp: "1314" is not a list of strings; write tcp = ["1314"]'),
        ("tcp = [1314, 1315]", 'tcp: [1314, 1315] is not a list of strings; write tcp = ["1314", "1315"]'),
        ("tcp = [[]]", 'tcp: [[]] is not a list of strings; write tcp = ["1314"]'),
        ("allow = true", 'allow: true is not a list of strings; write allow = ["192.0.2.0/24"]'),
        ("metrics = 9100", 'metrics: 9100 is not a string; write metrics = "9100"'),
        ("framing = true", 'framing: true is not a string; write framing = "raw"'),
        ('udp-rate = "fast"', 'udp-rate: "fast" is not a number; write udp-rate = 2.5'),
        ("udp-rate = true", "udp-rate: true is not a number; write udp-rate = 2.5"),
        ("udp-burst = 1.5", "udp-burst: 1.5 is not a whole number; write udp-burst = 100"),
        ("reuse-port = 1", "reuse-port: 1 is neither true nor false; write reuse-port = true"),
        ("udp-rate = {a = 1}", "udp-rate: a table; write lines such as udp-rate = 20, without tables"),
        ("udp-rate = 2026-11-24", 'udp-rate: "2026-11-24" is not a number; write udp-rate = 2.5'),
        ("reactor = 1", 'reactor: 1 is not a string; write reactor = "1"'),
    ],
)
def test_a_wrong_key_or_type_is_named_with_the_remedy(text: str, error: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        parse_config(text, ("reactor",))
    assert str(caught.value) == error


def test_a_long_value_is_shortened_in_the_error() -> None:
    with pytest.raises(ConfigFileError) as caught:
        parse_config(f'udp-rate = "{"x" * 10_000}"')
    assert len(str(caught.value)) < 150


def test_what_the_remedy_says_is_accepted() -> None:
    for text in ("tcp = 1314", "allow = 1", "web-origin = 1", "udp-rate = 'x'", "udp-burst = 'x'", "reuse-port = 1"):
        with pytest.raises(ConfigFileError) as caught:
            parse_config(text)
        parse_config(str(caught.value).partition("; write ")[2])


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "netsvc.toml"
    for content, error in [
        (b"tcp = 1", 'tcp: 1 is not a list of strings; write tcp = ["1"]'),
        (b"tcp == 1", "not TOML: invalid value at line 1, column 6; write lines such as udp-rate = 20"),
        (b"\xff", "not UTF-8 at byte 0; name a TOML file"),
        (b"#" * 2_000_000, "longer than 1 MiB; name a TOML file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ConfigFileError) as caught:
            read_config_file(str(path))
        assert str(caught.value).replace("(at line 1, column 6)", "at line 1, column 6") == f"{path}: {error}"


def test_a_file_that_cannot_be_read_is_one_line_of_error(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "none", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigFileError) as caught:
            read_config_file(str(path))
        assert str(caught.value) == f"{path}: {problem}; name a TOML file that you may read"


def test_the_file_may_be_a_pipe() -> None:
    source, entry = os.pipe()
    os.write(entry, b"udp-rate = 5")
    os.close(entry)
    assert read_config_file(f"/dev/fd/{source}") == {"udp_rate": 5}
    os.close(source)


def test_what_is_not_toml_is_an_error_of_tomllib() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        parse_config("=")
