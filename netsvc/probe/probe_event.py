"""The events of one probe: an answer, a loss, a send that failed. The line that is printed for each, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netsvc.probe.probe_ledger import StampSource
from netsvc.probe.probe_summary import SCHEMA_VERSION

#: The kinds of events: the verdicts on an answer (``AnswerVerdict``), an answer that was damaged, a probe whose timeout
#: elapsed, a send that failed.
ProbeEventKind = Literal["answered", "late", "duplicate", "foreign", "forgotten", "corrupted", "lost", "unsent"]

_SECONDS = (
    *("rtt", "rtt_intended", "there_change", "back_change", "there_delay", "back_delay"),
    *("delay_uncertainty", "connect", "handshake"),
)


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    """An event of one probe. Durations are in nanoseconds; None where they are not known or have no meaning.

    :ivar target: as it was typed.
    :ivar time: nanoseconds since the first probe.
    :ivar sequence: of the probe; None if a damaged or foreign answer does not tell it.
    :ivar rtt: from the actual send, without the time that a STAMP reflector took.
    :ivar rtt_intended: from the moment at which the probe was due.
    :ivar there_change: the delay there above its minimum of the recent past; ``back_change`` likewise.
    :ivar there_delay: the delay there, only if both clocks are synchronised; ``back_delay`` likewise. Both may be
        negative, and both may be wrong by ``delay_uncertainty``.
    :ivar connect: from the intended start of a TCP connection to its establishment.
    :ivar handshake: from then to the end of the TLS handshake.
    :ivar sent_source: the source of the time of the send; ``received_source`` likewise.
    :ivar extent: the reordering extent (RFC 4737, 4.2); 0 if the answer is in order.
    :ivar duplicated: the direction in which a duplicate arose; None if it is not known.
    :ivar error: why a send or a connection failed, in words.
    """

    target: str
    kind: ProbeEventKind
    time: int
    sequence: int | None = None
    rtt: int | None = None
    rtt_intended: int | None = None
    there_change: int | None = None
    back_change: int | None = None
    there_delay: int | None = None
    back_delay: int | None = None
    delay_uncertainty: int | None = None
    connect: int | None = None
    handshake: int | None = None
    sent_source: StampSource | None = None
    received_source: StampSource | None = None
    extent: int = 0
    duplicated: Literal["there", "back"] | None = None
    error: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the event as plain values. Fields that are not known are left out."""
        found: dict[str, object] = {
            "type": self.kind,
            "version": SCHEMA_VERSION,
            "target": self.target,
            "time_seconds": self.time / 1_000_000_000,
            "sequence": self.sequence,
            **{f"{name}_seconds": _seconds(getattr(self, name)) for name in _SECONDS},
            "sent_source": self.sent_source,
            "received_source": self.received_source,
            "reordering_extent": self.extent or None,
            "duplicated": self.duplicated,
            "error": self.error,
        }
        return {name: value for name, value in found.items() if value is not None}


def _seconds(duration: int | None) -> float | None:
    return None if duration is None else duration / 1_000_000_000
