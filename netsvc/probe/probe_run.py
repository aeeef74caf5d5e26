"""A measurement of one target: its prober on its socket, and its record."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from OpenSSL import SSL
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall

from netsvc.check.check_target import CheckTarget
from netsvc.linux.clock_state import read_clock_state
from netsvc.net.reactors import Reactor, cancel, monotonic_nanoseconds_of, tells_wall_time, wall_nanoseconds_of
from netsvc.net.udp_port import UdpPort
from netsvc.net.udp_socket import open_udp_socket
from netsvc.probe.one_way_delay import clock_claim
from netsvc.probe.probe_counters import ProbeCounters
from netsvc.probe.probe_dialects import EchoDialect, ProbeDialect, StampDialect
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_payload import RUN_SIZE
from netsvc.probe.probe_record import ProbeRecord
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_summary import ProbeSummary
from netsvc.probe.probe_target import ProbeTarget
from netsvc.probe.stream_prober import StreamProber
from netsvc.probe.udp_prober import UdpProber
from netsvc.stamp.packets import BASE_LENGTH
from netsvc.stamp.stamp_times import ErrorEstimate, TimeFormat
from netsvc.wire.address import format_address

#: Bytes of a datagram to an echo or a timestamp service, if none are chosen.
ECHO_SIZE = 64

#: Bytes of the longest answer: the longest payload, and a timestamp in front of it.
_ANSWER_MAX = 65_536

#: Bytes of the receive buffer, as far as the system allows: short answers of 0.1 s at 20,000 a second.
_RECEIVE_BUFFER = 1 << 20

#: Nanoseconds from the making of a run to its first probe. Until then its socket is opened.
START_LEAD = 50_000_000

#: Seconds between two questions to the system how right its clock is.
CLAIM_INTERVAL = 10.0


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How targets are measured. Times are nanoseconds.

    :param interval: between two probes of a target.
    :param count: probes of a target; None for no limit.
    :param duration: of the measurement; None for no limit.
    :param timeout: after which a probe without an answer is lost. With TLS, it is that of the connection, and then that
        of the handshake.
    :param size: bytes of a datagram; None for 44 (STAMP) or 64.
    :param traffic_class: DSCP times 4, and the ECN bits, of datagrams; None for the system's default.
    :param source: the local IP address to send from; empty for that of the route.
    """

    interval: int = 200_000_000
    count: int | None = None
    duration: int | None = None
    timeout: int = 2_000_000_000
    size: int | None = None
    traffic_class: int | None = None
    source: str = ""


class ProbeRun:
    """Measures one target, on one address.

    :param reactor: provides sockets and time.
    :param target: the target, as the user has named it.
    :param address: its IPv4 or IPv6 address.
    :param settings: how it is measured.
    :param delay: nanoseconds that are added to ``START_LEAD`` until the first probe. Call :meth:`start` at once.
    :param contexts: for TLS: those of :func:`~netsvc.check.tls_attempt.checking_contexts`.
    :param on_event: is called with everything that happens to a probe, except that it was sent.
    :ivar record: what is known by now.
    :ivar finished: fires when the last probe of the schedule is answered or lost, or after :meth:`stop`. It fails if a
        fault of netsvc's ends the run.
    :raises ProbeSizeError: if the protocol has no datagram of this size.
    :raises PayloadError: likewise.
    """

    def __init__(
        self,
        reactor: Reactor,
        target: ProbeTarget,
        address: str,
        settings: ProbeSettings,
        *,
        delay: int = 0,
        contexts: Sequence[SSL.Context] = (),
        on_event: Callable[[ProbeEvent], None] | None = None,
    ) -> None:
        self.target = target
        self.address = address
        self._reactor = reactor
        self._settings = settings
        self._port: UdpPort | None = None
        self._claim_call: IDelayedCall | None = None
        self._stamp: StampDialect | None = None
        mono = monotonic_nanoseconds_of(reactor)
        start = mono() + START_LEAD + delay
        schedule = ProbeSchedule(start, settings.interval, count=settings.count, duration=settings.duration)
        self._mono = mono
        where = format_address(address, target.port)
        offset = wall_nanoseconds_of(reactor)() - mono()
        # A connection, and then a handshake, may each take this long.
        timeout = settings.timeout * (2 if target.protocol == "tls" else 1)
        self.record = ProbeRecord(target, where, schedule, timeout, offset, on_event=on_event)
        self._prober: UdpProber | StreamProber
        if target.protocol in ("tcp", "tls"):
            checked = CheckTarget(str(target), "tls" if target.protocol == "tls" else "tcp", target.port)
            seconds = settings.timeout / 1e9
            self._prober = StreamProber(
                reactor, checked, target.host, address, schedule, self.record, seconds, contexts, settings.source
            )
        else:
            self._prober = UdpProber(reactor, address, target.port, self._dialect(), schedule, self.record)
        self.finished: Deferred[None] = self._prober.finished

    def start(self) -> None:
        """Open the socket and send the first probe when it is due.

        :raises CannotListenError: if the local address cannot be used.
        :raises OSError: if there is no route to the target.
        """
        if isinstance(self._prober, StreamProber):
            self._prober.start()
            return
        interface = self._settings.source or ("::" if ":" in self.address else "")
        udp_socket = open_udp_socket(
            self._reactor,
            interface,
            0,
            _ANSWER_MAX,
            metadata=True,
            transmit_times=True,
            receive_buffer=_RECEIVE_BUFFER,
        )
        if self._settings.traffic_class is not None:
            try:
                udp_socket.set_traffic_class(self._settings.traffic_class)
            except OSError:
                udp_socket.close()
                raise
        port = UdpPort(self._reactor, self._prober, udp_socket, outlives_errors=True)
        port.startListening()
        self._port = port
        self._claim()

    def stop(self) -> Deferred[None]:
        """Send no more probes. Fires when the socket is closed."""
        cancel(self._claim_call)
        if isinstance(self._prober, StreamProber):
            return maybeDeferred(self._prober.stop)
        return succeed(None) if self._port is None else self._port.stopListening()

    def total(self) -> ProbeSummary:
        """Return the numbers since the start."""
        now = self._mono()
        self.record.advance(now)
        return self.record.total(now)

    def interval(self) -> ProbeSummary:
        """Return the numbers since the last call of this method, or since the start."""
        now = self._mono()
        self.record.advance(now)
        return self.record.interval(now)

    def counters(self) -> ProbeCounters:
        """Return the counters since the start. Unlike a summary, this costs little after months, too."""
        self.record.advance(self._mono())
        return self.record.counters()

    def _dialect(self) -> ProbeDialect:
        if self.target.protocol == "stamp":
            # The session is the addresses, the ports and this number. No reflector may know it from before.
            size = BASE_LENGTH if self._settings.size is None else self._settings.size
            self._stamp = StampDialect(random.randint(1, 65_535), size)
            return self._stamp
        return EchoDialect(os.urandom(RUN_SIZE), ECHO_SIZE if self._settings.size is None else self._settings.size)

    def _claim(self) -> None:
        """Tell the record and the reflector how right the clock of this host is."""
        state = read_clock_state() if tells_wall_time(self._reactor) else None
        if state is not None:
            self.record.claim = clock_claim(state.synchronized, state.error)
            if self._stamp is not None:
                self._stamp.claim(ErrorEstimate(state.synchronized, TimeFormat.NTP, state.error))
        self._claim_call = self._reactor.callLater(CLAIM_INTERVAL, self._claim)
