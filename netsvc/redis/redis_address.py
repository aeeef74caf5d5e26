"""Where a Redis server is, and how to log in there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from netsvc.errors import ConfigError
from netsvc.wire.address import AddressError, format_address, is_ip, parse_address

#: The port of Redis if a URL names none.
DEFAULT_PORT = 6379

#: The largest number of a database. The server decides how many it has; the default is 16.
DATABASE_MAX = 2**31 - 1

#: Bytes of the longest path of a UNIX socket on Linux.
PATH_MAX = 107

#: The variables of the environment with the credentials.
USERNAME_VARIABLE = "NETSVC_REDIS_USERNAME"
PASSWORD_VARIABLE = "NETSVC_REDIS_PASSWORD"

_SCHEMES = ("redis", "rediss", "unix")
_FORMS = "write redis://HOST:6379/0, rediss://HOST:6379/0 or unix:/path/to/socket"
_SECRETS = f"remove it, and give the password by {PASSWORD_VARIABLE} or a credentials file"
_DIGITS = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis server is. It contains no secret.

    :ivar host: a name or an IP address without brackets; empty for a UNIX socket.
    :ivar port: the TCP port; 0 for a UNIX socket.
    :ivar path: the UNIX socket; empty for TCP.
    :ivar database: the number of the database.
    :ivar uses_tls: whether the connection is encrypted.
    """

    host: str
    port: int
    path: str
    database: int
    uses_tls: bool

    @property
    def name(self) -> str:
        """The URL, as a log shows it: ``redis://127.0.0.1:6379/0`` or ``unix:/run/redis.sock?database=0``."""
        if self.path:
            return f"unix:{self.path}?database={self.database}"
        return f"redis{'s' if self.uses_tls else ''}://{format_address(self.host, self.port)}/{self.database}"


@dataclass(frozen=True, slots=True)
class RedisCredentials:
    """A user and a password. The representation does not show the password.

    :ivar username: the user of the access control list; empty for the default user.
    """

    username: str
    password: str = field(repr=False)


def parse_redis_address(text: str, setting: str = "") -> RedisAddress:
    """Parse ``redis://HOST[:6379][/0]``, ``rediss://HOST[:6379][/0]`` or ``unix:/path[?database=N]``.

    An IPv6 address has brackets: ``redis://[::1]:6379/0``.

    :param setting: the name of the setting that the text belongs to, for the error.
    :raises ConfigError: if it is none of them, or contains a user or a password. The error shows no password.
    """
    scheme, colon, rest = text.partition(":")
    try:
        if not colon or scheme not in _SCHEMES:
            raise _AddressProblem("this is not the URL of a Redis server", _FORMS)
        if scheme == "unix":
            return _parse_unix(rest)
        if not rest.startswith("//"):
            raise _AddressProblem("the URL has no host", _FORMS)
        return _parse_tcp(rest[2:], uses_tls=scheme == "rediss")
    except _AddressProblem as e:
        raise ConfigError(setting, _without_secrets(text), e.problem, e.remedy) from None


def parse_credentials(text: str, setting: str = "") -> RedisCredentials:
    """Parse the text of a credentials file: one line, ``password`` or ``username:password``.

    A password that contains a colon needs the colon before it: ``:pass:word``.

    :param setting: the name of the setting that names the file, for the error.
    :raises ConfigError: if there is no password, or more than one line. The error shows nothing of the text.
    """
    line = text.removesuffix("\n").removesuffix("\r")
    if "\n" in line or "\r" in line:
        problem = "the credentials file has more than one line"
        raise ConfigError(setting, "", problem, "write one line, password or username:password")
    username, colon, password = line.partition(":")
    if not colon:
        username, password = "", line
    if not password:
        problem = "the credentials file contains no password"
        raise ConfigError(setting, "", problem, "write one line, password or username:password")
    return RedisCredentials(username, password)


