"""Writes the parts of the reference pages that follow from the code: ``python docs/generate.py``.

They stand between the markers ``<!-- generated -->`` of a page. A test compares them with the code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from netsvc.chat.json_messages import json_schema
from netsvc.errors import flag_of
from netsvc.probe.probe_counters import COUNTERS
from netsvc.server.config import DEFAULTS, SETTINGS, Setting
from netsvc.server.flags import is_list
from netsvc.server.metrics import (
    CERTIFICATE,
    CONNECTIONS,
    LOG_LINES,
    OF_NETWORKS,
    OF_SOURCES,
    STORE_NODES,
    STORE_OLDEST,
    STORE_UP,
    STORE_WAITING,
)
from netsvc.server.probe_metrics import (
    CLOCK_OFFSET,
    CLOCK_UNCERTAINTY,
    DELAY_CHANGE,
    HISTOGRAMS,
    LOSS_DIRECTION,
    PROBE_UP,
)
from netsvc.server.reported_server import BY_CAUSE, OF_STORE, TOTALS
from netsvc.server.services import SERVICES

REFERENCE = Path(__file__).parent / "reference"
MARKER = "<!-- generated -->\n"


def flags() -> str:
    """Return a table of flags for each group of settings."""
    services: dict[str, list[str]] = {}
    for row in SERVICES:
        for name in row.settings:
            services.setdefault(name, []).append(f"`{flag_of(row.name)}`")
    groups: dict[str, list[str]] = {}
    for name, setting in SETTINGS.items():
        groups.setdefault(setting.group, []).append(_flag_row(name, setting, ", ".join(services.get(name, []))))
    head = "| flag | meaning | default | service |\n|---|---|---|---|\n"
    return "\n".join(f"\n## {group}\n\n{head}" + "".join(rows) for group, rows in groups.items()) + "\n"


def _flag_row(name: str, setting: Setting, service: str) -> str:
    value = f" {setting.metavar}" if setting.metavar else ""
    default = setting.default_text or (
        "off"
        if setting.kind == "switch"
        else f"{DEFAULTS[name]:g}"
        if isinstance(DEFAULTS[name], float)
        else str(DEFAULTS[name])
    )
    repeated = " May be repeated." if is_list(name) else ""
    flag = f"{flag_of(name)}{value}".replace("|", "\\|")
    return f"| `{flag}` | {setting.meaning}{repeated} | {default} | {service} |\n"


def services() -> str:
    """Return the table of services."""
    text = "\n| service | transport | its own settings |\n|---|---|---|\n"
    for row in SERVICES:
        flags = ", ".join(f"`{flag_of(name)}`" for name in row.settings)
        text += f"| `{flag_of(row.name)}` | {', '.join(SETTINGS[row.name].transports)} | {flags} |\n"
    return text + "\n"


def metrics() -> str:
    """Return the table of metrics."""
    name, meaning = CONNECTIONS
    rows = [f"| `{name}{{service}}` | gauge | {meaning} |\n"]
    rows.append("| `{}{{network}}` | gauge | {} |\n".format(*OF_NETWORKS))
    rows.append("| `{}{{service,network}}` | gauge | {} |\n".format(*OF_SOURCES))
    rows += [f"| `{name}_total{{service}}` | counter | {meaning} |\n" for name, meaning, _ in TOTALS]
    rows += [f"| `{name}_total{{service,cause}}` | counter | {meaning} |\n" for name, meaning, _ in BY_CAUSE]
    rows += [f"| `{name}_total{{service}}` | counter | {meaning} |\n" for name, meaning, _ in OF_STORE]
    gauges = (STORE_UP, STORE_WAITING, STORE_OLDEST, STORE_NODES)
    rows += [f"| `{name}{{service}}` | gauge | {meaning} |\n" for name, meaning in gauges]
    rows += _probe_rows()
    rows.append("| `{}_total` | counter | {} |\n".format(*LOG_LINES))
    rows.append("| `{}` | gauge | {} |\n".format(*CERTIFICATE))
    rows.append("| `process_...` | | Memory, CPU time and open files of the process. |\n")
    return "\n| metric | type | meaning |\n|---|---|---|\n" + "".join(rows) + "\n"


def _probe_rows() -> list[str]:
    counters = [
        f"| `netsvc_probe_{name}_total{{target}}` | counter | {meaning} |\n" for name, meaning in COUNTERS.items()
    ]
    return [
        "| `{}{{target}}` | gauge | {} |\n".format(*PROBE_UP),
        *counters,
        "| `{}_total{{target,direction}}` | counter | {} |\n".format(*LOSS_DIRECTION),
        *(f"| `{name}{{target}}` | histogram | {meaning} |\n" for name, meaning, _ in HISTOGRAMS),
        "| `{}{{target,direction}}` | histogram | {} |\n".format(*DELAY_CHANGE),
        "| `{}{{target}}` | gauge | {} |\n".format(*CLOCK_OFFSET),
        "| `{}{{target}}` | gauge | {} |\n".format(*CLOCK_UNCERTAINTY),
    ]


def messages() -> str:
    """Return the tables of the messages over WebSocket."""
    schema = json_schema()
    text = ""
    for title, what in (("Requests", "request"), ("Events", "event")):
        text += f"\n## {title}\n\n| type | fields | meaning |\n|---|---|---|\n"
        for reference in schema["properties"][what]["anyOf"]:
            text += _message_row(schema["$defs"][reference["$ref"].rpartition("/")[2]], schema["$defs"])
    return text + "\nFields with `?` may be missing: they are then empty, false or 0, or as the meaning says.\n\n"


def _message_row(message: dict[str, Any], definitions: dict[str, Any]) -> str:
    required = message["required"]
    fields = [
        f"`{name}{'' if name in required else '?'}`{_shape(field, definitions)}"
        for name, field in message["properties"].items()
        if name != "type"
    ]
    [kind] = message["properties"]["type"]["enum"]
    meaning = message["description"].replace("``", "`")
    return f"| `{kind}` | {', '.join(fields)} | {meaning} |\n"


def _shape(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return what a field is, if that is more than a text."""
    if "enum" in field:
        return f" ({', '.join(field['enum'])})"
    items = field.get("items", {})
    if "$ref" in items:
        names = definitions[items["$ref"].rpartition("/")[2]]["properties"]
        return f" (list of {', '.join(names)})"
    kinds = [each["type"] for each in field.get("anyOf", [field]) if each["type"] not in ("string", "null")]
    return f" ({kinds[0]})" if kinds else ""


def schema() -> str:
    """Return the JSON Schema of the messages over WebSocket."""
    return json.dumps(json_schema(), indent=1, sort_keys=True) + "\n"


#: The generated parts of each page, in their order.
PAGES = {"flags.md": (services, flags), "metrics.md": (metrics,), "chat-over-websocket.md": (messages,)}

#: The files that are generated as a whole.
FILES = {"chat-schema.json": schema}


def page(name: str) -> str:
    """Return the text of a page with its generated parts made anew."""
    parts = (REFERENCE / name).read_text().split(MARKER)
    made = [part() for part in PAGES[name]]
    if len(parts) != 2 * len(made) + 1:
        raise SystemExit(f"{name}: {2 * len(made)} markers are needed")
    parts[1::2] = made
    return MARKER.join(parts)


if __name__ == "__main__":
    for name in PAGES:
        (REFERENCE / name).write_text(page(name))
    for name, made in FILES.items():
        (REFERENCE / name).write_text(made())
