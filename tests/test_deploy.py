"""The files in deploy/ start netsvc with valid flags."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from netsvc.net.stream_protocol import LOST_MAX
from netsvc.server.config import Config
from netsvc.server.tap import Options

DEPLOY = Path(__file__).parents[1] / "deploy"


def flags_of(command: list[str]) -> list[str]:
    return command[command.index("netsvc") + 1 :]


@pytest.mark.parametrize("unit", sorted(path.name for path in DEPLOY.glob("*.service")))
def test_a_unit_starts_netsvc_with_valid_flags(unit: str) -> None:
    text = (DEPLOY / unit).read_text().replace("\\\n", " ")
    [command] = re.findall("^ExecStart=(.*)$", text, re.MULTILINE)
    options = Options()
    options.parseOptions(flags_of(shlex.split(command)))
    assert options.config().tcp
    assert options.config().udp


def test_the_service_names_every_socket_and_has_a_flag_for_each() -> None:
    service = (DEPLOY / "netsvc.service").read_text()
    sockets = sorted(path.name for path in DEPLOY.glob("*.socket"))
    for setting in ("Requires", "After", "Sockets"):
        [named] = re.findall(f"^{setting}=(.*)$", service, re.MULTILINE)
        assert sorted(named.split()) == sockets
    for name in sockets:
        [descriptor] = re.findall("^FileDescriptorName=(.*)$", (DEPLOY / name).read_text(), re.MULTILINE)
        assert f"systemd:domain=INET6:name={descriptor}" in service


def test_the_proxy_waits_longer_than_the_chat_and_asks_whether_it_is_ready() -> None:
    text = (DEPLOY / "haproxy.cfg").read_text()
    timeouts = dict(re.findall(r"^ +timeout (\S+) (\S+)$", text, re.MULTILINE))
    for side in ("client", "server"):
        assert int(timeouts[side].removesuffix("h")) * 3_600 > Config().chat_idle_timeout
        assert int(timeouts[f"{side}-fin"].removesuffix("s")) > LOST_MAX
    assert "meth GET uri /readyz" in text
    [command] = re.findall(r"^#   (twist netsvc .*\n#       .*)$", text, re.MULTILINE)
    options = Options()
    options.parseOptions(flags_of(shlex.split(command.replace("#", ""))))
    assert options.config().proxy_from
    assert f"port {(options.config().metrics or '').rpartition(':')[2]}" in text


def test_the_container_starts_netsvc_with_valid_flags() -> None:
    lists = re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    command = [word for _, words in lists for word in json.loads(words)]
    options = Options()
    options.parseOptions(flags_of(command))
    assert options.config().metrics == "9114"
    assert options.config().udp == ("520",)
