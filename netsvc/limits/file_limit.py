"""The limit of open files, and how many connections it allows."""

from __future__ import annotations

import resource
from contextlib import suppress

#: Open files that connections leave to everything else.
SPARE_FILES = 64

#: Open files to which :func:`raise_file_limit` raises the limit, if the system allows as many.
FILES_MAX = 65_536


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit, but to at most 65,536. Never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems allow fewer than their hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def default_max_connections() -> int:
    """Return how many connections the open-file limit of this process allows: the soft limit less 64."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - SPARE_FILES) if soft != resource.RLIM_INFINITY else 1_000_000
