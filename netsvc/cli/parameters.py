"""The parameters that several subcommands have, their types, and the errors about them."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import click

from netsvc.wire.address import AddressError, HostPort, is_ip, parse_address
from netsvc.wire.text import clean


class PositiveNumber(click.ParamType[Any]):
    """A number above 0.

    :param kind: ``int`` or ``float``.
    :param least: the smallest number that makes sense.
    :param most: the largest one.
    """

    def __init__(self, kind: Callable[[Any], float], least: float = 0, most: float = float("inf")) -> None:
        self.name = "number"
        self._kind = kind
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = self._kind(value)
        except ValueError:
            number = 0
        if not 0 < number < float("inf"):
            what = "a whole number" if self._kind is int else "a number"
            flag = _flag_of(param)
            self.fail(f"{flag} {value}: not {what} above 0; choose one, such as {flag} 3", param, ctx)
        if not self._least <= number <= self._most:
            choice = f"choose {self._least:f}".rstrip("0").rstrip(".") + f" to {self._most:.0f}"
            self.fail(f"{_flag_of(param)} {value}: out of range; {choice}", param, ctx)
        return number


class PortNumber(click.ParamType[int]):
    """A port from 1 to 65,535."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            port = parse_address(str(value))
        except AddressError:
            port = HostPort(None, 0)
        if port.host is not None or not port.port:
            self.fail(f"{_flag_of(param)} {value}: not a port; choose 1 to 65535", param, ctx)
        return port.port


