"""Measure the throughput of one echo connection over a link with a delay: ``python -m bench.delay [--rtt 100]``.

The link is two TUN devices in network namespaces of their own, and a process that passes their packets on after half
of the round-trip time. It needs Linux and root. Each row is one value of ``--receive-buffer``.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import multiprocessing
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SERVER, CLIENT, PORT = "10.99.0.1", "10.99.0.2", 1314
MTU = 1500


def _new_namespace() -> None:
    """Move this process into a new network namespace."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise SystemExit(f"bench.delay: no network namespace: {os.strerror(ctypes.get_errno())}; run it as root")


def _tun(name: str, address: str) -> int:
    """Create a TUN device in this namespace, and return its descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "address", "add", f"{address}/24", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "mtu", str(MTU), "txqueuelen", "10000", "up"], check=True)
    return device


def _relay(devices: tuple[int, int], delay: float) -> None:
    """Pass the packets of each device to the other one after ``delay`` seconds."""
    poll = select.poll()
    other = dict(zip(devices, reversed(devices), strict=True))
    for device in devices:
        os.set_blocking(device, False)
        poll.register(device, select.POLLIN)
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        timeout = max(0, (waiting[0][0] - time.monotonic()) * 1000) if waiting else None
        for device, _ in poll.poll(timeout):
            for _ in range(64):
                try:
                    packet = os.read(device, MTU)
                except BlockingIOError:
                    break
                number += 1
                heapq.heappush(waiting, (time.monotonic() + delay, number, other[device], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(waiting)
            os.write(device, packet)


def _echoed(seconds: float) -> float:
    """Echo as much as possible for ``seconds``, after a tenth of it for a start. Return the bytes per second."""
    with socket.create_connection((SERVER, PORT), 10) as peer:
        peer.setblocking(False)
        poll = select.poll()
        poll.register(peer, select.POLLIN | select.POLLOUT)
        received, data, began = 0, bytes(65_536), time.monotonic()
        counted_from, end = began + seconds / 10, began + seconds * 1.1
        while (now := time.monotonic()) < end:
            for _, event in poll.poll(1000):
                if event & select.POLLIN:
                    data_received = peer.recv(1 << 20)
                    received += len(data_received) if now >= counted_from else 0
                if event & select.POLLOUT:
                    peer.send(data)
        return received / seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.delay", description=__doc__.partition("\n")[0])
    parser.add_argument("--rtt", type=float, default=100, help="round-trip time in milliseconds (default: 100)")
    parser.add_argument("--seconds", type=float, default=10, help="duration of each measurement (default: 10)")
    parser.add_argument(
        "--receive-buffer", type=int, nargs="+", default=[65_536, 262_144, 1_048_576, 0], help="values to measure"
    )
    options = parser.parse_args(argv)
    sys.stdout.write(f"| --receive-buffer | echoed at {options.rtt:g} ms |\n|---:|---:|\n")
    for value in options.receive_buffer:
        results: multiprocessing.Queue[float] = multiprocessing.Queue()
        measurement = multiprocessing.Process(target=_measure, args=(options.rtt, options.seconds, value, results))
        measurement.start()
        measurement.join(options.seconds * 2 + 30)
        measurement.kill()
        if results.empty():
            raise SystemExit("bench.delay: there is no result")
        sys.stdout.write(f"| {value:,} | {results.get() / 1e6:.2f} MB/s |\n")
        sys.stdout.flush()


def _measure(rtt: float, seconds: float, receive_buffer: int, results: multiprocessing.Queue[float]) -> None:
    _new_namespace()
    near = _tun("server", SERVER)
    twist = [str(Path(sys.executable).with_name("twist")), "netsvc", "--tcp", f"{SERVER}:{PORT}"]
    with subprocess.Popen(
        [*twist, "--receive-buffer", str(receive_buffer)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        _new_namespace()
        far = _tun("client", CLIENT)
        relay = multiprocessing.Process(target=_relay, args=((near, far), rtt / 2000), daemon=True)
        relay.start()
        try:
            _until_served()
            results.put(_echoed(seconds))
        finally:
            relay.kill()
            server.kill()


def _until_served() -> None:
    for _ in range(50):
        try:
            socket.create_connection((SERVER, PORT), 10).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("bench.delay: the server does not answer")


if __name__ == "__main__":
    main()
