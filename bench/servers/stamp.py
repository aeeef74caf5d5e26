"""The STAMP reflectors of netsvc: ``python -m bench.servers.stamp netsvc_KIND_REACTOR``.

The kinds are ``stamp``, a stateless one; ``sessions``, which counts its answers; and ``timestamp``, the timestamp
service, whose answers to the same questions are longer.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from bench.servers.run import run_on_reactor
from bench.servers.timestamp import listen_netsvc


def listen(reactor: Any, *, stateful: bool) -> Any:
    """Listen as ``--stamp PORT`` does. The guard admits every question of this load."""
    from netsvc import DatagramGuard, SourceBuckets, StampReflector, Terms
    from netsvc.net.listening import datagram_listener
    from netsvc.stamp.server import SessionKey
    from netsvc.stamp.stamp_sessions import StampSessions

    guard = DatagramGuard(SourceBuckets(rate=1e6, burst=1_000_000, total=1e9))
    terms = Terms.on(reactor)
    sessions = StampSessions[SessionKey](10_000) if stateful else None
    listener = datagram_listener(
        reactor, "stamp", "0", lambda: StampReflector(terms, guard, sessions=sessions), 1400, metadata=True
    )
    listener.startService()
    return listener.ports[0]


def main(name: str) -> None:
    _, kind, reactor = name.split("_")
    listen_kind = listen_netsvc if kind == "timestamp" else partial(listen, stateful=kind == "sessions")
    run_on_reactor("twisted_epoll" if reactor == "epoll" else f"netsvc_{reactor}", listen_kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
