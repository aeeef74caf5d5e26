"""The objects of ``--json`` are those of the documentation."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from netsvc.cli.json_lines import json_line
from tests.programs import SECONDS, netsvc, running, serving

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "clients.md"
SECTION = PAGE.read_text().partition("\n## JSON\n")[2].partition("\n## ")[0]

#: The fields of the objects of ``timestamp``, and of each type of ``lookup``, as the page lists them.
TIMESTAMP = re.findall(r"^\| `(\w+)` \| ", SECTION.partition("`lookup` prints")[0], re.MULTILINE)
LOOKUP: dict[str, list[str]] = {}
for kind, field in re.findall(r"^\| `(\w+)` \| `(\w+)` \|", SECTION.partition("`lookup` prints")[2], re.MULTILINE):
    LOOKUP.setdefault(kind, ["type"]).append(field)


def objects(*arguments: object) -> list[dict[str, Any]]:
    done = netsvc(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_answer_has_the_fields_of_the_page() -> None:
    with serving("--udp", "127.0.0.1:0") as (_, [port]):
        [answer] = objects("timestamp", "--json", port, "wörld")
    assert list(answer) == TIMESTAMP
    assert (answer["address"], answer["port"], answer["text"], answer["tries"]) == ("127.0.0.1", port, "wörld", 1)
    assert isinstance(answer["round_trip"], float)
    assert answer["round_trip_source"] in ("kernel", "process")


def test_the_results_of_a_look_up_have_the_fields_of_the_page() -> None:
    with running(sys.executable, "-m", "tests.name_servers", seconds=SECONDS) as server:
        name_server = f"127.0.0.1:{server.wait_for('listening on ([0-9]+)')[1]}"
        found = objects(
            "lookup", "--json", "--name-server", name_server, "192.0.2.7", "_sip._tcp.example.org", "80/tcp"
        )
    found += objects("lookup", "--json")
    assert {each["type"] for each in found} == set(LOOKUP)
    for each in found:
        assert list(each) == LOOKUP[each["type"]]


def test_a_line_is_ascii_and_has_no_line_end() -> None:
    line = json_line({"text": "\x1b\u202e\n\x9bé", "seconds": 0.5, "unknown": None})
    assert line == r'{"text": "\u001b\u202e\n\u009b\u00e9", "seconds": 0.5, "unknown": null}'


def test_what_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line({"seconds": float("nan")})
