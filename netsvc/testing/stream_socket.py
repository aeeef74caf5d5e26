"""Stream sockets of a simulated host: TCP, and UNIX.

A connection is two pipes, one in each direction. The errors, and the order in which they are met, are Linux's.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

from netsvc.testing.cuts import Policy, lumps
from netsvc.testing.link import Link, LinkError
from netsvc.testing.pipe import End, Pipe
from netsvc.testing.stack import ERR, HUP, IN, OUT, Stack, fail

#: Seconds after which a SYN is sent again, doubled each time; after so many times, 127 s after the first, the connect
#: has timed out. Linux: TCP_TIMEOUT_INIT and tcp_syn_retries.
SYN_RETRY, SYN_RETRIES = 1.0, 6


class StreamSocket(End):
    """One end of a connection, or what listens for connections."""

    type = socket.SOCK_STREAM

    def __init__(self, stack: Stack, family: int) -> None:
        super().__init__(stack, family)
        self.peer: tuple[Any, ...] = ()
        self.out: Pipe | None = None  # None until connected
        self._back: Pipe | None = None
        self._received: deque[bytes] = deque()
        self._ended = False  # the peer has said all
        self._shut = False  # so have we
        self._connecting = False
        self._linger = True
        self._queue: deque[StreamSocket] | None = None  # of a listening one
        self._backlog = 0
        self._handshakes: list[StreamSocket] = []  # clients that are about to be in the queue
        self._cuts: Policy = lumps
        self._pieces: Iterator[int] = iter(())
        self._piece = 0

    # Listening

    def listen(self, backlog: int) -> None:
        self._check()
        self._queue = deque()
        self._backlog = max(0, backlog)

    def accept(self) -> tuple[StreamSocket, Any]:
        self._check()
        if not self._queue:
            raise fail(errno.EAGAIN)
        accepted = self._queue.popleft()
        accepted.descriptor = self.stack.descriptor(accepted)
        return accepted, accepted.getpeername()

    @property
    def _full(self) -> bool:
        """Whether one more than the backlog waits to be accepted, as Linux counts, or is about to."""
        self._handshakes = [client for client in self._handshakes if not client.gone]
        return len(self._handshakes) + len(self._queue or ()) > self._backlog

    def bind(self, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            super().bind(address)
            return
        path = address.decode() if isinstance(address, bytes) else address
        if path in self.stack.paths:
            raise fail(errno.EADDRINUSE)
        self.stack.paths[path] = self
        self.name = (path,)
        self._bound = True

    # Connecting

    def connect_ex(self, address: Any) -> int:
        self._check()
        if self.out is not None:
            return errno.EISCONN
        if self._connecting:
            return errno.EALREADY
        if self.family != socket.AF_UNIX and not 0 <= address[1] <= 65_535:
            raise OverflowError("connect_ex(): port must be 0-65535.")
        try:
            if self.family == socket.AF_UNIX:
                self._connect_unix(address.decode() if isinstance(address, bytes) else address)
                return 0
            host = self._destination(address[0])
            there = self.stack.route(host)
            self._bind_for(host)
        except OSError as e:
            return e.errno or errno.EIO
        self.peer = (host, address[1])
        self._connecting = True
        self._send_syn(there, 0)
        return errno.EINPROGRESS

    def _connect_unix(self, path: str) -> None:
        listener = self.stack.paths.get(path)
        if not isinstance(listener, StreamSocket):
            raise fail(errno.ENOENT)
        if listener._queue is None:
            raise fail(errno.ECONNREFUSED)
        if listener._full:
            raise fail(errno.EAGAIN)
        self.peer = (path,)
        self.stack.fabric.trace.add(self.stack.events.now, self.stack.name, "connect", self.stack.name, path)
        server = listener._embryo(self)
        join(self, server)
        listener.admit(server)

    def _send_syn(self, there: Stack, tries: int) -> None:
        if not self._connecting or self.forgotten:
            return
        if tries > SYN_RETRIES:
            self._fail_connect(errno.ETIMEDOUT)
            return
        arrival = self._packet(there, "SYN")
        if arrival is None:
            self._retry_syn(there, tries)
        else:
            self.stack.events.move(arrival, self._syn_arrives, there, tries)

    def _retry_syn(self, there: Stack, tries: int) -> None:
        events = self.stack.events
        events.wait(events.now + SYN_RETRY * 2**tries, self._send_syn, there, tries + 1)

    def _syn_arrives(self, there: Stack, tries: int) -> None:
        if not self._connecting or self.forgotten:
            return
        if not there.up or not self._link(there).conditions.up:
            self._retry_syn(there, tries)
            return
        listener = self._listener(there)
        full = listener is not None and listener._full
        if full and not there.refuses:
            self._retry_syn(there, tries)
            return
        answer = "RST" if listener is None or full else "SYN-ACK"
        arrival = self._packet(there, answer, back=True)
        if arrival is None:
            self._retry_syn(there, tries)
        elif listener is None or full:
            self.stack.events.move(arrival, self._fail_connect, errno.ECONNREFUSED)
        else:
            listener._handshakes.append(self)
            self.stack.events.move(arrival, self._establish, listener, there, tries)

    def _listener(self, there: Stack) -> StreamSocket | None:
        found = [
            one
            for one in there.bound(socket.SOCK_STREAM, self.peer[0], self.peer[1])
            if isinstance(one, StreamSocket) and one._queue is not None
        ]
        # Those that share a port take turns, as SO_REUSEPORT's do; by the caller's port, so that it is no chance.
        return found[self.name[1] % len(found)] if found else None

    def _establish(self, listener: StreamSocket, there: Stack, tries: int) -> None:
        if self in listener._handshakes:
            listener._handshakes.remove(self)
        if not self._connecting or self.forgotten:
            return
        if not self._link(there, back=True).conditions.up:
            self._retry_syn(there, tries)
            return
        listener._handshakes.append(self)
        self._connecting = False
        server = listener._embryo(self)
        join(self, server)
        assert self.out is not None
        self.out.establish(listener)
        self.changed()

    def _embryo(self, client: StreamSocket) -> StreamSocket:
        """Return the server's end of a new connection, which has no descriptor before it is accepted."""
        server = StreamSocket(self.stack, self.family)
        server._start = self._start  # what listened before a crash makes no connection after it
        del self.stack.sockets[server.descriptor]
        server.name = client.peer
        server.peer = client.name if client.family != socket.AF_UNIX else ("",)
        server.send_limit, server.receive_limit = self.send_limit, self.receive_limit
        return server

    def _fail_connect(self, number: int) -> None:
        if self._connecting:
            self._connecting = False
            self.dead = True
            self.error = number
            self.changed()

    def _link(self, there: Stack, back: bool = False) -> Link:
        ends = (there.name, self.stack.name) if back else (self.stack.name, there.name)
        return self.stack.fabric.link(*ends)

    def _packet(self, there: Stack, what: str, back: bool = False) -> float | None:
        """Send one packet of the handshake. Returns when it arrives."""
        now = self.stack.events.now
        arrival = self._link(there, back).segment(now, 0)
        source, destination = (there.name, self.stack.name) if back else (self.stack.name, there.name)
        ports = f"{self.peer[1]}>{self.name[1]}" if back else f"{self.name[1]}>{self.peer[1]}"
        self.stack.fabric.trace.add(now, source, what, destination, ports, fate="lost" if arrival is None else "")
        return arrival

    # Connected

    def getpeername(self) -> Any:
        self._check()
        if self.out is None:
            raise fail(errno.ENOTCONN)
        return self._shown(self.peer)

    def getsockname(self) -> Any:
        if self.family == socket.AF_UNIX:
            return self.name[0] if self._bound or self.out else ""
        return super().getsockname()

    def _shown(self, name: tuple[Any, ...]) -> Any:
        return name[0] if self.family == socket.AF_UNIX else super()._shown(name)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        super().setsockopt(level, option, value)
        if option == socket.SO_LINGER and level == socket.SOL_SOCKET and self.family != socket.AF_UNIX:
            self._linger = False  # 1, 0 is what Twisted sets: closing resets

    def send(self, data: bytes | memoryview) -> int:
        self._check()
        if self.forgotten:
            return 0
        if self.dead or self._shut or self.out is None:
            self._take_error()
            raise fail(errno.EPIPE if self.out else errno.ENOTCONN)
        space = self.out.space()
        if space <= 0:
            raise fail(errno.EAGAIN)
        chunk = bytes(data[:space])
        if chunk:
            self.out.accept(chunk)
        return len(chunk)

    def recv(self, size: int) -> bytes:
        self._check()
        if self._received:
            data = self._next_piece(size)
            self.unread -= len(data)
            if self._back is not None and self._back.choked:
                self._back.offer_window()
            return data
        if self.family == socket.AF_UNIX:  # where an error comes before the end
            self._take_error()
        if self._ended:
            return b""
        self._take_error()
        if self.dead:
            return b""
        if self.out is None:
            raise fail(errno.ENOTCONN)
        raise fail(errno.EAGAIN)

    def recvmsg(self, size: int, ancillary: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        """Receive from a UNIX socket, over which no descriptors are passed here."""
        return self.recv(size), [], 0, None

    def sendmsg(self, *message: Any) -> int:
        raise NotImplementedError("no descriptors are passed on a simulated network")

    def shutdown(self, how: int) -> None:
        self._check()
        if self.forgotten or self._queue is not None:
            return
        if self.out is None or self.dead:
            raise fail(errno.ENOTCONN)
        if how in (socket.SHUT_WR, socket.SHUT_RDWR) and not self._shut:
            self._shut = True
            self.out.finish()

    def poll(self, interest: int) -> int:
        if self.dead:
            return (interest & (IN | OUT)) | HUP | (ERR if self.error else 0)
        mask = 0
        if interest & IN and (self._received or self._ended or self._queue):
            mask = IN
        if self.out is None:
            if self.family == socket.AF_UNIX and self._queue is None:
                return interest & OUT | HUP  # nobody was there to connect to
        else:
            if interest & OUT and (self._shut or self.out.writable()):
                mask |= OUT
            if self._shut and self._ended:
                mask |= HUP
        return mask

    def _release(self) -> None:
        if self.family == socket.AF_UNIX:
            if self._bound and self.stack.paths.get(self.name[0]) is self:
                del self.stack.paths[self.name[0]]
        else:
            super()._release()
        self._connecting = False
        for waiting in self._queue or ():
            waiting._linger = False
            waiting.close()
        if self.out is not None and not self.dead:
            if self._linger and not self.unread:
                self._shut = True
                self.out.finish(closes=True)
            else:
                self.dead = True
                self.out.reset()

    def _next_piece(self, size: int) -> bytes:
        """Take what one read returns: all that there is, or up to where the stream is cut."""
        assert self._back is not None
        policy = self._back.link.conditions.cuts
        if policy is not self._cuts:
            self._cuts = policy
            self._pieces = policy(self._back.link.random) if policy is not lumps else iter(())
            self._piece = 0
        if policy is not lumps:
            if self._piece <= 0:
                self._piece = next(self._pieces, self.unread)
                if self._piece < 1:
                    raise LinkError(f"a policy cuts off at least one byte, not {self._piece}")
            size = min(size, self._piece)
        received = self._received
        if len(received[0]) <= size:
            data = received.popleft()
            if received and len(data) + len(received[0]) <= size:
                pieces = [data]
                length = len(data)
                while received and length + len(received[0]) <= size:
                    length += len(received[0])
                    pieces.append(received.popleft())
                data = b"".join(pieces)
        else:
            data = received[0][:size]
            received[0] = received[0][size:]
        self._piece -= len(data)
        return data

    # What arrives

    def admit(self, connection: End) -> None:
        if self._queue is not None and isinstance(connection, StreamSocket):
            self._queue.append(connection)
            self._handshakes = [one for one in self._handshakes if one.out is None or one.out.sink is not connection]
            self.changed()

    def take(self, data: bytes) -> None:
        self._received.append(data)
        self.unread += len(data)
        self.changed()

    def take_end(self, closed: bool) -> None:
        self._ended = True
        if closed and self.family == socket.AF_UNIX:
            self._shut = True  # its peer is told at once that nobody reads, where TCP finds out by writing
        self.changed()

    def take_reset(self, number: int = errno.ECONNRESET) -> None:
        if self.dead:
            return
        self.dead = True
        if self._ended and number == errno.ECONNRESET and self.family != socket.AF_UNIX:
            number = errno.EPIPE
        self.error = number
        if self.out is not None:
            self.out.drop()
        self.changed()


def join(client: StreamSocket, server: StreamSocket) -> None:
    """Connect two ends."""
    client.out = server._back = Pipe(client, server)
    server.out = client._back = Pipe(server, client)
