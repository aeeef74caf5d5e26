"""How Sphinx builds the book: ``sphinx-build -W --keep-going -b html docs docs/_build``.

The build needs no network: no inventory is downloaded, and the theme brings its own fonts and scripts.
"""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any

import netsvc

project = "netsvc"
author = copyright = "The netsvc authors"  # noqa: A001  Sphinx's own name
release = version = netsvc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"netsvc {release}"

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# The methods that Twisted calls would otherwise bring Twisted's own docstrings, which are not reST.
autodoc_inherit_docstrings = False
autodoc_class_signature = "separated"

#: The page that has the public names, and its sections: the package in which a name is defined, and a title.
API_PAGE = "reference/api"
SECTIONS = {
    "netsvc.server": "The server as a whole",
    "netsvc.errors": "Errors",
    "netsvc.echo": "Echo and acknowledgement",
    "netsvc.timestamp": "Timestamps",
    "netsvc.stamp": "STAMP",
    "netsvc.rfc": "Discard, chargen, daytime and time",
    "netsvc.chat": "Chat",
    "netsvc.talk": "Conversations",
    "netsvc.net": "Connections and sockets",
    "netsvc.limits": "Limits",
    "netsvc.wire": "Bytes and values",
    "netsvc": "Others",
}

#: The other public modules.
MODULES = (
    "netsvc.chat.requests",
    "netsvc.chat.chat_events",
    "netsvc.chat.entries",
    "netsvc.chat.program_lines",
    "netsvc.chat.client",
    "netsvc.chat.chat_connection",
    "netsvc.chat.participant",
    "netsvc.chat.store",
    "netsvc.chat.memory_store",
    "netsvc.chat.sqlite_store",
    "netsvc.reactor",
    "netsvc.testing",
)


def setup(app: Any) -> None:
    app.connect("source-read", fill_in_api)


def fill_in_api(_app: Any, page: str, source: list[str]) -> None:
    """Put the directives for all of ``netsvc.__all__`` into the page of the API."""
    if page == API_PAGE:
        source[0] = source[0].replace("<!-- api -->", api())


def api() -> str:
    """Return a section for each package that has public names, and one for each other public module."""
    sections: dict[str, list[str]] = {package: [] for package in SECTIONS}
    for name in sorted(netsvc.__all__):
        module = getattr(getattr(netsvc, name), "__module__", "netsvc")
        package = next(package for package in SECTIONS if f"{module}.".startswith(f"{package}."))
        sections[package].append(name)
    written = [section(SECTIONS[package], "netsvc", names) for package, names in sections.items() if names]
    for name in MODULES:
        module = importlib.import_module(name)
        written.append(section(f"`{name}`", name, names_of(module)))
    return "\n\n".join(written)


def names_of(module: ModuleType) -> list[str]:
    """Return ``__all__`` of a module; without it, the public classes that it defines and ``netsvc`` does not have."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
        if name not in netsvc.__all__
    ]


def section(title: str, module: str, names: list[str]) -> str:
    """Return the section that documents some names of a module."""
    return "\n\n".join([f"## {title}", *(directive(module, name) for name in names)])


def directive(module: str, name: str) -> str:
    """Return the directive that documents one name."""
    value = getattr(importlib.import_module(module), name)
    kind = "class" if inspect.isclass(value) else "function" if inspect.isroutine(value) else "data"
    if inspect.isclass(value) and issubclass(value, Exception):
        kind = "exception"
    members = "   :members:\n" if kind in ("class", "exception") else ""
    return f"```{{eval-rst}}\n.. auto{kind}:: {module}.{name}\n{members}```"
