"""The wheel, the sdist and the editable install: what they contain, and that ``twist`` finds the plugin in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
MINUTES = 4 * 60

#: The folders of the sdist, and the endings that their files may have.
FOLDERS = {
    "netsvc": {".py", ".typed", ".html", ".css", ".js", ".svg", ".ts", ".md"},
    "bench": {".py", ".c", ".h", ".go"},
    "deploy": {".cfg", ".service", ".socket"},
    "docs": {".json", ".md", ".png", ".py", ".svg"},
    "examples": {".py", ".tac"},
    "hostile": {".py"},
    "tests": {".py"},
    "twisted": {".py"},
}

#: The files of the sdist that are in no folder. hatchling adds .gitignore, which its own builds read, and PKG-INFO.
FILES = {
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "pyproject.toml"),
    *("constraints-oldest.txt", "noxfile.py", "pytest_netsvc.py", ".gitignore", "PKG-INFO"),
}

#: The extras that ``netsvc[test]`` installs.
INSTALLED_BY_TEST = ("test", "fast", "metrics", "plot", "probe", "redis", "terminal", "unicode", "web")

PLUGIN = "twisted/plugins/netsvc_plugin.py"
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def run(*command: object, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MINUTES,
        env=environment,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel of this project."""
    directory = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "--directory", directory, cwd=PROJECT)
    return directory


def files_in(wheel_or_sdist: Path) -> set[str]:
    """Return the names of the files in an archive. Those of an sdist are without its folder."""
    if wheel_or_sdist.suffix == ".whl":
        return set(zipfile.ZipFile(wheel_or_sdist).namelist())
    with tarfile.open(wheel_or_sdist) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def sources(*folders: str) -> set[str]:
    """Return the files of this project in these folders that are not generated."""

    def walk(folder: Path) -> Iterator[Path]:
        for path in folder.iterdir():
            if path.is_dir():
                if path.name not in {"_build", "__pycache__"} and not path.name.startswith("."):
                    yield from walk(path)
            elif path.name != "dropin.cache":
                yield path

    return {path.relative_to(PROJECT).as_posix() for folder in folders for path in walk(PROJECT / folder)}


def test_the_wheel_contains_the_package_and_the_plugins_and_nothing_else(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    information = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
    expected = sources("netsvc") | {"pytest_netsvc.py", PLUGIN} | {f"{information}/{name}" for name in METADATA}
    assert files_in(wheel) == expected


def test_the_sdist_contains_the_sources_and_nothing_else(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    assert files_in(sdist) == sources(*FOLDERS) | FILES


def test_no_folder_contains_a_stray_file() -> None:
    stray = [
        name
        for folder, endings in FOLDERS.items()
        for name in sources(folder)
        if Path(name).suffix not in endings and Path(name).name != "Dockerfile"
    ]
    assert stray == []


def test_the_wheel_of_the_sdist_is_the_same(built: Path, tmp_path: Path) -> None:
    [sdist], [wheel] = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    run(
        sys.executable, "-m", "hatchling", "build", "-t", "wheel", "--directory", tmp_path, cwd=next(tmp_path.iterdir())
    )
    assert files_in(tmp_path / wheel.name) == files_in(wheel)


def test_the_oldest_dependencies_are_the_lower_bounds() -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    required = [
        Requirement(text)
        for text in [*project["dependencies"], *(text for name in INSTALLED_BY_TEST for text in extras[name])]
    ]
    bounds = {canonicalize_name(r.name): lower_bound(r) for r in required if r.name != "netsvc"}
    lines = (PROJECT / "constraints-oldest.txt").read_text().splitlines()
    pinned = dict(re.split("==", line) for line in lines if not line.startswith("#"))
    assert {canonicalize_name(name): Version(version) for name, version in pinned.items()} == bounds


def lower_bound(requirement: Requirement) -> Version:
    [bound] = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    return bound


def new_environment(directory: Path) -> Path:
    """Return the bin directory of a new environment, which finds this one's libraries but not this one's netsvc."""
    venv.create(directory, with_pip=False)
    [site_packages] = directory.glob("lib/python*/site-packages")
    [libraries] = {path for path in sys.path if path.endswith("site-packages") and path.startswith(sys.prefix)}
    # Only the directory itself is added: the .pth files in it, by which an editable netsvc is found, are not read.
    (site_packages / "libraries.pth").write_text(libraries + "\n")
    return directory / "bin"


@pytest.mark.parametrize("installed", ["wheel", "editable"])
def test_twist_finds_the_plugin_after_an_install(installed: str, built: Path, tmp_path: Path) -> None:
    bin_ = new_environment(tmp_path / "environment")
    target = [*built.glob("*.whl")] if installed == "wheel" else ["--editable", PROJECT]
    pip = [sys.executable, "-m", "pip", "--python", bin_ / "python", "install", "--no-deps", "--no-build-isolation"]
    run(*pip, "--force-reinstall", *target)
    assert "netsvc" in run(bin_ / "python", "-P", "-m", "twisted", "--help", cwd=tmp_path)
    printed = run(bin_ / "python", "-P", "-c", "import netsvc; print(netsvc.__file__)", cwd=tmp_path).strip()
    assert Path(printed).is_relative_to(tmp_path if installed == "wheel" else PROJECT)
    assert (bin_ / "netsvc").exists()
