"""An environment with the foreign packages whose tests and programs run on netsvc's reactors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".foreign"

#: The packages to install: those that are tested, and those that their tests need.
PACKAGES = (
    *("twisted[conch,http2,serial,test,tls]", "autobahn[twisted]", "foolscap", "httpbin", "klein", "treq", "trustme"),
    *("aiohttp", "crochet", "httpx", "scrapy"),
)


def environment(python: str) -> Path:
    """Return the Python of an environment that has the packages. Create it if it does not exist.

    :param python: the program, or a path, of the Python to use.
    """
    version = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True)
    folder = ENVIRONMENTS / version.strip()
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text().split() != list(PACKAGES):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", folder], check=True)
        pip: list[str | Path] = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-e", f"{ROOT}[fast]", *PACKAGES], check=True)
        installed.write_text("\n".join(PACKAGES))
    return folder / "bin" / "python"
