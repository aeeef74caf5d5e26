from __future__ import annotations

import pytest
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import Options as UsageOptions

from netsvc import Config, __version__
from netsvc.server.server_process import StartRefused, refuse_start
from netsvc.server.tap import Options, makeService


def parse(*flags: str) -> Config:
    options = Options()
    options.parseOptions(flags)
    return options.config()


def test_without_flags_the_defaults_are_served() -> None:
    assert parse() == Config()


def test_every_field_has_a_flag_that_sets_it() -> None:
    config = parse(
        *(
            "--tcp",
            "1",
            "--tcp",
            "[::1]:2",
            "--udp",
            "3",
            "--chat",
            "4",
            "--daytime",
            "5",
            "--reply",
            "ok",
            "--framing",
            "line",
        ),
        *("--queue-max", "70000", "--stall-timeout", "6", "--close-timeout", "7.5", "--drain-timeout", "8"),
        *("--chat-rate", "13", "--chat-burst", "14"),
        *("--handshake-timeout", "15", "--line-timeout", "16", "--idle-timeout", "17", "--chat-idle-timeout", "18"),
        *("--max-connections", "19", "--max-per-host", "20", "--connect-rate", "21"),
        *("--tls-cert", "c.pem", "--tls-key", "k.pem", "--tls-client-ca", "a.pem"),
        *("--proxy-from", "10.0.0.0/8"),
        *("--allow", "192.0.2.0/24", "--allow", "chat=::1", "--deny", "192.0.2.7"),
        *("--udp-rate", "9", "--udp-burst", "10", "--udp-total", "11", "--udp-max-size", "12"),
    )
    assert parse("--tcp", "1", "--reuse-port") == Config(tcp=["1"], reuse_port=True)
    assert config == Config(
        tcp=["1", "[::1]:2"],
        udp=["3"],
        chat=["4"],
        daytime=["5"],
        reply="ok",
        framing="line",
        queue_max=70_000,
        stall_timeout=6.0,
        close_timeout=7.5,
        drain_timeout=8.0,
        handshake_timeout=15.0,
        line_timeout=16.0,
        idle_timeout=17.0,
        chat_idle_timeout=18.0,
        max_connections=19,
        max_per_host=20,
        connect_rate=21.0,
        tls_cert="c.pem",
        tls_key="k.pem",
        tls_client_ca="a.pem",
        proxy_from=["10.0.0.0/8"],
        allow=["192.0.2.0/24", "chat=::1"],
        deny=["192.0.2.7"],
        chat_rate=13.0,
        chat_burst=14,
        udp_rate=9.0,
        udp_burst=10,
        udp_total=11.0,
        udp_max_size=12,
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--udp-rate", "fast"], "netsvc: --udp-rate fast: not a number; give a number from 0"),
        (["--udp-burst", "1.5"], "netsvc: --udp-burst 1.5: not a whole number; give a whole number from 0"),
        (["--framing", "line"], "netsvc: --framing line: an echo has no messages to frame; add --reply"),
        (["--framing", "words", "--reply", "x"], "netsvc: --framing words: the choices are raw and line"),
        (["--reply", "{"], "netsvc: --reply '{': "),
        (["--nosuch"], "netsvc: option --nosuch not recognized; twist netsvc --help"),
        (["--tcp"], "netsvc: option --tcp requires argument; twist netsvc --help"),
        (["1314"], "netsvc: unexpected argument '1314'; twist netsvc --help"),
    ],
)
def test_invalid_flags_are_one_line_of_error(flags: list[str], line: str) -> None:
    with pytest.raises(StartRefused) as refusal:
        parse(*flags)
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_help_describes_the_flags_with_their_defaults() -> None:
    text = " ".join(str(Options()).split())
    for flag in ("--tcp=", "--udp=", "--chat=", "--reply=", "--framing=", "--queue-max=", "--udp-max-size="):
        assert flag in text
    assert "Seconds that a stop may take; then connections are aborted." in text
    assert "0: no limit. [default: 5.0]" in text
    assert "Without any of these flags, and without --probe: --tcp 1314 --udp 520" in text


def test_the_version_flag_prints_the_version_of_netsvc(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse("--version")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"netsvc {__version__}\n"


def test_an_invalid_listening_string_is_one_line_of_error() -> None:
    options = Options()
    options.parseOptions(["--tcp", "nosuch:1"])
    with pytest.raises(StartRefused, match="--tcp nosuch:1: 'nosuch' is neither"):
        makeService(options)


def test_a_port_that_cannot_be_opened_is_one_line_of_error_at_both_start_phases() -> None:
    options = Options()
    options.parseOptions(["--tcp", "203.0.113.1:0"])
    service = makeService(options)
    for start in (service.startService, service.privilegedStartService):
        with pytest.raises(StartRefused, match=r"--tcp 203[.]0[.]113[.]1:0: this host has no such address"):
            start()


def test_refuse_start_raises_a_system_exit_that_is_also_an_exception() -> None:
    with pytest.raises(SystemExit) as exit_:
        refuse_start("no")
    assert isinstance(exit_.value, Exception)
    assert (str(exit_.value), exit_.value.code) == ("no", 1)


def test_twist_finds_the_plugin() -> None:
    [plugin] = [one for one in getPlugins(IServiceMaker) if one.tapname == "netsvc"]
    assert isinstance(plugin.options(), UsageOptions)
