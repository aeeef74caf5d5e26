"""Load on a server, with blocking sockets: ``blocking_load.py KIND PORT-OR-PATH NUMBER...``."""

from __future__ import annotations

import selectors
import socket
import sys
from collections.abc import Callable
from typing import Any, cast


def connected(where: str) -> socket.socket:
    """Connect to a port of this host, or to a UNIX socket."""
    if where.isdigit():
        return socket.create_connection(("127.0.0.1", int(where)))
    opened = socket.socket(socket.AF_UNIX)
    opened.connect(where)
    return opened


def send(where: str, megabytes: int) -> None:
    """Send lines of 64 bytes, and wait until the server has closed the connection."""
    with connected(where) as opened:
        for _ in range(megabytes):
            opened.sendall((b"x" * 63 + b"\n") * 15_625)
        opened.shutdown(socket.SHUT_WR)
        opened.recv(1)


def connect(where: str, number: int) -> None:
    for _ in range(number):
        with connected(where) as opened:
            opened.sendall(b"x" * 64)
            opened.recv(64)


def echo(where: str, connections: int, number: int) -> None:
    """Have one message of 64 bytes under way on each connection."""
    selector = selectors.DefaultSelector()
    left = {}
    for _ in range(connections):
        opened = connected(where)
        selector.register(opened, selectors.EVENT_READ)
        left[opened] = number
        opened.sendall(b"x" * 64)
    while left:
        for key, _ in selector.select():
            opened = cast(socket.socket, key.fileobj)
            opened.recv(64)
            left[opened] -= 1
            if left[opened]:
                opened.sendall(b"x" * 64)
            else:
                del left[opened]
                selector.unregister(opened)
                opened.close()


def dns(where: str, in_flight: int, number: int) -> None:
    """Ask a DNS server for ``a.example.test`` this many times, with several queries under way."""
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\1a\7example\4test\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        opened.connect(("127.0.0.1", int(where)))
        for _ in range(in_flight):
            opened.send(query)
        for _ in range(number - in_flight):
            assert opened.recv(512)[7], "the answer has no record"
            opened.send(query)
        for _ in range(in_flight):
            opened.recv(512)


def wave(where: str, connections: int, number: int) -> None:
    """Open connections, echo 20 messages on each of them, and close them, several times."""
    for _ in range(number):
        opened = [connected(where) for _ in range(connections)]
        for _ in range(20):
            for each in opened:
                each.sendall(b"x" * 64)
            for each in opened:
                each.recv(64)
        for each in opened:
            each.close()


def smtp(where: str, number: int) -> None:
    import smtplib

    with smtplib.SMTP("127.0.0.1", int(where)) as client:
        text = b"Subject: big\r\n\r\n" + (b"x" * 70 + b"\r\n") * 140_000
        for _ in range(number):
            client.sendmail("from@example.com", ["to@example.com"], text)


def tls_send(where: str, megabytes: int) -> None:
    """Send bytes over TLS, and wait until the peer has received them."""
    with _tls(where) as opened:
        for _ in range(megabytes * 4):
            opened.sendall(b"x" * 250_000)
        opened.unwrap().close()


def tls_receive(where: str) -> None:
    """Read to the end over TLS."""
    with _tls(where) as opened:
        while opened.recv(262_144):
            pass


def _tls(where: str) -> Any:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connected(where), suppress_ragged_eofs=True)


if __name__ == "__main__":
    kind, where, *numbers = sys.argv[1:]
    kinds: list[Callable[..., None]] = [send, connect, echo, dns, wave, smtp, tls_send, tls_receive]
    {each.__name__.replace("_", "-"): each for each in kinds}[kind](where, *map(int, numbers))
