"""Compare the runs of programs on the simulated network on two Pythons: ``python -m tests.replays --python PYTHON``.

It runs the programs of ``tests/global_reactor`` on the Python that runs this command and on another one, under two
hash seeds, and compares their traces byte by byte. Programs that encrypt with TLS or SSH write no trace: OpenSSL's
randomness does not follow the seed. The other Python gets netsvc and its extra ``dev`` in an environment of its own.
Exit status 1 means that a trace differs, or that only one Python wrote it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: Seconds that the programs may take.
PATIENCE = 600


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.replays", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--python", required=True, help="the other Python, such as python3.13")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        other = install(options.python, Path(folder, "environment"))
        mine = run_programs(sys.executable, Path(folder, "mine"), "1")
        its = run_programs(other, Path(folder, "its"), "2")
    differing = sorted(name for name in mine | its if mine.get(name) != its.get(name))
    for name in differing:
        sys.stdout.write(f"differs: {name}\n")
    sys.stdout.write(f"{len(mine)} and {len(its)} traces, {len(differing)} differ\n")
    return 1 if differing or not mine else 0


def install(python: str, folder: Path) -> str:
    """Install netsvc in a new environment of a Python. Returns the environment's Python."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    inside = str(folder / "bin" / "python")
    subprocess.run([inside, "-m", "pip", "install", "--quiet", "-e", f"{ROOT}[dev]"], check=True)
    return inside


def run_programs(python: str, traces: Path, hash_seed: str) -> dict[str, str]:
    """Run the programs. Returns the trace of each that does not encrypt, by its name.

    :param traces: a folder that does not exist.
    """
    traces.mkdir()
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "--no-cov", "-o", "netsvc_global_reactor=true"]
    done = subprocess.run(
        [python, "-m", "pytest", "-q", *options, str(ROOT / "tests" / "global_reactor")],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "NETSVC_TRACES": str(traces)},
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{python}: the programs failed:\n{done.stdout}{done.stderr}")
    return {path.name: path.read_text() for path in traces.iterdir()}


if __name__ == "__main__":
    sys.exit(main())
