from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent

from netsvc.net.server_tls import ServerTLS
from netsvc.server.certificate_watch import DAY, CertificateWatch

EXPIRES = datetime(2030, 1, 30, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.rightNow = EXPIRES.timestamp() - 15.5 * DAY
    return clock


@pytest.fixture
def watch(clock: Clock, tmp_path: Path) -> CertificateWatch:
    path = tmp_path / "server.pem"
    issued = trustme.CA().issue_cert("localhost", not_after=EXPIRES)
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return CertificateWatch(clock, ServerTLS(clock, str(path)))


def warnings_during(clock: Clock, days: int) -> list[str | None]:
    """Return the warnings of these days, without the path."""
    with capturedLogs() as events:
        clock.pump([DAY] * days)
    assert all(event["log_level"] is LogLevel.warn for event in events)
    return [formatEvent(event).partition("server.pem: ")[2] for event in events]


def test_it_warns_daily_from_14_days_before_the_end(clock: Clock, watch: CertificateWatch) -> None:
    watch.startService()
    assert warnings_during(clock, 1) == []
    assert warnings_during(clock, 14) == ["the certificate expires on 2030-01-30; renew it"] * 14
    assert warnings_during(clock, 3) == ["the certificate expired on 2030-01-30; renew it"] * 3
    watch.stopService()
    assert not clock.getDelayedCalls()


def test_it_warns_at_the_start(clock: Clock, watch: CertificateWatch) -> None:
    clock.rightNow += 10 * DAY
    with capturedLogs() as events:
        watch.startService()
    assert len(events) == 1
    watch.stopService()