def credentials_from(environment: Mapping[str, str]) -> RedisCredentials | None:
    """Return the credentials of the variables ``NETSVC_REDIS_USERNAME`` and ``NETSVC_REDIS_PASSWORD``.

    An empty variable counts as a missing one. The user alone may be missing.

    :return: None if both are missing.
    :raises ConfigError: if there is a user without a password.
    """
    username, password = environment.get(USERNAME_VARIABLE, ""), environment.get(PASSWORD_VARIABLE, "")
    if username and not password:
        raise ConfigError("", USERNAME_VARIABLE, "there is no password for this user", f"set {PASSWORD_VARIABLE}, too")
    return RedisCredentials(username, password) if password else None


class _AddressProblem(Exception):  # noqa: N818  it becomes a ConfigError
    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy


def _parse_unix(rest: str) -> RedisAddress:
    if rest.startswith("//"):  # unix:///path means the same; unix://user:password@/path is how others log in
        if not rest.startswith("///"):
            problem = "the URL contains a user or a password" if "@" in rest else "the path is not absolute"
            raise _AddressProblem(problem, _SECRETS if "@" in rest else _FORMS)
        rest = rest[2:]
    path, question_mark, query = rest.partition("?")
    if not path.startswith("/"):
        raise _AddressProblem("the path is not absolute", "write unix:/path/to/socket")
    if not path.isprintable() or len(path.encode()) > PATH_MAX:
        raise _AddressProblem("this cannot be the path of a UNIX socket", f"choose one of at most {PATH_MAX} bytes")
    if not question_mark:
        return RedisAddress("", 0, path, 0, uses_tls=False)
    name, _, number = query.partition("=")
    if name != "database":
        raise _AddressProblem("the part after the question mark is unknown", "write ?database=N, or remove it")
    return RedisAddress("", 0, path, _parse_database(number), uses_tls=False)


def _parse_tcp(rest: str, *, uses_tls: bool) -> RedisAddress:
    if "@" in rest:
        raise _AddressProblem("the URL contains a user or a password", _SECRETS)
    for mark in "?#":
        if mark in rest:
            raise _AddressProblem(f"the part after {mark} is unknown", f"remove it; {_FORMS}")
    authority, slash, database = rest.partition("/")
    host, port = _split_host(authority)
    if not host:
        raise _AddressProblem("the host is missing", _FORMS)
    if not _DIGITS.fullmatch(port) or not 1 <= int(port) <= 65_535:
        raise _AddressProblem("the port is wrong", "write a number from 1 to 65535")
    try:
        parse_address(f"{host}:{port}")
    except AddressError:
        raise _AddressProblem("the host is wrong", "write a name, or an address such as 192.0.2.1 or [::1]") from None
    return RedisAddress(
        host.strip("[]"), int(port), "", _parse_database(database) if slash and database else 0, uses_tls
    )


def _split_host(authority: str) -> tuple[str, str]:
    """Split the host from the port, which has a default. The host of IPv6 keeps its brackets."""
    if authority.endswith("]"):
        return authority, str(DEFAULT_PORT)
    if is_ip(authority) and ":" in authority:
        raise _AddressProblem("an IPv6 address needs brackets", "write redis://[::1]:6379/0")
    host, colon, port = authority.rpartition(":")
    return (host, port) if colon else (authority, str(DEFAULT_PORT))


def _parse_database(text: str) -> int:
    if not _DIGITS.fullmatch(text) or int(text) > DATABASE_MAX:
        raise _AddressProblem("the number of the database is wrong", "write a number such as 0")
    return int(text)


def _without_secrets(text: str) -> str:
    """Return what an error may show of a URL: neither a user, nor a password, nor what may be one."""
    scheme, _, rest = text.partition(":")
    is_path = scheme == "unix" and re.match(r"/(?!/)|///", rest)
    if "@" in text and not is_path:
        text = f"{f'{scheme}://' if scheme in _SCHEMES else ''}***@{text.rpartition('@')[2]}"
    text = re.sub(r"\?(?!database=).*", "?***", text, flags=re.DOTALL)
    if not is_path:
        # A word in the place of the port may be the password of a URL whose host was forgotten.
        head, slashes, rest = text.rpartition("//")
        text = head + slashes + re.sub(r":(?![0-9]+(?:/|$))(?![^\[]*\]).*$", ":***", rest, flags=re.DOTALL)
    return text if text.isprintable() else repr(text)
