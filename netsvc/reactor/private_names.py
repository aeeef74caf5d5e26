"""The private names of Twisted that the reactors use, and a check that Twisted has them.

EPollReactor has no public interface for a subclass. Each name is stated here with its use; a test finds any other. No
private name of asyncio or uvloop is used.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from netsvc.errors import NetsvcError

#: Names, their class, and what they are used for.
PRIVATE_NAMES = (
    # Descriptors and events: what Twisted's EPollReactor keeps, used to dispatch events with less work.
    ("twisted.internet.epollreactor.EPollReactor", "_poller _reads _writes _selectables"),
    ("twisted.internet.epollreactor.EPollReactor", "_doReadOrWrite _disconnectSelectable"),
    # Timers, which are measured by another clock.
    ("twisted.internet.base.ReactorBase", "_pendingTimedCalls _newTimedCalls _insertNewDelayedCalls _cancellations"),
    ("twisted.internet.base.ReactorBase", "_cancelCallLater _moveCallLaterSooner _justStopped"),
    # The main loop, signals, and descriptors that do not count as left open.
    ("twisted.internet.base.ReactorBase", "_started _signalsFactory _addInternalReader _removeInternalReader"),
    # The event loop, where programs that use asyncio look for it.
    ("twisted.internet.asyncioreactor.AsyncioSelectorReactor", "_asyncioEventloop"),
    # The send buffer of a connection, and how it is read and closed.
    ("twisted.internet.abstract.FileDescriptor", "_tempDataBuffer _tempDataLen _writeDisconnecting _writeDisconnected"),
    ("twisted.internet.tcp.Connection", "_aborting _closeSocket _dataReceived"),
    # Ports and connections of classes of our own.
    ("twisted.internet.tcp.Port", "_fromListeningDescriptor"),
    ("twisted.internet.tcp.Server", "_fromConnectedSocket"),
    ("twisted.internet.tcp.Connector", "_makeTransport"),
    ("twisted.internet.udp.Port", "_fromListeningDescriptor _connectedAddr"),
)


class ReactorUnavailableError(NetsvcError, ImportError):
    """The reactors cannot be used here. The text is one line, for the user."""


@cache
def check() -> None:
    """Check that the system and Twisted have what the reactors need.

    :raises ReactorUnavailableError: if not.
    """
    if not hasattr(select, "epoll"):
        raise ReactorUnavailableError("netsvc's reactors need Linux (epoll); use --reactor=default")
    missing = list(missing_names())
    if missing:
        raise ReactorUnavailableError(
            f"netsvc's reactors cannot use Twisted {version('twisted')}, which has no {', '.join(missing)}; "
            "run pip install 'twisted>=26.10,<27'"
        )


def missing_names(stated: Iterable[tuple[str, str]] = PRIVATE_NAMES) -> Iterator[str]:
    """Return the private names that the installed Twisted does not have."""
    for path, names in stated:
        module, _, name = path.rpartition(".")
        owner = getattr(import_module(module), name, None)
        for private in names.split():
            if not (hasattr(owner, private) or _is_set_in_init(owner, private)):
                yield f"{path}.{private}"


def _is_set_in_init(owner: Any, name: str) -> bool:
    """Return whether the constructor of a class uses an attribute of this name."""
    code = getattr(getattr(owner, "__init__", None), "__code__", None)
    return code is not None and name in code.co_names
