"""Checks several targets of a host at once, in a bounded number of sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from netsvc.check.check_target import CheckProtocol, CheckTarget
from netsvc.check.datagram_check import check_datagrams
from netsvc.check.finding import Finding
from netsvc.check.stream_check import check_stream
from netsvc.check.tls_attempt import checking_contexts
from netsvc.net.reactors import Reactor

#: Sockets that are open at once.
AT_ONCE = 16


class HostCheck:
    """Checks a host.

    :param reactor: opens the sockets and tells the time.
    :param host: its name or IP address, as the user has typed it.
    :param addresses: the addresses to check.
    :param seconds: how long to wait for each answer.
    :param authorities: path of a PEM file with the authorities to trust; empty for those of the system.
    """

    def __init__(
        self, reactor: Reactor, host: str, addresses: Sequence[str], seconds: float, authorities: str = ""
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._addresses = addresses
        self._seconds = seconds
        self._authorities = authorities
        self._turns = DeferredSemaphore(AT_ONCE)

    async def findings(self, targets: Sequence[CheckTarget]) -> AsyncIterator[list[Finding]]:
        """Check all targets at once. Give the findings of each, one for each address, in the order of the targets."""
        has_tls = any(target.protocol == "tls" for target in targets)
        contexts = checking_contexts(self._authorities) if has_tls else []  # before the first packet: it takes time
        begun: list[list[Deferred[Finding]]] = [[Deferred() for _ in self._addresses] for _ in targets]
        starting = Deferred.fromCoroutine(self._start(targets, contexts, begun))
        for checks in begun:
            yield [await check for check in checks]
        await starting

    async def _start(
        self, targets: Sequence[CheckTarget], contexts: Sequence[SSL.Context], begun: list[list[Deferred[Finding]]]
    ) -> None:
        """Start one check in each iteration of the reactor, those with the most work last.

        Otherwise the work for all would delay the answer to the first.
        """
        clock: Any = self._reactor
        work: tuple[CheckProtocol, ...] = ("udp", "tcp", "tls")
        for target, results in sorted(zip(targets, begun, strict=True), key=lambda pair: work.index(pair[0].protocol)):
            for address, result in zip(self._addresses, results, strict=True):
                await self._turns.acquire()
                check = Deferred.fromCoroutine(
                    self._check(target, address, contexts if target.protocol == "tls" else ())
                )
                check.addBoth(self._finished).chainDeferred(result)
                await deferLater(clock, 0.0)

    def _finished(self, outcome: Finding | Failure) -> Finding | Failure:
        self._turns.release()
        return outcome

    async def _check(self, target: CheckTarget, address: str, contexts: Sequence[SSL.Context]) -> Finding:
        if target.protocol == "udp":
            return await check_datagrams(self._reactor, target, address, self._seconds)
        return await check_stream(self._reactor, target, self._host, address, self._seconds, contexts)
