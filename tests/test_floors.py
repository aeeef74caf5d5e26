"""The house: a module imports only from its own floor and those below, and floor 0 knows nothing of Twisted."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import netsvc

HOUSE = Path(netsvc.__file__).parent

FLOORS: dict[str, int] = {
    # 0: pure; standard library only
    **dict.fromkeys(["text", "framing", "stamp", "bucket", "guard", "reply", "address", "errors", "lookup"], 0),
    **dict.fromkeys(["networks", "admission", "names", "proxy"], 0),
    **dict.fromkeys(["chat", "chat.messages", "chat.room"], 0),
    # 1: what every connection, socket and port needs from Twisted
    **dict.fromkeys(["stream", "message_stream", "datagram", "answering_port", "listen", "shared_port"], 1),
    **dict.fromkeys(["door", "counts", "tls", "unicode_names", "proxied", "reasons", "timer"], 1),
    **dict.fromkeys(["reactor", "reactor.loop", "reactor.stream", "reactor.datagram"], 1),
    # 2: protocols and their clients
    **dict.fromkeys(["echo", "timestamp", "chat.server", "chat.client"], 2),
    **dict.fromkeys(["talk", "talk.partner", "talk.stream", "talk.datagram"], 2),
    # 3: assembly
    **dict.fromkeys(["config", "metrics", "service"], 3),
    # 4: command lines
    **dict.fromkeys(["tap", "signals", "__main__", "cli", "cli.command", "cli.console", "cli.main"], 4),
    **dict.fromkeys(["cli.talk", "cli.timestamp", "cli.send", "cli.receive", "cli.lookup"], 4),
    # beside the floors: the public names, and the testing kit, which may use what is pure
    **dict.fromkeys(["__init__"], 5),
    **dict.fromkeys(["testing.events", "testing.link", "testing.cuts", "testing.trace"], 0),
    **dict.fromkeys(["testing.stack", "testing.pipe", "testing.streams", "testing.datagrams"], 0),
    **dict.fromkeys(["testing", "testing.network", "testing.reactor"], 1),
    **dict.fromkeys(["testing.resolver", "testing.transports"], 1),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports_of(path: Path) -> set[str]:
    """Return the names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


MODULES = {name_of(path): path for path in HOUSE.rglob("*.py")}


def test_every_module_has_its_floor() -> None:
    assert set(MODULES) == set(FLOORS)


def test_a_module_imports_only_from_its_own_floor_and_those_below() -> None:
    for name, path in MODULES.items():
        for imported in imports_of(path):
            room = imported.removeprefix("netsvc.")
            if imported.startswith("netsvc.") and room in FLOORS:
                assert FLOORS[room] <= FLOORS[name], f"{name} (floor {FLOORS[name]}) imports {room}"


def test_the_pure_floor_imports_the_standard_library_only() -> None:
    for name, path in MODULES.items():
        if FLOORS[name] == 0:
            outside = {
                imported
                for imported in imports_of(path)
                if imported.partition(".")[0] not in {*sys.stdlib_module_names, "netsvc"}
            }
            assert not outside, f"{name} imports {outside}"


def test_nobody_imports_in_a_circle() -> None:
    graph = {
        name: {room for room in (one.removeprefix("netsvc.") for one in imports_of(path)) if room in MODULES} - {name}
        for name, path in MODULES.items()
    }
    while graph:
        free = {name for name, needed in graph.items() if not needed & set(graph)}
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in free}


def test_importing_any_module_installs_no_reactor() -> None:
    modules = sorted(f"netsvc.{name}" for name in MODULES if name != "__init__")
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'twisted.internet.reactor' not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_public_name_is_there_and_documented() -> None:
    for name in netsvc.__all__:
        assert getattr(netsvc, name).__doc__, name