class IPAddress(click.ParamType[str]):
    """An IP address. A link-local one has its zone."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        address = str(value).removeprefix("[").removesuffix("]")
        if not is_ip(address):
            lookup = "netsvc lookup lists those of this host"
            self.fail(f"{_flag_of(param)} {value}: not an IP address; {lookup}", param, ctx)
        return address


def _flag_of(param: click.Parameter | None) -> str:
    return param.opts[-1] if param is not None else ""


#: The settings that all subcommands share: how the help is asked for, and its width.
CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def peer_argument(metavar: str = "[HOST:]PORT", *, required: bool = True) -> click.Argument:
    """Return the argument that names a peer.

    :param metavar: what stands for it in the help.
    :param required: whether it must be there. ``--unix`` takes its place.
    """
    return click.Argument(["where"], metavar=metavar, required=required)


def text_argument() -> click.Argument:
    """Return the argument that is text to send. It is None without one."""
    return click.Argument(["text"], metavar="[TEXT]...", nargs=-1, callback=_joined)


def _joined(_ctx: click.Context, _param: click.Parameter, words: tuple[str, ...]) -> bytes | None:
    return " ".join(words).encode("utf-8", "surrogateescape") if words else None


def udp_option(meaning: str) -> click.Option:
    """Return the option ``--udp``."""
    return click.Option(["-u", "--udp"], is_flag=True, help=meaning)


def unix_option(meaning: str) -> click.Option:
    """Return the option ``-U``, which is the parameter ``unix``: the path of a UNIX socket in place of an address."""
    return click.Option(["-U", "--unix"], type=click.Path(), metavar="PATH", help=meaning)


def file_option(flag: str, meaning: str) -> click.Option:
    """Return an option that is the path of a file. A shell completes it."""
    return click.Option([flag], type=click.Path(), metavar="FILE", help=meaning)


def tls_options() -> list[click.Parameter]:
    """Return the options ``--tls`` and ``--ca`` of a client."""
    return [
        click.Option(
            ["--tls"], is_flag=True, help="Connect with TLS, and verify the server's certificate and its name."
        ),
        file_option("--ca", "With TLS: trust the authority in this PEM file instead of those of the system."),
    ]


def client_tls_options() -> list[click.Parameter]:
    """Return the options ``--tls``, ``--ca``, ``--cert`` and ``--key`` of a side that connects."""
    return [
        *tls_options(),
        file_option("--cert", "With --tls: the PEM file with the certificate of this side."),
        file_option("--key", "Its key, if that is in another file."),
    ]


def server_tls_options(meaning: str) -> list[click.Parameter]:
    """Return the options ``--tls-cert``, ``--tls-key`` and ``--client-ca`` of a side that listens.

    :param meaning: of ``--tls-cert``.
    """
    return [
        file_option("--tls-cert", meaning),
        file_option("--tls-key", "Its key, if that is in another file."),
        file_option("--client-ca", "With --tls-cert: accept only clients with a certificate from this authority."),
    ]


def check_exclusive(*rows: tuple[str, str, object]) -> None:
    """Refuse options that contradict each other.

    :param rows: for each pair: both options, and whether both are there.
    :raises UsageError: if they are.
    """
    for flag, other, refused in rows:
        if refused:
            raise click.UsageError(f"{flag} cannot be combined with {other}; leave out one of them")


def check_needed(*rows: tuple[str, str, object]) -> None:
    """Refuse options that have no effect without another one.

    :param rows: for each pair: the option, the one that it needs, and whether only the first is there.
    :raises UsageError: if it is.
    """
    for flag, needed, missing in rows:
        if missing:
            raise click.UsageError(f"{flag} has no effect without {needed}; add {needed}")


def exactness_options() -> list[click.Parameter]:
    """Return the options ``--text`` and ``--raw``, which are the parameters ``as_text`` and ``raw``."""
    return [
        click.Option(["--text", "as_text"], is_flag=True, help="Treat the data as text, whatever carries it."),
        click.Option(["--raw"], is_flag=True, help="Leave the bytes unchanged, at a terminal too."),
    ]


def family_options() -> list[click.Parameter]:
    """Return the options ``-4`` and ``-6``, which are the parameters ``ipv4`` and ``ipv6``."""
    return [
        click.Option(["-4", "--ipv4"], is_flag=True, help="Use IPv4 only."),
        click.Option(["-6", "--ipv6"], is_flag=True, help="Use IPv6 only."),
    ]


def address_family(ipv4: bool, ipv6: bool) -> int:
    """Return the address family that the user has chosen; 0 for any."""
    if ipv4 and ipv6:
        raise click.UsageError("-4 cannot be combined with -6; leave out one of them")
    return socket.AF_INET if ipv4 else socket.AF_INET6 if ipv6 else 0


def source_options() -> list[click.Parameter]:
    """Return the options ``-s`` and ``-p``, which are the parameters ``source`` and ``source_port``."""
    return [
        click.Option(
            ["-s", "--source"], type=IPAddress(), metavar="ADDRESS", help="Send from this IP address of this host."
        ),
        click.Option(["-p", "--source-port"], type=PortNumber(), metavar="PORT", help="Send from this port."),
    ]


def wait_option(default: float | None, meaning: str) -> click.Option:
    """Return the option ``-w``, which is the parameter ``timeout``: seconds without an answer until it is an error."""
    return click.Option(
        ["-w", "--timeout"],
        type=PositiveNumber(float, 1e-6, 1e6),
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help=meaning,
    )


def json_option() -> click.Option:
    """Return the option ``--json``, which is the parameter ``as_json``."""
    return click.Option(["--json", "as_json"], is_flag=True, help="Print each result as a JSON object on one line.")


def verbose_option(meaning: str) -> click.Option:
    """Return the option ``-v``, which is the parameter ``verbose``."""
    return click.Option(["-v", "--verbose"], is_flag=True, help=meaning)


def usage_error_text(error: click.UsageError) -> str:
    """Return one line about wrong usage, with the remedy."""
    path = error.ctx.command_path if error.ctx is not None else "netsvc"
    return clean(f"{_problem(error)}; see {path} --help")


def command_names(context: click.Context) -> str:
    """Return the names of the subcommands, as one may choose from them."""
    *names, last = context.command.list_commands(context) if isinstance(context.command, click.Group) else [""]
    return f"{', '.join(names)} or {last}"


def _problem(error: click.UsageError) -> str:
    match error:
        case click.NoSuchOption(option_name=name, possibilities=similar):
            meant = f"write {' or '.join(similar)}, or " if similar else "write "
            return f"{name}: there is no such option; {meant}-- before text that begins with a dash"
        case click.BadOptionUsage(option_name=name) if "requires an argument" in error.message:
            return f"{name}: the value is missing; write it after the option"
        case click.MissingParameter(param=param) if param is not None:
            return f"{param.metavar or param.opts[0]} is missing"
        case _ if error.message == "Missing command." and error.ctx is not None:
            return f"the command is missing; choose {command_names(error.ctx)}"
        case click.BadParameter(param=click.Option() as option) if option.opts[-1] not in error.message:
            return f"{option.opts[-1]}: {error.message.rstrip('.')}"
    message = error.message.rstrip(".")
    extra = re.fullmatch(r"Got unexpected extra (arguments?) \((.*)\)", message, re.DOTALL)
    return message if extra is None else f"unexpected {extra[1]} {extra[2]}"
