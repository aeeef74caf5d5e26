"""The reactor on the event loop of the standard library.

Reactor and event loop share one epoll: :class:`ReactorSelector` is the selector of the loop. When the loop waits for
events, the reactor runs, until the loop has something to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import Context
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from typing import TYPE_CHECKING, Any

from twisted.internet.epollreactor import EPOLLIN, EPOLLOUT

from netsvc.reactor.loop import LoopReactor

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class AsyncioReactor(LoopReactor):
    """A reactor on the event loop of the standard library.

    :ivar loop_is_waiting: whether the event loop has nothing to do until an event of its own.
    """

    # Twisted's tests name a reactor by the module of its class, and call install() there.
    __module__ = "netsvc.reactor.asyncio"

    def __init__(self) -> None:
        self._iterating = False  # whether iterate() runs the loop, for one iteration
        self._iterate_delay: float | None = None
        self.loop_is_waiting = False
        super().__init__()

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        self._loop_selector = ReactorSelector(self)
        return GuestLoop(self._loop_selector, self)

    def run_iterations(self, timeout: float | None) -> list[tuple[int, int]]:
        """Run iterations of the reactor until the event loop has something to do.

        :param timeout: the seconds until the event loop has something to do at the latest; None for no limit.
        :return: descriptors and event masks of the events that belong to the event loop.
        """
        self._loop_selector.resume()
        until = None if timeout is None else time.monotonic() + timeout
        self.loop_is_waiting = True
        while True:
            events = self._run_iteration(timeout)
            if events or not self.loop_is_waiting or self._iterating:
                break
            self._loop_selector.resume()
            if until is not None:
                timeout = until - time.monotonic()
                if timeout <= 0:
                    break
        if self._iterating:
            self.loop.stop()
        return events

    def _run_iteration(self, timeout: float | None) -> list[tuple[int, int]]:
        if self.unflushed or self.unencrypted:
            self.flush_all()
            if self.timeout() == 0:
                # On Twisted's reactors, calls that are due are made before a peer in the same process can read this.
                self.runUntilCurrent()
        # Meanwhile, producers have written more, or a connection was lost and the event loop has something to do.
        if self.unflushed or self.unencrypted or not self.loop_is_waiting:
            limit: float | None = 0.0
        else:
            limit = self.timeout()
            if limit is None or (timeout is not None and timeout < limit):
                limit = timeout
            if self._iterate_delay is not None and (limit is None or self._iterate_delay < limit):
                limit = self._iterate_delay
        events = self.wait_for_events(limit)
        self.runUntilCurrent()
        return events

    def _postpone(self, events: list[tuple[int, int]]) -> None:
        self._loop_selector.postpone(fd for fd, _ in events)

    def _events_max(self) -> int:
        return len(self._selectables) + len(self._loop_selector.keys) or 1

    def stop(self) -> None:
        super().stop()
        self.wakeUp()

    def crash(self) -> None:
        super().crash()
        self.loop.stop()

    def _run_loop_once(self, delay: float | None) -> None:
        self._iterating, self._iterate_delay = True, delay
        try:
            self.loop.run_forever()
        finally:
            self._iterating, self._iterate_delay = False, None


class GuestLoop(asyncio.SelectorEventLoop):
    """An event loop that runs within the iterations of a reactor.

    It tells the reactor when it has something to do. Otherwise, the reactor goes on without it.
    """

    def __init__(self, selector: BaseSelector, reactor: AsyncioReactor) -> None:
        self._reactor = reactor
        super().__init__(selector)

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self._reactor.loop_is_waiting = False
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._reactor.loop_is_waiting = False
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        self._reactor.loop_is_waiting = False
        super().stop()


class ReactorSelector(BaseSelector):
    """The selector of the event loop. It watches descriptors with the epoll of the reactor.

    :param reactor: its ``run_iterations`` waits for events.
    :ivar keys: the registered descriptors.
    """

    def __init__(self, reactor: AsyncioReactor) -> None:
        self._reactor = reactor
        self._poller = reactor._poller
        self.keys: dict[int, SelectorKey] = {}
        self._postponed: set[int] = set()

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> SelectorKey:
        fd = _descriptor(fileobj)
        if fd in self.keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        self._poller.register(fd, _to_epoll(events))
        key = self.keys[fd] = SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: FileDescriptorLike) -> SelectorKey:
        key = self.keys.pop(self._registered(fileobj))
        if key.fd in self._postponed:
            self._postponed.remove(key.fd)
        else:
            with suppress(OSError, ValueError):  # the descriptor or the epoll has been closed
                self._poller.unregister(key.fd)
        return key

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> SelectorKey:
        fd = self._registered(fileobj)
        key = self.keys[fd]
        if key.events != events and fd not in self._postponed:
            self._poller.modify(fd, _to_epoll(events))
        key = self.keys[fd] = key._replace(events=events, data=data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = []
        for fd, event in self._reactor.run_iterations(timeout):
            key = self.keys.get(fd)
            if key is not None:  # otherwise, it was unregistered meanwhile
                ready.append((key, key.events & _from_epoll(event)))
        return ready

    def postpone(self, descriptors: Iterable[int]) -> None:
        """Stop watching descriptors that are ready, until :meth:`resume`.

        Within a callback the event loop cannot serve them, and an iteration there would return at once each time.
        """
        for fd in self.keys.keys() & set(descriptors):
            self._poller.unregister(fd)
            self._postponed.add(fd)

    def resume(self) -> None:
        """Watch the postponed descriptors again."""
        while self._postponed:
            fd = self._postponed.pop()
            self._poller.register(fd, _to_epoll(self.keys[fd].events))

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
        self._loop_selector = selector
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, fileobj: FileDescriptorLike) -> SelectorKey:
        return self._loop_selector.get_key(fileobj)

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
