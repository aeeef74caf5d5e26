"""The URL of a Redis server, and the credentials for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.errors import ConfigError
from netsvc.redis.redis_address import (
    RedisAddress,
    RedisCredentials,
    credentials_from,
    parse_credentials,
    parse_redis_address,
)
from netsvc.redis.redis_script import RedisScript

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("redis://db", RedisAddress("db", 6379, "", 0, False), "redis://db:6379/0"),
        ("redis://db/", RedisAddress("db", 6379, "", 0, False), "redis://db:6379/0"),
        ("redis://db/3", RedisAddress("db", 6379, "", 3, False), "redis://db:6379/3"),
        ("redis://192.0.2.1:1/15", RedisAddress("192.0.2.1", 1, "", 15, False), "redis://192.0.2.1:1/15"),
        ("redis://[::1]", RedisAddress("::1", 6379, "", 0, False), "redis://[::1]:6379/0"),
        ("redis://[::1]:7000/2", RedisAddress("::1", 7000, "", 2, False), "redis://[::1]:7000/2"),
        (
            "rediss://db.example.org",
            RedisAddress("db.example.org", 6379, "", 0, True),
            "rediss://db.example.org:6379/0",
        ),
        ("unix:/run/r.sock", RedisAddress("", 0, "/run/r.sock", 0, False), "unix:/run/r.sock?database=0"),
        ("unix:///run/r.sock", RedisAddress("", 0, "/run/r.sock", 0, False), "unix:/run/r.sock?database=0"),
        ("unix:/r@h/s?database=4", RedisAddress("", 0, "/r@h/s", 4, False), "unix:/r@h/s?database=4"),
    ],
)
def test_each_form_of_a_url_is_parsed(text: str, address: RedisAddress, name: str) -> None:
    assert parse_redis_address(text) == address
    assert address.name == name
    assert parse_redis_address(name) == address


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not the URL of a Redis server"),
        ("db:6379", "not the URL of a Redis server"),
        ("http://db", "not the URL of a Redis server"),
        ("redis:db", "has no host"),
        ("redis://", "the host is missing"),
        ("redis://:6379", "the host is missing"),
        ("redis:///0", "the host is missing"),
        ("redis://db:", "the port is wrong"),
        ("redis://db:0", "the port is wrong"),
        ("redis://db:65536", "the port is wrong"),
        ("redis://db:99999999999999", "the port is wrong"),
        ("redis://db:+1", "the port is wrong"),
        ("redis://db:١", "the port is wrong"),
        ("redis://a b", "the host is wrong"),
        ("redis://[db]", "the host is wrong"),
        ("redis://[::1", "the host is wrong"),
        ("redis://::1", "needs brackets"),
        ("redis://db/-1", "the number of the database is wrong"),
        ("redis://db/x", "the number of the database is wrong"),
        ("redis://db/0/1", "the number of the database is wrong"),
        ("redis://db/9999999999", "the number of the database is wrong"),
        ("redis://db?timeout=1", "the part after ? is unknown"),
        ("redis://db/0#x", "the part after # is unknown"),
        ("unix:", "the path is not absolute"),
        ("unix:run/r.sock", "the path is not absolute"),
        ("unix://run/r.sock", "the path is not absolute"),
        ("unix:/r\n", "cannot be the path"),
        ("unix:/" + "x" * 107, "cannot be the path"),
        ("unix:/r?database=", "the number of the database is wrong"),
        ("unix:/r?db=1", "the part after the question mark is unknown"),
    ],
)
def test_a_wrong_url_is_an_error_of_one_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("?", r"\?")) as raised:
        parse_redis_address(text, "redis")
    assert str(raised.value).startswith("--redis")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "redis://:hunter2@db",
        "redis://hunter2@db:6379/0",
        "redis://user:hunter2@db",
        "redis://user:a/hunter2@db",
        "redis://user:a@hunter2@db",
        "rediss://user:hunter2@db/0",
        "unix://user:hunter2@/run/r.sock",
        "user:hunter2@db",
        "hunter2@db",
        "redis://db/0?password=hunter2",
        "unix:/run/r.sock?password=hunter2",
        "redis://db:hunter2",
        "redis://db:hunter2/0",
        "redis://:hunter2",
        "alice:hunter2",
    ],
)
def test_an_error_does_not_show_a_password_in_the_url(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_redis_address(text)
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value)


def test_a_password_in_the_url_is_refused_with_the_places_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match="NETSVC_REDIS_PASSWORD or a credentials file"):
        parse_redis_address("redis://:hunter2@db")


@given(
    st.text() | st.builds("".join, st.lists(st.sampled_from(["redis:", "unix:", "/", "[", "::1", "]", "@", "?", "1"])))
)
def test_whatever_the_text_parsing_has_one_kind_of_error(text: str) -> None:
    try:
        address = parse_redis_address(text)
    except ConfigError:
        return
    assert parse_redis_address(address.name) == address


@pytest.mark.parametrize(
    ("text", "username", "password"),
    [
        ("hunter2", "", SECRET),
        ("hunter2\n", "", SECRET),
        ("hunter2\r\n", "", SECRET),
        (" hunter2 \n", "", " hunter2 "),
        ("alice:hunter2\n", "alice", SECRET),
        ("alice:a:b\n", "alice", "a:b"),
        (":a:b\n", "", "a:b"),
    ],
)
def test_a_credentials_file_has_a_password_or_a_user_with_one(text: str, username: str, password: str) -> None:
    assert parse_credentials(text) == RedisCredentials(username, password)


@pytest.mark.parametrize("text", ["", "\n", ":", "hunter2:", "hunter2\n\n", "hunter2\nx", "x\rhunter2"])
def test_another_credentials_file_is_an_error_that_shows_nothing_of_it(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_credentials(text, "redis_credentials")
    assert str(raised.value).startswith("--redis-credentials: ")
    assert SECRET not in str(raised.value)


def test_the_representation_of_credentials_does_not_show_the_password() -> None:
    assert SECRET not in repr(RedisCredentials("alice", SECRET))


def test_the_environment_may_contain_credentials() -> None:
    names = ("NETSVC_REDIS_USERNAME", "NETSVC_REDIS_PASSWORD")
    assert credentials_from({}) is None
    assert credentials_from(dict.fromkeys(names, "")) is None
    assert credentials_from({names[1]: SECRET}) == RedisCredentials("", SECRET)
    assert credentials_from(dict(zip(names, ("alice", SECRET), strict=True))) == RedisCredentials("alice", SECRET)
    with pytest.raises(ConfigError, match="NETSVC_REDIS_USERNAME: there is no password"):
        credentials_from({names[0]: "alice"})


def test_a_script_has_the_digest_by_which_redis_knows_it() -> None:
    assert RedisScript("return 1").digest == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
