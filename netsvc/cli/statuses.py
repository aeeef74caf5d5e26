"""The exit statuses of the ``netsvc`` command."""

from __future__ import annotations

import signal

FAILED = 1
USAGE = 64  # EX_USAGE in sysexits.h
INTERRUPTED = 128 + signal.SIGINT
