"""The layers: a package imports from lower layers only, and pure modules import the standard library only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import netsvc

ROOT = Path(netsvc.__file__).parent

#: The layer of each folder, and of each module that is in none. A module may import from its own folder and from lower
#: layers.
LAYERS = {
    "errors": 0,
    "wire": 1,
    "limits": 2,
    "net": 3,
    **dict.fromkeys(["chat", "echo", "talk", "timestamp"], 4),
    "server": 5,
    "cli": 6,
    "__main__": 7,
    "__init__": 7,
    # Each stands alone.
    "reactor": 3,
    "testing": 3,
}

#: What is pure: folders, and modules of other folders.
PURE_FOLDERS = {"errors", "wire", "limits"}
PURE_MODULES = {
    *("chat", "chat.names", "chat.messages", "chat.room"),
    *("echo", "echo.reply_template", "timestamp", "timestamp.format", "net", "server", "cli.name_service"),
    *("testing.events", "testing.link", "testing.cuts", "testing.trace", "testing.stack", "testing.pipe"),
    *("testing.stream_socket", "testing.datagram_socket"),
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
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


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def folder_of(name: str) -> str:
    return name.partition(".")[0]


def is_pure(name: str) -> bool:
    return folder_of(name) in PURE_FOLDERS or name in PURE_MODULES


def test_every_folder_has_its_layer() -> None:
    assert {folder_of(name) for name in MODULES} == set(LAYERS)
    assert set(MODULES) >= PURE_MODULES


def test_a_module_imports_from_its_own_folder_and_lower_layers_only() -> None:
    for name, path in MODULES.items():
        for imported in imports_of(path):
            other = imported.removeprefix("netsvc.")
            if imported.startswith("netsvc.") and other in MODULES and folder_of(other) != folder_of(name):
                assert LAYERS[folder_of(other)] < LAYERS[folder_of(name)], f"{name} imports {other}"


def test_a_pure_module_imports_the_standard_library_and_pure_modules_only() -> None:
    for name in filter(is_pure, MODULES):
        for imported in imports_of(MODULES[name]):
            other = imported.removeprefix("netsvc.")
            allowed = imported.partition(".")[0] in sys.stdlib_module_names
            assert allowed or imported == "netsvc" or other not in MODULES or is_pure(other), f"{name}: {imported}"
            assert allowed or imported.startswith("netsvc"), f"{name} imports {imported}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {other for other in (one.removeprefix("netsvc.") for one in imports_of(path)) if other in MODULES}
        - {name}
        for name, path in MODULES.items()
    }
    while graph:
        free = {name for name, needed in graph.items() if not needed & set(graph)}
        assert free, f"a circle among {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in free}


def test_importing_any_module_installs_no_reactor() -> None:
    modules = sorted(f"netsvc.{name}" for name in MODULES if name not in ("__init__", "__main__"))
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
