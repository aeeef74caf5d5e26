"""The commands of CONTRIBUTING.md, each as a session with an environment of its own: ``nox -s tests``.

Without ``-s`` nox runs tests, lint, types and docs.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

PYTHONS = ["3.11", "3.12", "3.13"]
OLDEST_PYTHON = PYTHONS[0]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite on each installed Python; a Python that is missing is skipped."""
    session.install("-e", ".[test]")
    run_tests(session)


@nox.session(name="tests-oldest", python=OLDEST_PYTHON)
def tests_oldest(session: nox.Session) -> None:
    """The test suite with the oldest dependencies that pyproject.toml allows."""
    session.install("-e", ".[test]", "-c", "constraints-oldest.txt")
    run_tests(session)


@nox.session(name="tests-newest")
def tests_newest(session: nox.Session) -> None:
    """The test suite with the newest dependencies, pre-releases included, and the newest Twisted whatever the bound."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "--pre", "-e", ".[test]")
    session.install("--upgrade", "--no-deps", "--pre", "twisted")
    run_tests(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and lint."""
    session.install("-e", ".[dev]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Type checks."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The book in docs/_build; a warning is an error."""
    session.install("-e", ".[docs,fast,metrics,unicode]")
    session.run("sphinx-build", "-E", "-W", "--keep-going", "-b", "html", "docs", "docs/_build")


@nox.session
def wheel(session: nox.Session) -> None:
    """The test suite against the built wheel: everything but the package is copied to where the tests run."""
    session.install("hatchling>=1.27")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        session.run("python", "-m", "hatchling", "build", "-t", "wheel", "--directory", str(folder / "dist"))
        [built] = (folder / "dist").glob("netsvc-*.whl")
        session.install("--force-reinstall", f"{built}[test]")
        for copied in ("bench", "deploy", "docs", "examples", "hostile", "tests"):
            shutil.copytree(copied, folder / copied, ignore=shutil.ignore_patterns("__pycache__", "_build"))
        for file in (*Path().glob("*.md"), Path("pyproject.toml"), Path("noxfile.py")):
            shutil.copy(file, folder)
        with session.chdir(folder):
            run_tests(session, "--ignore=tests/test_packaging.py")


def run_tests(session: nox.Session, *options: str) -> None:
    """Run pytest on all cores, with the arguments that follow ``--``."""
    session.run("pytest", "-n", "auto", *options, *session.posargs)
