"""Many TLS handshakes at once."""

from __future__ import annotations

import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import trustme

from hostile.finding import Finding, at, quiet
from hostile.target import ANY, PATIENCE, Serving, connect, many


def tls_handshakes(serving: Serving, seconds: float) -> Iterator[Finding]:
    """1,000 clients, each a host of its own, send their prepared ClientHello at the same moment; with ECDSA and RSA."""
    for name, kind in (("ECDSA P-256", trustme.KeyType.ECDSA), ("RSA 2048", trustme.KeyType.RSA)):
        with tempfile.NamedTemporaryFile(suffix=".pem") as pem, many() as opened:
            authority = trustme.CA(key_type=kind)
            authority.issue_cert("localhost", key_type=kind).private_key_and_cert_chain_pem.write_to_path(pem.name)
            hellos = [_client_hello() for _ in range(1_000)]
            with serving("--tcp", ANY, "--chat", ANY, "--tls-cert", pem.name) as target:
                for number in range(1_000):
                    opened.append(connect(target.ports[0], number))
                connecting = target.longest_gap()
                honest = connect(target.ports[0], 5_000)
                opened.append(honest)
                secured = _context().wrap_socket(honest, server_hostname="localhost")
                secured.settimeout(PATIENCE)
                target.longest_gap()
                trips = []
                used = target.cpu_time()
                for peer, hello in zip(opened, hellos, strict=False):
                    peer.sendall(hello)
                began = time.monotonic()
                while time.monotonic() < began + 4:
                    asked = time.perf_counter()
                    secured.sendall(b"x")
                    secured.recv(1)
                    trips.append(time.perf_counter() - asked)
                    time.sleep(0.005)
                gap, used = target.longest_gap(), target.cpu_time() - used
                answered = 0
                for peer in opened[:1_000]:
                    peer.setblocking(False)
                    with suppress(BlockingIOError):
                        answered += bool(peer.recv(100))
                yield from quiet(target)
            yield Finding(f"longest gap of a 10 ms timer while they connect, {name}", connecting, 50, "ms")
            yield Finding(f"longest gap of a 10 ms timer, {name}", gap, 50, "ms")
            yield Finding(f"CPU time for each ClientHello, {name}", used, 1, "ms")
            yield Finding(f"p99 of an honest echo over TLS, {name}", at(0.99, trips), 100, "ms")
            yield Finding(f"ClientHellos that were not answered within 4 s, {name}", 1_000 - answered, 0, "")


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # any certificate
    return context


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
