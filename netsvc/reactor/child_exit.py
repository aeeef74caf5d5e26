"""Notices that a child process has ended, by a descriptor of the process instead of SIGCHLD."""

from __future__ import annotations

import os

from twisted.internet import process
from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReadDescriptor)
class ChildExit:
    """A pidfd (see ``pidfd_open(2)``), which becomes readable when the process ends.

    Twisted reaps child processes on SIGCHLD. asyncio and uvloop replace the handler of this signal when they start a
    process of their own, and Twisted would then wait for ever.

    :raises OSError: if the process does not exist, or the system has no such descriptors.
    """

    def __init__(self, reactor: ReactorBase, pid: int) -> None:
        self._reactor = reactor
        self._pid = pid
        self._descriptor = os.pidfd_open(pid)
        reactor._addInternalReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return type(self).__name__

    def doRead(self) -> None:
        self._reactor._removeInternalReader(self)
        self.connectionLost()
        child = process.reapProcessHandlers.get(self._pid)
        if child is not None:
            child.reapProcess()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
