"""The reactor on the event loop of the standard library.

Reactor and event loop share one epoll: :class:`ReactorSelector` is the selector of the loop, and each time the loop
waits for events, one iteration of the reactor runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from typing import TYPE_CHECKING, Any

from twisted.internet.epollreactor import EPOLLIN, EPOLLOUT

from netsvc.reactor.loop import LoopReactor

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class AsyncioReactor(LoopReactor):
    """A reactor on the event loop of the standard library."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:  # noqa: TID251  a reactor tells others the time
        self._iterating = False  # whether iterate() runs the loop, for one iteration
        self._iterate_delay: float | None = None
        super().__init__(wall)

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        self._selector = ReactorSelector(self)
        return asyncio.SelectorEventLoop(self._selector)

    def run_iteration(self, timeout: float | None) -> list[tuple[int, int]]:
        """Run one iteration of the reactor.

        :param timeout: the longest time that the event loop allows it to wait, in seconds; None for no limit.
        :return: descriptors and event masks of the events that belong to the event loop.
        """
        if self.unflushed:
            self.flush_all()
        if timeout is None or timeout > 0:
            timeout = self._wait(timeout)
        events = self.wait_for_events(timeout)
        self.runUntilCurrent()
        if self._iterating:
            self.loop.stop()
        return events

    def _wait(self, timeout: float | None) -> float | None:
        """Return how long the reactor may wait for events if the event loop allows ``timeout``."""
        if self.unflushed or (self._started and not self.running):
            return 0.0
        limits = [limit for limit in (timeout, self.timeout(), self._iterate_delay) if limit is not None]
        return min(limits, default=None)

    def _events_max(self) -> int:
        return len(self._selectables) + len(self._selector.keys) or 1

    def stop(self) -> None:
        super().stop()
        self.wakeUp()

    def crash(self) -> None:
        super().crash()
        self.loop.stop()

    def doIteration(self, delay: float | None) -> None:
        """Run one iteration of the event loop, or if it is running, of the reactor alone.

        Within a callback, asyncio's own callbacks have to wait: an event loop cannot run within itself.
        """
        if self.loop.is_running():
            if self.unflushed:
                self.flush_all()
                delay = 0 if self.unflushed else delay
            self.wait_for_events(delay)
            return
        self._iterating, self._iterate_delay = True, delay
        try:
            self.loop.run_forever()
        finally:
            self._iterating, self._iterate_delay = False, None

    doPoll = doIteration


class ReactorSelector(BaseSelector):
    """The selector of the event loop. It watches descriptors with the epoll of the reactor.

    :param reactor: its ``run_iteration`` waits for events.
    :ivar keys: the registered descriptors.
    """

    def __init__(self, reactor: AsyncioReactor) -> None:
        self._reactor = reactor
        self._poller = reactor._poller
        self.keys: dict[int, SelectorKey] = {}

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> SelectorKey:
        fd = _descriptor(fileobj)
        if fd in self.keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._poller.register(fd, _to_epoll(events))
        key = self.keys[fd] = SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> SelectorKey:
        key = self.keys.pop(self._registered(fileobj))
        with suppress(OSError, ValueError):  # the descriptor or the epoll has been closed
            self._poller.unregister(key.fd)
        return key

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> SelectorKey:
        fd = self._registered(fileobj)
        key = self.keys[fd]
        if key.events != events:
            self._poller.modify(fd, _to_epoll(events))
        key = self.keys[fd] = key._replace(events=events, data=data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = []
        for fd, event in self._reactor.run_iteration(timeout):
            key = self.keys.get(fd)
            if key is not None:  # otherwise, it was unregistered meanwhile
                ready.append((key, key.events & _from_epoll(event)))
        return ready

    def get_map(self) -> Mapping[FileDescriptorLike, SelectorKey]:
        return _KeysByObject(self, self.keys)

    def get_key(self, fileobj: FileDescriptorLike) -> SelectorKey:
        return self.keys[self._registered(fileobj)]

    def close(self) -> None:
        for fd in list(self.keys):
            self.unregister(fd)

    def _registered(self, fileobj: FileDescriptorLike) -> int:
        """Return the descriptor under which an object was registered, also if it is closed by now."""
        try:
            fd = _descriptor(fileobj)
        except ValueError:
            fd = next((key.fd for key in self.keys.values() if key.fileobj is fileobj), -1)
        if fd not in self.keys:
            raise KeyError(f"{fileobj!r} is not registered")
        return fd


class _KeysByObject(Mapping["FileDescriptorLike", SelectorKey]):
    """The keys of a selector, found by objects that have a descriptor."""

    def __init__(self, selector: ReactorSelector, keys: dict[int, SelectorKey]) -> None:
        self._selector = selector
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, fileobj: FileDescriptorLike) -> SelectorKey:
        return self._selector.get_key(fileobj)

    def __iter__(self) -> Iterator[FileDescriptorLike]:
        return iter(self._keys)


def _descriptor(fileobj: FileDescriptorLike) -> int:
    """Return the descriptor of an object.

    :raises ValueError: if it has none, or is closed.
    """
    try:
        fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


def _to_epoll(events: int) -> int:
    return (EPOLLIN if events & EVENT_READ else 0) | (EPOLLOUT if events & EVENT_WRITE else 0)


def _from_epoll(event: int) -> int:
    """Return selector events. An error or the end of the connection wakes both directions."""
    return (EVENT_READ if event & ~EPOLLOUT else 0) | (EVENT_WRITE if event & ~EPOLLIN else 0)
