"""The stream sockets (TCP and UNIX) of a simulated host.

A connection consists of two pipes, one in each direction. The errors and their order are those of Linux.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from netsvc.testing.keepalive import OPTIONS as KEEPALIVE_OPTIONS
from netsvc.testing.keepalive import KeepAlive
from netsvc.testing.link import Link, LinkError
from netsvc.testing.pipe import Pipe, StreamEnd
from netsvc.testing.splits import SplitPolicy, nowhere
from netsvc.testing.stack import ERR, HUP, IN, OUT, Stack, os_error

#: A SYN is retransmitted after 1 s. The delay doubles with each attempt. After 6 retransmissions, 127 s after the first
#: SYN, the connection attempt times out. Linux: TCP_TIMEOUT_INIT and tcp_syn_retries.
SYN_RETRY_DELAY, SYN_RETRIES = 1.0, 6


class StreamSocket(StreamEnd):
    """A listening socket, or one end of a connection."""

    type = socket.SOCK_STREAM

    def __init__(self, stack: Stack, family: int) -> None:
        super().__init__(stack, family)
        self.peer: tuple[Any, ...] = ()
        self.outgoing: Pipe | None = None  # None until connected
        self._incoming: Pipe | None = None
        self._received: deque[bytes] = deque()
        self._read_ended = False  # whether the peer has ended its stream
        self._write_ended = False  # whether this end has ended its stream
        self._connecting = False
        self._syn_sent_at = 0.0
        self._linger = True
        self._keepalive: KeepAlive | None = None  # None until it is wanted
        self._accept_queue: deque[StreamSocket] | None = None  # None unless listening
        self._backlog = 0
        self._handshakes: list[StreamSocket] = []  # clients that will be in the accept queue
        self._split_policy: SplitPolicy = nowhere
        self._piece_lengths: Iterator[int] = iter(())
        self._piece_left = 0  # bytes until the next split

    # Listening

    def listen(self, backlog: int) -> None:
        self.check_open()
        self._accept_queue = deque()
        self._backlog = max(0, backlog)

    def accept(self) -> tuple[StreamSocket, Any]:
        self.check_open()
        if not self._accept_queue:
            raise os_error(errno.EAGAIN)
        accepted = self._accept_queue.popleft()
        accepted.descriptor = self.stack.new_descriptor(accepted)
        return accepted, accepted.getpeername()

    @property
    def _backlog_full(self) -> bool:
        """Whether more connections than the backlog wait, in a handshake or to be accepted, as on Linux."""
        self._handshakes = [
            client
            for client in self._handshakes
            if not client.has_no_connection and (client.outgoing is None or not client.outgoing.sink.dead)
        ]
        return len(self._handshakes) + len(self._accept_queue or ()) > self._backlog

    def bind(self, address: Any) -> None:
        if self.family != socket.AF_UNIX:
            super().bind(address)
            return
        path = address.decode() if isinstance(address, bytes) else address
        if path in self.stack.paths:
            raise os_error(errno.EADDRINUSE)
        self.stack.paths[path] = self
        self.local_address = (path,)
        self.is_bound = True

    # Connecting

    def connect_ex(self, address: Any) -> int:
        self.check_open()
        if self.outgoing is not None:
            return errno.EISCONN
        if self._connecting:
            return errno.EALREADY
        if self.family != socket.AF_UNIX and not 0 <= address[1] <= 65_535:
            raise OverflowError("connect_ex(): port must be 0-65535.")
        try:
            if self.family == socket.AF_UNIX:
                self._connect_unix(address.decode() if isinstance(address, bytes) else address)
                return 0
            host = self.destination(address[0])
            remote = self.stack.route(host)
            self.bind_for(host)
        except OSError as e:
            return e.errno or errno.EIO
        self.peer = (host, address[1])
        self._connecting = True
        if remote is not None:
            self._send_syn(remote, 0)
        else:
            unreachable = partial(self._fail_connect, errno.EHOSTUNREACH)
            self.stack.send_to_no_host("SYN", self.local_address[1], address[1], unreachable)
        return errno.EINPROGRESS

    def _connect_unix(self, path: str) -> None:
        listener = self.stack.paths.get(path)
        if not isinstance(listener, StreamSocket):
            raise os_error(errno.ENOENT)
        if listener._accept_queue is None:
            raise os_error(errno.ECONNREFUSED)
        if listener._backlog_full:
            raise os_error(errno.EAGAIN)
        self.peer = (path,)
        self.stack.fabric.trace.add(self.stack.events.now, self.stack.name, "connect", self.stack.name, path)
        server = listener._new_server_end(self)
        connect_ends(self, server)
        listener.add_to_backlog(server)

    def _send_syn(self, remote: Stack, tries: int) -> None:
        if not self._connecting or self.host_crashed:
            return
        if tries > SYN_RETRIES:
            self._fail_connect(errno.ETIMEDOUT)
            return
        self._syn_sent_at = self.stack.events.now
        arrival = self._send_handshake(remote, "SYN")
        if arrival is None:
            self._send_syn_later(remote, tries)
        else:
            self.stack.events.deliver_at(arrival, self._syn_arrives, remote, tries)

    def _send_syn_later(self, remote: Stack, tries: int) -> None:
        events = self.stack.events
        events.call_at(events.now + SYN_RETRY_DELAY * 2**tries, self._send_syn, remote, tries + 1)

    def _syn_arrives(self, remote: Stack, tries: int) -> None:
        if not self._connecting or self.host_crashed:
            return
        if not remote.up or not self._link(remote).conditions.up:
            self._send_syn_later(remote, tries)
            return
        listener = self._listener_on(remote)
        full = listener is not None and listener._backlog_full
        if full and not remote.refuses:
            self._send_syn_later(remote, tries)
            return
        answer = "RST" if listener is None or full else "SYN-ACK"
        arrival = self._send_handshake(remote, answer, reverse=True)
        if arrival is None:
            self._send_syn_later(remote, tries)
        elif listener is None or full:
            self.stack.events.deliver_at(arrival, self._fail_connect, errno.ECONNREFUSED)
        else:
            listener._handshakes.append(self)
            self.stack.events.deliver_at(arrival, self._establish, listener, remote, tries)

    def _listener_on(self, remote: Stack) -> StreamSocket | None:
        found = [
            bound
            for bound in remote.sockets_for(socket.SOCK_STREAM, self.peer[0], self.peer[1])
            if isinstance(bound, StreamSocket) and bound._accept_queue is not None
        ]
        # Sockets that share a port (SO_REUSEPORT) share its connections. The client's port selects the socket, so that
        # the selection is reproducible.
        return found[self.local_address[1] % len(found)] if found else None

    def _establish(self, listener: StreamSocket, remote: Stack, tries: int) -> None:
        if self in listener._handshakes:
            listener._handshakes.remove(self)
        if not self._connecting or self.host_crashed:
            return
        if not self._link(remote, reverse=True).carries(self.stack.events.now, listener.host_crashed):
            self._send_syn_later(remote, tries)
            return
        listener._handshakes.append(self)
        self._connecting = False
        server = listener._new_server_end(self)
        connect_ends(self, server, self.stack.events.now - self._syn_sent_at)
        assert self.outgoing is not None
        self.outgoing.establish(listener)
        for end in (self, server):
            end._restart_keepalive()
        self.readiness_changed()

    def _restart_keepalive(self) -> None:
        if self.outgoing is None or self.family == socket.AF_UNIX:
            return
        if self._keepalive is None:
            if not self.options.get((socket.SOL_SOCKET, socket.SO_KEEPALIVE)):
                return
            self._keepalive = KeepAlive(self, self.outgoing, self.stack.events)
        self._keepalive.restart()

    def _new_server_end(self, client: StreamSocket) -> StreamSocket:
        """Return the server's end of a new connection. It gets its descriptor when it is accepted."""
        server = StreamSocket(self.stack, self.family)
        server.boot = self.boot  # a listener from before a crash makes no connection after it
        del self.stack.sockets[server.descriptor]
        server.local_address = client.peer
        server.peer = client.local_address if client.family != socket.AF_UNIX else ("",)
        server.send_limit, server.receive_limit = self.send_limit, self.receive_limit
        server.options.update(self.options)
        return server

    def _fail_connect(self, number: int) -> None:
        if self._connecting:
            self._connecting = False
            self.dead = True
            self.error = number
            self.readiness_changed()

    def _link(self, remote: Stack, reverse: bool = False) -> Link:
        ends = (remote.name, self.stack.name) if reverse else (self.stack.name, remote.name)
        return self.stack.fabric.link(*ends)

    def _send_handshake(self, remote: Stack, kind: str, reverse: bool = False) -> float | None:
        """Send one packet of the handshake. Returns its arrival time, or None if it is lost."""
        if reverse:
            ports, addresses = f"{self.peer[1]}>{self.local_address[1]}", (self.peer[0], self.local_address[0])
            return remote.send_packet(self.stack, kind, ports, b"", addresses)
        ports, addresses = f"{self.local_address[1]}>{self.peer[1]}", (self.local_address[0], self.peer[0])
        return self.stack.send_packet(remote, kind, ports, b"", addresses)

    # Connected

    def getpeername(self) -> Any:
        self.check_open()
        if self.outgoing is None:
            raise os_error(errno.ENOTCONN)
        return self.as_sockaddr(self.peer)

    def getsockname(self) -> Any:
        if self.family == socket.AF_UNIX:
            return self.local_address[0] if self.is_bound or self.outgoing else ""
        return super().getsockname()

    def as_sockaddr(self, address: tuple[Any, ...]) -> Any:
        return address[0] if self.family == socket.AF_UNIX else super().as_sockaddr(address)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        super().setsockopt(level, option, value)
        if option == socket.SO_LINGER and level == socket.SOL_SOCKET and self.family != socket.AF_UNIX:
            self._linger = False  # Twisted sets only (1, 0): closing resets the connection
        elif (level, option) in KEEPALIVE_OPTIONS:
            self._restart_keepalive()

    def send(self, data: bytes | memoryview) -> int:
        self.check_open()
        if self.host_crashed:
            return 0
        if self.dead or self._write_ended or self.outgoing is None:
            self.raise_pending_error()
            raise os_error(errno.EPIPE if self.outgoing else errno.ENOTCONN)
        space = self.outgoing.space()
        if space <= 0:
            raise os_error(errno.EAGAIN)
        chunk = bytes(data[:space])
        if chunk:
            self.outgoing.accept(chunk)
        return len(chunk)

    def recv(self, size: int) -> bytes:
        self.check_open()
        if self._received:
            data = self._read_piece(size)
            self.unread -= len(data)
            if self._incoming is not None and self._incoming.window_full:
                self._incoming.update_window()
            return data
        if self.family == socket.AF_UNIX:  # the error precedes the end of the stream
            self.raise_pending_error()
        if self._read_ended:
            return b""
        self.raise_pending_error()
        if self.dead:
            return b""
        if self.outgoing is None:
            raise os_error(errno.ENOTCONN)
        raise os_error(errno.EAGAIN)

    def recvmsg(self, size: int, ancillary: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        """Receive from a UNIX socket. Passing descriptors is not supported."""
        return self.recv(size), [], 0, None

    def sendmsg(self, *message: Any) -> int:
        raise NotImplementedError("a simulated network does not support passing descriptors")

    def shutdown(self, how: int) -> None:
        self.check_open()
        if self.host_crashed or self._accept_queue is not None:
            return
        if self.outgoing is None or self.dead:
            raise os_error(errno.ENOTCONN)
        if how in (socket.SHUT_WR, socket.SHUT_RDWR) and not self._write_ended:
            self._write_ended = True
            self.outgoing.finish()

    def poll(self, interest: int) -> int:
        if self.dead:
            return (interest & (IN | OUT)) | HUP | (ERR if self.error else 0)
        mask = 0
        if interest & IN and (self._received or self._read_ended or self._accept_queue):
            mask = IN
        if self.outgoing is None:
            if self.family == socket.AF_UNIX and self._accept_queue is None:
                return interest & OUT | HUP  # the connect has failed
        else:
            if interest & OUT and (self._write_ended or self.outgoing.writable()):
                mask |= OUT
            if self._write_ended and self._read_ended:
                mask |= HUP
        return mask

    def _release(self) -> None:
        if self.family == socket.AF_UNIX:
            if self.is_bound and self.stack.paths.get(self.local_address[0]) is self:
                del self.stack.paths[self.local_address[0]]
        else:
            super()._release()
        self._connecting = False
        for waiting in self._accept_queue or ():
            waiting._linger = False
            waiting.close()
        if self.outgoing is not None and not self.dead:
            if self._linger and not self.unread:
                self._write_ended = True
                self.outgoing.finish(closes=True)
            else:
                self.dead = True
                self.outgoing.reset()

    def _read_piece(self, size: int) -> bytes:
        """Remove and return the bytes of one read: everything that has arrived, or the bytes up to the next split."""
        assert self._incoming is not None
        policy = self._incoming.link.conditions.splits
        if policy is not self._split_policy:
            self._split_policy = policy
            self._piece_lengths = policy(self._incoming.link.random) if policy is not nowhere else iter(())
            self._piece_left = 0
        if policy is not nowhere:
            if self._piece_left <= 0:
                self._piece_left = next(self._piece_lengths, self.unread)
                if self._piece_left < 1:
                    raise LinkError(f"a split policy must yield lengths of at least 1 byte, not {self._piece_left}")
            size = min(size, self._piece_left)
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
        self._piece_left -= len(data)
        return data

    # Arrivals

    def add_to_backlog(self, connection: StreamEnd) -> None:
        if self._accept_queue is not None and isinstance(connection, StreamSocket):
            self._accept_queue.append(connection)
            self._handshakes = [
                client
                for client in self._handshakes
                if client.outgoing is None or client.outgoing.sink is not connection
            ]
            self.readiness_changed()

    def receive(self, data: bytes) -> None:
        self._received.append(data)
        self.unread += len(data)
        self.readiness_changed()

    def receive_end(self, closed: bool) -> None:
        self._read_ended = True
        if closed and self.family == socket.AF_UNIX:
            # A UNIX socket learns at once that its peer does not read any more. A TCP socket learns it by writing.
            self._write_ended = True
        self.readiness_changed()

    def receive_reset(self, number: int = errno.ECONNRESET) -> None:
        if self.dead:
            return
        self.dead = True
        if self._read_ended and number == errno.ECONNRESET and self.family != socket.AF_UNIX:
            number = errno.EPIPE
        self.error = number
        if self.outgoing is not None:
            self.outgoing.drop()
        self.readiness_changed()


def connect_ends(client: StreamSocket, server: StreamSocket, round_trip: float | None = None) -> None:
    """Connect two sockets by two pipes, after a handshake that took ``round_trip`` seconds."""
    client.heard_at = server.heard_at = client.stack.events.now
    client.outgoing = server._incoming = Pipe(client, server, round_trip)
    server.outgoing = client._incoming = Pipe(server, client, round_trip)
