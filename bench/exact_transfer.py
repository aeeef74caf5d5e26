"""Compare the time in which ``netsvc talk``, ``send`` and ``receive`` carry a file with that of nc.

Run ``python -m bench.exact_transfer [BYTES] [ROUNDS]``. The rounds are interleaved. Each time runs from the start of
the client, that of Python included, to the end of both programs. The listener writes to a pipe that a third program
hashes.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

NETSVC = (sys.executable, "-m", "netsvc")

PAIRS: dict[str, tuple[list[str], list[str]]] = {
    "nc to nc": (["nc", "-l", "127.0.0.1", "PORT"], ["nc", "-N", "127.0.0.1", "PORT"]),
    "nc to talk -l": ([*NETSVC, "talk", "-l", "127.0.0.1:PORT"], ["nc", "-N", "127.0.0.1", "PORT"]),
    "nc to receive": ([*NETSVC, "receive", "--count", "1", "127.0.0.1:PORT"], ["nc", "-N", "127.0.0.1", "PORT"]),
    "talk to nc": (["nc", "-l", "127.0.0.1", "PORT"], [*NETSVC, "talk", "127.0.0.1:PORT"]),
    "send to nc": (["nc", "-l", "127.0.0.1", "PORT"], [*NETSVC, "send", "127.0.0.1:PORT"]),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return int(opened.getsockname()[1])


def wait_until_listening(port: int) -> None:
    sign = f"0100007F:{port:04X} 00000000:0000 0A"
    while True:
        with open("/proc/net/tcp") as table:
            if sign in table.read():
                return
        time.sleep(0.01)


def transfer(pair: tuple[list[str], list[str]], path: str) -> tuple[float, str]:
    """Return the seconds of one transfer, and the hash of what has arrived."""
    port, quiet = free_port(), subprocess.DEVNULL
    listen, send = ([word.replace("PORT", str(port)) for word in command] for command in pair)
    with (
        subprocess.Popen(listen, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=quiet) as listener,
        subprocess.Popen(["sha1sum"], stdin=listener.stdout, stdout=subprocess.PIPE) as hasher,
        open(path, "rb") as file,
    ):
        assert listener.stdout is not None
        listener.stdout.close()
        wait_until_listening(port)
        began = time.perf_counter()
        subprocess.run(send, stdin=file, stdout=subprocess.DEVNULL, check=True, timeout=120, stderr=quiet)
        digest = hasher.communicate(timeout=120)[0].split()[0].decode()
        listener.wait(120)
        return time.perf_counter() - began, digest


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    times: dict[str, list[float]] = {name: [] for name in PAIRS}
    with tempfile.NamedTemporaryFile() as file:
        for start in range(0, size, 1_000_000):
            file.write(os.urandom(min(1_000_000, size - start)))
        file.flush()
        expected = subprocess.run(["sha1sum", file.name], capture_output=True, check=True).stdout.split()[0].decode()
        for _ in range(rounds):
            for name, pair in PAIRS.items():
                seconds, digest = transfer(pair, file.name)
                assert digest == expected, name
                times[name].append(seconds)
    base = statistics.median(times["nc to nc"])
    sys.stdout.write(f"{size:,} bytes, median of {rounds}; best; in relation to nc\n")
    for name, values in times.items():
        median = statistics.median(values)
        sys.stdout.write(f"{name:14} {median:7.3f} s {min(values):7.3f} s {median / base:5.2f}\n")


if __name__ == "__main__":
    main()
