from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.errors import ConfigError
from netsvc.stamp.stamp_keys import StampKeys, parse_stamp_keys

SECRET = "00112233445566778899aabbccddeeff"


def test_a_session_has_the_key_of_its_line_and_others_that_of_the_star() -> None:
    keys = parse_stamp_keys(f"# the lab\n\n  17\t{SECRET}  \n* {SECRET.upper()}00\r\n65535 {SECRET * 2}\n")
    assert keys.key_for(17) == bytes.fromhex(SECRET)
    assert keys.key_for(65535) == bytes.fromhex(SECRET * 2)
    assert keys.key_for(0) == keys.key_for(18) == bytes.fromhex(SECRET) + b"\0"


def test_a_session_without_a_line_has_no_key_if_there_is_no_star() -> None:
    keys = parse_stamp_keys(f"0 {SECRET}")
    assert keys.key_for(0) == bytes.fromhex(SECRET)
    assert keys.key_for(1) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--stamp-keys keys: the file contains no key; write lines such as `17 HEXKEY` or `* HEXKEY`"),
        ("# nothing\n", "--stamp-keys keys: the file contains no key; write lines such as `17 HEXKEY` or `* HEXKEY`"),
        (
            f"\n{SECRET}",
            "--stamp-keys keys, line 2: it has 1 word, not 2; write lines such as `17 HEXKEY` or `* HEXKEY`",
        ),
        (
            f"1 {SECRET} {SECRET}",
            "--stamp-keys keys, line 1: it has 3 words, not 2; write lines such as `17 HEXKEY` or `* HEXKEY`",
        ),
        (
            f"65536 {SECRET}",
            "--stamp-keys keys, line 1: the first word is no SSID; begin it with a number up to 65535, or with *",
        ),
        (
            f"{SECRET} 17",
            "--stamp-keys keys, line 1: the first word is no SSID; begin it with a number up to 65535, or with *",
        ),
        (
            f"1 {SECRET}0",
            "--stamp-keys keys, line 1: the key is not hexadecimal; write two of 0-9 and a-f for each octet",
        ),
        (
            f"1 {SECRET}xx",
            "--stamp-keys keys, line 1: the key is not hexadecimal; write two of 0-9 and a-f for each octet",
        ),
        (
            f"1 {SECRET[2:]}",
            "--stamp-keys keys, line 1: the key has 15 octets, fewer than 16; make one with `openssl rand -hex 32`",
        ),
        (
            f"# a\n1 {SECRET}\n\n01 {SECRET}",
            "--stamp-keys keys, line 4: line 2 has a key for the same SSID; remove one of them",
        ),
        (
            f"* {SECRET}\n* {SECRET}",
            "--stamp-keys keys, line 2: line 1 has a key for the same SSID; remove one of them",
        ),
    ],
)
def test_an_error_names_the_line_and_the_remedy_and_not_the_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_stamp_keys(text, "stamp_keys", "keys")
    assert str(raised.value) == message


def test_keys_are_not_shown() -> None:
    shown = repr(parse_stamp_keys(f"1 {SECRET}\n* {SECRET}"))
    assert shown == "StampKeys(1 by SSID, and one for all others)"
    assert repr(StampKeys({})) == "StampKeys(0 by SSID)"


@given(st.text())
def test_any_text_is_parsed_or_refused_with_one_exception(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_stamp_keys(text)


@given(st.dictionaries(st.integers(0, 65535), st.binary(min_size=16, max_size=64), min_size=1))
def test_keys_are_read_as_they_were_written(keys: dict[int, bytes]) -> None:
    parsed = parse_stamp_keys("\n".join(f"{ssid} {key.hex()}" for ssid, key in keys.items()))
    assert {ssid: parsed.key_for(ssid) for ssid in keys} == keys
