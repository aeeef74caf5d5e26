"""The wheel and the editable install, each in a new environment, where ``twist`` has to find the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
MINUTES = 4 * 60


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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this project, built from a clean copy of what is under version control or would be."""
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, PROJECT)
    [built] = directory.glob("netsvc-*.whl")
    return built


def new_environment(directory: Path) -> Path:
    """Return the bin directory of a new environment, which finds this one's libraries but not this one's netsvc."""
    venv.create(directory, with_pip=False)
    [site_packages] = directory.glob("lib/python*/site-packages")
    [libraries] = {path for path in sys.path if path.endswith("site-packages") and path.startswith(sys.prefix)}
    # Only the directory itself is added: the .pth files in it, by which an editable netsvc is found, are not read.
    (site_packages / "libraries.pth").write_text(libraries + "\n")
    return directory / "bin"


def test_the_wheel_holds_the_package_and_the_plugin_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "twisted/plugins/netsvc_plugin.py" in names
    assert "netsvc/py.typed" in names
    outside = [name for name in names if not name.startswith(("netsvc/", "netsvc-"))]
    assert outside == ["pytest_netsvc.py", "twisted/plugins/netsvc_plugin.py"]


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_twist_finds_the_plugin_after_an_install(how: str, wheel: Path, tmp_path: Path) -> None:
    bin_ = new_environment(tmp_path / "environment")
    what = [wheel] if how == "wheel" else ["--editable", PROJECT]
    pip = [sys.executable, "-m", "pip", "--python", bin_ / "python", "install", "--no-deps", "--no-build-isolation"]
    run(*pip, "--force-reinstall", *what)
    listed = run(bin_ / "python", "-P", "-m", "twisted", "--help", cwd=tmp_path)
    assert "netsvc" in listed
    where = run(bin_ / "python", "-P", "-c", "import netsvc; print(netsvc.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(tmp_path if how == "wheel" else PROJECT)
    assert (bin_ / "netsvc").exists()
