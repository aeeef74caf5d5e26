"""The layers: a package imports from lower layers only, and pure modules import the standard library only."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import netsvc
from netsvc.errors import NetsvcError

ROOT = Path(netsvc.__file__).parent

#: The layer of each folder, and of each module that is in none. A module may import from its own folder and from lower
#: layers.
LAYERS = {
    "errors": 0,
    "linux": 1,
    "wire": 1,
    "limits": 2,
    "net": 3,
    "redis": 4,
    "web": 4,
    **dict.fromkeys(["chat", "check", "echo", "rfc", "stamp", "talk", "timestamp"], 5),
    "probe": 6,
    "server": 7,
    "cli": 8,
    **dict.fromkeys(["__init__", "__main__"], 9),
    # These two stand alone. They serve any Twisted program.
    **dict.fromkeys(["reactor", "testing"], 2),
}

#: What is pure: folders, and modules of other folders.
PURE_FOLDERS = {"errors", "linux", "wire", "limits"}
PURE_MODULES = {
    *("chat", "chat.chat_events", "chat.chat_limits", "chat.entries", "chat.names", "chat.nicks", "chat.pace"),
    *("chat.people_lines", "chat.presence", "chat.program_lines", "chat.request_lines", "chat.requests"),
    *("chat.room", "chat.room_log", "chat.words"),
    *("chat.redis_directory_scripts", "chat.redis_entries", "chat.redis_feed", "chat.redis_log_scripts"),
    "chat.redis_node_scripts",
    *("chat.sqlite_entries", "chat.sqlite_file", "chat.sqlite_reader", "chat.sqlite_writer"),
    *("check", "check.check_target", "check.finding", "check.udp_question"),
    *("rfc", "rfc.character_lines", "rfc.daytime_line", "rfc.time_octets"),
    *("probe", "probe.clock_reading", "probe.probe_dialects", "probe.probe_ledger", "probe.probe_payload"),
    *("probe.clock_offset", "probe.delay_variation", "probe.loss_direction", "probe.one_way_delay"),
    *("probe.probe_schedule", "probe.probe_series", "probe.probe_target", "probe.recent_minimum"),
    *("probe.duration_summary", "probe.fail_condition", "probe.probe_event", "probe.probe_summary"),
    *("probe.answer_watch", "probe.bucketed_durations", "probe.probe_counters", "probe.rate_limit_pattern"),
    *(
        "echo",
        "echo.reply_template",
        "timestamp",
        "timestamp.format",
        "timestamp.round_trip",
        "server",
        "server.config",
    ),
    *("server.config_file", "server.flags", "server.start_plan"),
    *("net", "net.connection_state", "net.error_words", "net.send_queue"),
    *("talk", "talk.conversation_state", "talk.learned_framing"),
    *("cli", "cli.chat_log", "cli.chat_memory", "cli.check_report", "cli.json_lines"),
    *("cli.lookup_results", "cli.name_service", "cli.probe_lines"),
    *("cli.statuses", "cli.terminal_chat_lines"),
    *("cli.terminal_commands", "cli.terminal_completion", "cli.terminal_scrollback", "cli.terminal_status"),
    "cli.terminal_text",
    *("stamp", "stamp.packets", "stamp.stamp_keys", "stamp.stamp_sessions", "stamp.stamp_times"),
    *("stamp.tlv_reflection", "stamp.tlvs"),
    *("redis", "redis.redis_address", "redis.redis_script", "web", "web.request_origin"),
    *("testing.events", "testing.link", "testing.splits", "testing.trace", "testing.stack", "testing.pipe"),
    *("testing.keepalive", "testing.loss_recovery", "testing.tcp_recovery"),
    *("testing.stream_socket", "testing.datagram_socket", "testing.determinism", "testing.refusing_loop"),
    *("testing.not_simulated", "testing.running_host", "testing.host_clock", "testing.trace_event"),
    *("testing.trace_page", "testing.trace_pcap", "testing.parallel_runs", "testing.interruption"),
}

#: The modules that every service, or every subcommand, may have. All other names of modules are unique.
ROLES = {"__init__", "__main__", "client", "format", "server"}


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


def run_python(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_importing_a_pure_module_loads_neither_twisted_nor_openssl() -> None:
    # testing's package imports Twisted; its pure modules are pure by themselves.
    pure = sorted(name for name in MODULES if is_pure(name) and folder_of(name) != "testing")
    modules = ["netsvc", *(f"netsvc.{name}" for name in pure)]
    run_python(
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    loaded = {module.partition('.')[0] for module in sys.modules}\n"
        "    assert not loaded & {'twisted', 'zope', 'OpenSSL', 'cryptography'}, name\n"
    )


def test_importing_any_module_installs_no_reactor() -> None:
    modules = sorted(f"netsvc.{name}" for name in MODULES if name not in ("__init__", "__main__"))
    run_python(
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'twisted.internet.reactor' not in sys.modules, name\n"
    )


def test_importing_the_simulated_network_loads_no_service() -> None:
    services = [f"netsvc.{folder}" for folder, layer in LAYERS.items() if layer in (3, 4, 5, 6)]
    run_python(f"import sys, netsvc.testing\nassert not set(sys.modules) & set({services!r})\n")


def test_every_public_name_is_there_and_documented() -> None:
    for name in netsvc.__all__:
        assert getattr(netsvc, name).__doc__, name
    assert set(netsvc.__all__) <= set(dir(netsvc))


def test_the_type_checker_sees_the_same_public_names_as_the_program() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    [declared] = [node for node in tree.body if isinstance(node, ast.If)]
    names = {
        (alias.asname, f"{node.module}")
        for node in declared.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == {(name, module) for module, names in netsvc._MODULES.items() for name in names}
    assert sorted(netsvc.__all__) == sorted(netsvc._MODULE_OF)


def test_the_type_checker_accepts_each_way_to_import_a_public_name(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import netsvc\nfrom netsvc import *\nfrom netsvc import Config\n"
        "reveal_type(Config())\nreveal_type(EchoClient)\nreveal_type(netsvc.Cause.SERVER_FULL.label)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
    assert all(text in done.stdout for text in ("server.config.Config", "echo.client.EchoClient")), done.stdout
    assert "Any" not in done.stdout


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = netsvc.nonsense


def test_no_two_modules_share_a_name() -> None:
    # A subcommand has the name of its service: netsvc.cli.talk and netsvc.talk.
    names = [name.rpartition(".")[2] for name in MODULES if folder_of(name) != "cli"]
    shared = {name for name in names if names.count(name) > 1} - ROLES
    assert not shared


def test_no_two_public_classes_or_functions_share_a_name() -> None:
    defined: dict[str, str] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                if node.name in ("main", "makeService", "install"):  # conventions of Python and Twisted
                    continue
                assert node.name not in defined, f"{node.name} is defined in {module} and {defined[node.name]}"
                defined[node.name] = module


def test_every_exception_has_the_common_base_class() -> None:
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                error = getattr(importlib.import_module(f"netsvc.{module}"), node.name)
                assert issubclass(error, NetsvcError), f"{module}.{node.name}"


def test_no_class_reads_a_private_attribute_of_its_base() -> None:
    """A private name that a subclass uses must be one that it defines itself, or one of Twisted's."""
    classes = {
        node.name: node
        for path in MODULES.values()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    own = {name: _private_names(node, ast.Store) for name, node in classes.items()}
    found: list[str] = []
    for name, node in classes.items():
        for base in _bases(node, classes):
            shared = (_private_names(node, ast.Load) & own[base]) - own[name]
            found += [f"{name} reads {', '.join(sorted(shared))} of {base}"] if shared else []
    assert not found


def _bases(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> set[str]:
    direct = {base.id for base in node.bases if isinstance(base, ast.Name) and base.id in classes}
    return direct.union(*(_bases(classes[base], classes) for base in direct))


def _private_names(node: ast.ClassDef, context: type[ast.expr_context]) -> set[str]:
    """Return the names ``_x`` that a class loads from, or stores in, ``self``, and those that it defines."""
    used = {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, context)
        and isinstance(part.value, ast.Name)
        and part.value.id == "self"
    }
    defined = {part.name for part in node.body if isinstance(part, ast.FunctionDef)} if context is ast.Store else set()
    return {name for name in used | defined if name.startswith("_") and not name.startswith("__")}
