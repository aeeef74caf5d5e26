"""Programs that run on EPollReactor run in the same way on netsvc's reactors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.programs import SECONDS

REACTORS = ["twisted.internet.epollreactor", "netsvc.reactor.asyncio", "netsvc.reactor.uvloop"]

PRELUDE = """
import sys
from importlib import import_module

import_module(sys.argv[1]).install()
from twisted.internet import reactor


def say(*words):
    print(*words, flush=True)
"""

#: An echo server, a client that has sent 50 pieces one by one, and what happens then.
ACTIVE_CONNECTION = """
from twisted.internet import endpoints, protocol


class Echo(protocol.Protocol):
    def connectionMade(self):
        self.factory.connection = self

    def dataReceived(self, data):
        self.transport.write(data)


class Client(protocol.Protocol):
    received = 0

    def connectionMade(self):
        self.transport.write(b"x")

    def dataReceived(self, data):
        self.received += len(data)
        if self.received < 50:
            self.transport.write(b"x")
        elif self.received == 50:
            reactor.callLater(0, then, self, server.connection)

    def connectionLost(self, reason):
        say("lost", reason.type.__name__)


server = protocol.Factory.forProtocol(Echo)


def start():
    port = reactor.listenTCP(0, server, interface="127.0.0.1")
    where = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    endpoints.connectProtocol(where, Client())


reactor.callWhenRunning(start)
"""

#: The reactors that have an event loop, for the fixture ``start``.
on_loops = pytest.mark.parametrize("start", REACTORS[1:], indirect=True)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=REACTORS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """A function that starts a program on the reactor."""

    def start(program: str, prelude: str = PRELUDE) -> subprocess.Popen[str]:
        path = tmp_path / "program.py"
        path.write_text(prelude + textwrap.dedent(program))
        started = subprocess.Popen(
            [sys.executable, str(path), request.param],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        request.addfinalizer(started.kill)
        return started

    return start


def output_of(started: subprocess.Popen[str], text: str = "") -> list[str]:
    """Wait for the end of a program. Returns the lines that it printed; fails if it wrote an error."""
    printed, errors = started.communicate(text, timeout=SECONDS)
    assert (started.returncode, errors) == (0, "")
    return printed.splitlines()


def wait_until_idle(started: subprocess.Popen[str]) -> None:
    """Wait until a program has printed a line and then sleeps, because it waits for an event."""
    assert started.stdout is not None
    assert started.stdout.readline()
    stat = Path(f"/proc/{started.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "S":
        os.sched_yield()


# Signals


@pytest.mark.parametrize(
    "handler", ["reactor.stop()", "reactor.callLater(0, reactor.stop)", "reactor.callFromThread(reactor.stop)"]
)
def test_a_signal_handler_wakes_an_idle_reactor(start: Start, handler: str) -> None:
    started = start(f"""
        import signal

        def install():
            signal.signal(signal.SIGTERM, lambda *_: {handler})
            say("ready")

        reactor.callWhenRunning(install)
        reactor.run()
        say("stopped")
    """)
    wait_until_idle(started)
    started.send_signal(signal.SIGTERM)
    assert output_of(started) == ["stopped"]


def test_a_signal_that_another_thread_receives_wakes_an_idle_reactor(start: Start) -> None:
    started = start("""
        import signal, threading

        def send():
            sys.stdin.readline()
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

        threading.Thread(target=send, daemon=True).start()
        reactor.callWhenRunning(say, "ready")
        reactor.run()
        say("stopped")
    """)
    wait_until_idle(started)
    assert output_of(started, "now\n") == ["stopped"]


@pytest.mark.parametrize("previous", ["None", "object()"])
def test_the_run_ends_well_if_signal_was_patched(start: Start, previous: str) -> None:
    started = start(f"""
        import signal
        original = signal.signal
        signal.signal = lambda number, handler: original(number, handler) and {previous}
        signal.getsignal = lambda number: {previous}
        reactor.callLater(0, reactor.stop)
        reactor.run()
        say("stopped")
    """)
    assert output_of(started) == ["stopped"]


def test_the_reactor_runs_in_a_thread_that_is_not_the_main_thread(start: Start) -> None:
    started = start("""
        import threading
        from twisted.internet.threads import blockingCallFromThread
        from twisted.internet.task import deferLater

        thread = threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False})
        thread.start()
        say(blockingCallFromThread(reactor, deferLater, reactor, 0.01, lambda: "called"))
        reactor.callFromThread(reactor.stop)
        thread.join()
        say("stopped")
    """)
    assert output_of(started) == ["called", "stopped"]


# asyncio


@on_loops
def test_programs_that_use_asyncio_recognise_the_reactor(start: Start) -> None:
    started = start("""
        import asyncio
        from twisted.internet.asyncioreactor import AsyncioSelectorReactor

        assert isinstance(reactor, AsyncioSelectorReactor)
        assert reactor.__class__ is getattr(import_module(sys.argv[1]), reactor.__class__.__name__)
        assert reactor._asyncioEventloop is asyncio.get_event_loop_policy().get_event_loop()

        async def main():
            assert asyncio.get_running_loop() is reactor._asyncioEventloop
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            say((await reader.readexactly(5)).decode())
            writer.close()
            await asyncio.sleep(0.01)
            server.close()
            reactor.stop()

        async def echo(reader, writer):
            writer.write(await reader.readexactly(5))
            writer.close()

        task = reactor._asyncioEventloop.create_task(main())
        reactor.run()
        task.result()
    """)
    assert output_of(started) == ["hello"]


@on_loops
def test_a_process_of_asyncio_does_not_hide_the_end_of_one_of_twisted(start: Start) -> None:
    started = start("""
        import asyncio
        from twisted.internet import protocol

        class Child(protocol.ProcessProtocol):
            def processEnded(self, reason):
                say("twisted", reason.value.exitCode)
                reactor.stop()

        async def main():
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "exit(3)")
            say("asyncio", await process.wait())
            reactor.spawnProcess(Child(), sys.executable, [sys.executable, "-c", "exit(4)"])

        task = reactor._asyncioEventloop.create_task(main())
        reactor.run()
    """)
    assert output_of(started) == ["asyncio 3", "twisted 4"]


def test_many_processes_that_end_at_once_are_all_noticed(start: Start) -> None:
    started = start("""
        import os
        from twisted.internet import protocol

        ended = []

        class Child(protocol.ProcessProtocol):
            def processEnded(self, reason):
                ended.append(reason.value.exitCode)
                if len(ended) == 20:
                    reactor.callLater(0.05, report)

        def report():
            say(sum(ended), len(os.listdir("/proc/self/fd")) - descriptors)
            reactor.stop()

        def begin():
            global descriptors
            descriptors = len(os.listdir("/proc/self/fd"))
            for _ in range(20):
                reactor.spawnProcess(Child(), "/bin/sh", ["sh", "-c", "exit 2"])

        reactor.callLater(0, begin)
        reactor.run()
    """)
    assert output_of(started) == ["40 0"]


@pytest.mark.parametrize("written", [0, 1, 1_000_000])
def test_a_child_process_that_closes_its_input_is_noticed_once(start: Start, written: int) -> None:
    started = start(f"""
        from twisted.internet import protocol

        class Child(protocol.ProcessProtocol):
            def connectionMade(self):
                if {written}:  # an empty write ends the watch for the end of the input
                    self.transport.write(b"x" * {written})

            def outReceived(self, data):
                self.transport.write(b"x")

            def childConnectionLost(self, descriptor):
                if descriptor == 0:
                    say("input")
                    self.transport.write(b"x")
                super().childConnectionLost(descriptor)

            def processEnded(self, reason):
                say("ended", reason.value.exitCode)
                reactor.stop()

        script = "sleep 0.1; exec <&-; echo closed; sleep 0.1; exit 3"
        reactor.callWhenRunning(reactor.spawnProcess, Child(), "/bin/sh", ["sh", "-c", script], env=None)
        reactor.run()
    """)
    assert output_of(started) == ["input", "ended 3"]


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_what_is_written_to_a_child_process_comes_before_the_end_of_its_input(start: Start, size: int) -> None:
    started = start(f"""
        from twisted.internet import protocol

        class Child(protocol.ProcessProtocol):
            received = 0

            def connectionMade(self):
                self.transport.write(b"x" * {size})
                reactor.callLater(0.01, self.finish)

            def finish(self):
                self.transport.write(b"x" * {size})
                self.transport.closeStdin()

            def outReceived(self, data):
                self.received += len(data)

            def processEnded(self, reason):
                say(self.received)
                reactor.stop()

        reactor.callWhenRunning(reactor.spawnProcess, Child(), "/bin/cat", ["cat"])
        reactor.run()
    """)
    assert output_of(started) == [str(2 * size)]


#: Opens a file as the standard output of a protocol.
WRITER_TO_A_FILE = """
import os
from twisted.internet import protocol, stdio


class Writer(protocol.Protocol):
    def connectionMade(self):
        for _ in range(10):
            self.transport.write(b"x" * 100_000)
        self.transport.loseConnection()


def begin():
    file = os.open("written", os.O_WRONLY | os.O_CREAT)
    stdio.StandardIO(Writer(), stdin=os.pipe()[0], stdout=file, reactor=reactor)


reactor.callWhenRunning(begin)
"""


def test_what_is_written_to_standard_output_is_complete_if_it_is_a_file(start: Start) -> None:
    started = start(
        """
        def lost(self, reason):
            say(reason.type.__name__, os.stat("written").st_size)
            reactor.stop()

        Writer.connectionLost = lost
        reactor.run()
    """,
        PRELUDE + WRITER_TO_A_FILE,
    )
    assert output_of(started) == ["ConnectionDone 1000000"]


@on_loops
@pytest.mark.parametrize("end", ["reactor.crash()", "reactor._asyncioEventloop.call_soon(reactor.crash)"])
def test_the_event_loop_does_not_wait_after_a_connection_was_lost(start: Start, end: str) -> None:
    started = start(
        f"""
        import time

        def lost(self, reason):
            {end}

        Writer.connectionLost = lost
        reactor.callLater({SECONDS / 2}, reactor.stop)
        began = time.monotonic()
        reactor.run()
        say(time.monotonic() - began < {SECONDS / 4})
    """,
        PRELUDE + WRITER_TO_A_FILE,
    )
    assert output_of(started) == ["True"]


# Context


def test_context_of_the_application_is_visible_in_every_callback(start: Start) -> None:
    started = start(
        """
        import contextvars, decimal, threading
        from twisted.python import context

        variable = contextvars.ContextVar("variable", default="default")
        seen = set()

        def see(where):
            seen.add((where, variable.get(), decimal.getcontext().prec, context.get("key")))

        class Watcher(protocol.DatagramProtocol):
            def datagramReceived(self, datagram, address):
                see("datagram")

        class Child(protocol.ProcessProtocol):
            def processEnded(self, reason):
                see("process")
                for prints in sorted(seen):
                    say(*prints)
                reactor.stop()

        def then(client, connection):
            received = type(connection).dataReceived
            connection.dataReceived = lambda data: (see("active"), received(connection, data))
            client.connectionLost = lambda reason: (see("lost"), reactor.spawnProcess(Child(), "/bin/true", ["true"]))
            port = reactor.listenUDP(0, Watcher(), interface="127.0.0.1")
            port.write(b"x", ("127.0.0.1", port.getHost().port))
            threading.Thread(target=reactor.callFromThread, args=(see, "thread")).start()
            client.transport.write(b"x")
            reactor.callLater(0.1, see, "timer")
            reactor.callLater(0.2, client.transport.loseConnection)

        variable.set("set")
        decimal.getcontext().prec = 7
        context.call({"key": "value"}, reactor.run)
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == [
        f"{where} set 7 value" for where in ("active", "datagram", "lost", "process", "thread", "timer")
    ]


# Iterations


@pytest.mark.parametrize("iterate", ["iterate(0.05)", "doIteration(0.05)", "iterate()"])
def test_an_iteration_within_a_callback_makes_progress_on_active_connections(start: Start, iterate: str) -> None:
    started = start(
        f"""
        def then(client, connection):
            client.transport.write(b"y" * 300_000)
            while client.received < 300_050:
                reactor.{iterate}
            say(client.received)
            client.transport.write(b"y")
            while client.received < 300_051:
                reactor.{iterate}
            client.transport.loseConnection()
            while client.connected:
                reactor.{iterate}
            reactor.stop()

        def lost(self, reason):
            self.connected = 0

        Client.connectionLost = lost
        reactor.run()
        say("stopped")
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["300050", "stopped"]


def test_a_connection_goes_on_after_an_iteration_within_a_callback(start: Start) -> None:
    started = start(
        """
        def then(client, connection):
            received = type(client).dataReceived

            def count(data):
                received(client, data)
                if client.received == 500:
                    client.transport.loseConnection()
                    reactor.callLater(0, reactor.stop)
                elif client.received > 50:
                    client.transport.write(b"x")

            client.dataReceived = count
            client.connectionLost = lambda reason: None
            reactor.iterate(0)
            client.transport.write(b"x")

        reactor.run()
        say("stopped")
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["stopped"]


def test_iterate_returns_when_something_has_happened(start: Start) -> None:
    started = start("""
        import time
        from twisted.internet import protocol

        class Child(protocol.ProcessProtocol):
            ended = False

            def outReceived(self, data):
                say("read", data.decode().strip())

        began = time.monotonic()
        reactor.startRunning(installSignalHandlers=False)
        reactor.iterate()
        reactor.spawnProcess(Child(), "/bin/echo", ["echo", "hello"])
        reactor.iterate(60)
        say("early", time.monotonic() - began < 30)
        before = time.monotonic()
        while time.monotonic() - before < 0.05:  # its end
            reactor.iterate(0.05)
        reactor.iterate(0.05)
    """)
    assert output_of(started) == ["read hello", "early True"]


# Transports


def test_calls_that_are_due_are_made_before_a_peer_in_the_same_process_is_read_from(start: Start) -> None:
    started = start(
        """
        def then(client, connection):
            def received(data):
                say("received")
                reactor.stop()

            client.dataReceived = received
            connection.transport.write(b"x")
            reactor.callLater(0, say, "called")

        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION.replace("< 50", "< 1").replace("== 50", "== 1"),
    )
    assert output_of(started)[:2] == ["called", "received"]


def test_a_reader_that_the_application_removes_reads_no_more(start: Start) -> None:
    started = start(
        """
        def then(client, connection):
            reactor.removeReader(connection.transport)
            client.transport.write(b"x" * 1_000)
            reactor.callLater(0.1, resume, client, connection)

        def resume(client, connection):
            say(client.received, connection.transport in reactor.getReaders())
            client.dataReceived = lambda data: reactor.stop()
            reactor.addReader(connection.transport)

        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started)[:1] == ["50 False"]


@pytest.mark.parametrize("when", ["connectionMade", "later"])
def test_a_write_method_that_the_application_has_replaced_is_used_for_ever(start: Start, when: str) -> None:
    started = start(
        f"""
        def count(connection):
            connection.written = 0
            write = connection.transport.write

            def counting(data):
                connection.written += len(data)
                write(data)

            connection.counting = connection.transport.write = counting

        if {when == "connectionMade"}:
            made = Echo.connectionMade
            Echo.connectionMade = lambda self: (made(self), count(self))

        def then(client, connection):
            if {when == "later"}:
                count(connection)
            before = connection.written
            client.dataReceived = lambda data: report(connection, before)
            client.transport.write(b"x" * 10)

        def report(connection, before):
            say(connection.written - before)
            transport = connection.transport
            transport.abortConnection()
            reactor.callLater(0.05, lambda: (say(transport.write is connection.counting), reactor.stop()))

        Client.connectionLost = lambda self, reason: None
        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["10", "True"]


@pytest.mark.parametrize("method", ["doRead", "writeSomeData"])
def test_a_read_or_write_method_that_the_application_has_replaced_is_used_for_ever(start: Start, method: str) -> None:
    started = start(
        f"""
        calls = []
        made = Echo.connectionMade

        def watch(self):
            made(self)
            original = self.transport.{method}
            self.transport.{method} = lambda *args: (calls.append(1), original(*args))[1]

        Echo.connectionMade = watch

        def then(client, connection):
            say(len(calls) >= 50)
            reactor.stop()

        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started)[:1] == ["True"]


def test_connections_are_closed_when_run_returns(start: Start) -> None:
    started = start(
        """
        import socket

        def then(client, connection):
            global peer, connected
            connected = connection
            peer = client.transport.getHandle().dup()
            client.transport.stopReading()
            connection.transport.loseConnection()
            reactor.callLater(0, reactor.stop)

        reactor.run()
        peer.settimeout(5)
        say(peer.recv(100))
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started)[-1:] == ["b''"]


@pytest.mark.parametrize("start", ["netsvc.reactor.uvloop"], indirect=True)
def test_an_error_while_a_connection_is_handed_over_ends_in_connection_lost(start: Start) -> None:
    started = start(
        """
        def fail():
            raise OSError("no buffer space")

        made = Echo.connectionMade
        Echo.connectionMade = lambda self: (made(self), setattr(self.transport, "getTcpNoDelay", fail))
        Echo.connectionLost = lambda self, reason: (say(reason.value), reactor.stop())
        Client.connectionLost = lambda self, reason: None
        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["no buffer space"]


def test_twisteds_tests_of_tcp_leave_nothing_open_if_connections_are_handed_over_at_once(tmp_path: Path) -> None:
    program = f"""
import sys
from netsvc.reactor import UvloopReactor
UvloopReactor.hand_over_at = 0
import netsvc.reactor.uvloop
netsvc.reactor.uvloop.install()
sys.argv = ["trial", "--temp-directory={tmp_path}/trial", "twisted.test.test_tcp"]
from twisted.scripts.trial import run
run()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout
    assert "PASSED" in done.stdout


def test_iterations_within_callbacks_send_each_byte_once(start: Start) -> None:
    """The socket of a connection with unsent bytes becomes writable while another connection calls iterate."""
    started = start(
        """
        import socket
        import threading

        DATA = b"".join(b"%07d\\n" % number for number in range(2_000_000))

        def then(client, connection):
            reactor.callInThread(read, connection.transport.getHost().port)

        def read(port):
            slow = socket.create_connection(("127.0.0.1", port))
            for _ in range(20):
                slow.sendall(b"x")
                slow.recv(1)
            fast = socket.create_connection(("127.0.0.1", port))
            for _ in range(20):
                fast.sendall(b"x")
                fast.recv(1)
            received = b""
            slow.sendall(b"all")
            for _ in range(3):
                received += slow.recv(1 << 20)
            blocked, go_on = threading.Event(), threading.Event()
            reactor.callFromThread(lambda: (blocked.set(), go_on.wait()))
            blocked.wait()
            fast.sendall(b"iterate")
            slow.setblocking(False)
            try:
                while True:
                    received += slow.recv(1 << 20)
            except BlockingIOError:
                slow.setblocking(True)
            go_on.set()
            while len(received) < len(DATA):
                received += slow.recv(1 << 20)
            slow.settimeout(0.2)
            try:
                more = slow.recv(1)
            except TimeoutError:
                more = b""
            say(received == DATA, more)
            reactor.callFromThread(reactor.stop)

        def received(self, data):
            if data == b"all":
                self.transport.write(DATA)
            elif b"iterate" in data:
                reactor.iterate(0)
            else:
                self.transport.write(data)

        Echo.dataReceived = received
        Client.connectionLost = lambda self, reason: None
        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["True b''"]


def test_a_socket_that_a_program_has_kept_can_be_used_after_an_iteration_within_a_callback(start: Start) -> None:
    started = start(
        """
        def then(client, connection):
            kept = client.transport.getHandle()
            reactor.iterate(0)
            say(kept.getpeername()[0], kept.fileno() == client.transport.fileno())
            reactor.stop()

        Client.connectionLost = lambda self, reason: None
        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["127.0.0.1 True"]


@on_loops
def test_an_iteration_within_a_callback_waits_although_asyncio_has_something_to_do(start: Start) -> None:
    started = start("""
        import os

        readable, writable = os.pipe()
        os.write(writable, b"x")
        loop = reactor._asyncioEventloop

        def read():
            loop.remove_reader(readable)
            say("read", os.read(readable, 1).decode())
            reactor.stop()

        def iterate():
            loop.add_reader(readable, read)
            ended = []
            reactor.callLater(0.2, ended.append, True)
            iterations = 0
            while not ended:
                reactor.iterate(0.1)
                iterations += 1
            say(iterations < 10)

        reactor.callLater(0, iterate)
        reactor.run()
    """)
    assert output_of(started) == ["True", "read x"]


# Reasons of loss, and the end


def test_a_failed_write_is_a_lost_connection(start: Start) -> None:
    started = start(
        """
        import socket
        import struct

        def then(client, connection):
            opened = client.transport.getHandle()
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.transport.stopReading()
            connection.transport.pauseProducing()
            client.transport.abortConnection()
            reactor.callLater(0.05, write, connection)

        def write(connection):
            connection.transport.write(b"x")
            connection.transport.loseConnection()

        def lost(self, reason):
            say(reason.type.__name__)
            reactor.stop()

        Echo.connectionLost = lost
        Client.connectionLost = lambda self, reason: None
        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["ConnectionLost"]


@pytest.mark.parametrize("size", [10, 10_000_000])
@pytest.mark.parametrize("when", ["now", "later"])
def test_an_answer_before_a_reset_is_received_although_writing_fails(start: Start, size: int, when: str) -> None:
    """An HTTP server that refuses an upload answers 413 and closes, for example."""
    started = start(f"""
        import socket
        import struct
        from twisted.internet import protocol

        class Uploader(protocol.Protocol):
            received = 0

            def dataReceived(self, data):
                self.received += 1
                if self.received < 12:
                    peer.send(b"x")
                elif self.received == 12:
                    self.transport.write(b"x" * {size})
                    if "{when}" == "now":
                        refuse()
                    else:
                        reactor.callLater(0.05, refuse)
                else:
                    say(data)

            def connectionLost(self, reason):
                say(reason.type.__name__)
                reactor.stop()

        def refuse():
            peer.send(b"refused")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            again(10)

        def again(times):  # the reactors run such calls in a row
            if times:
                reactor.callLater(0, again, times - 1)

        port = reactor.listenTCP(0, protocol.Factory.forProtocol(Uploader), interface="127.0.0.1")
        peer = socket.create_connection(("127.0.0.1", port.getHost().port))
        peer.send(b"x")
        reactor.run()
    """)
    assert output_of(started) == ["b'refused'", "ConnectionLost"]


def test_an_exception_of_a_protocol_closes_the_connection_even_if_it_means_a_half_close(start: Start) -> None:
    started = start(
        """
        from zope.interface import implementer
        from twisted.internet.error import ConnectionDone
        from twisted.internet.interfaces import IHalfCloseableProtocol

        implementer(IHalfCloseableProtocol)(Echo)

        def then(client, connection):
            def fail(data):
                raise ConnectionDone

            connection.dataReceived = fail
            client.transport.write(b"x")

        def lost(self, reason):
            say(reason.type.__name__)
            reactor.stop()

        Echo.readConnectionLost = lambda self: say("half-closed")
        Echo.connectionLost = lost
        Client.connectionLost = lambda self, reason: None
        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert started.communicate(timeout=SECONDS)[0] == "ConnectionDone\n"


def test_nothing_is_called_after_crash_until_the_next_run(start: Start) -> None:
    started = start("""
        def crash():
            reactor.crash()
            reactor.callLater(0, say, "timer")
            reactor.callFromThread(say, "call")
            reactor.callLater(0, reactor.stop)

        reactor.callLater(0, crash)
        reactor.run()
        say("crashed")
        reactor.run()
    """)
    lines = output_of(started)
    assert (lines[0], sorted(lines[1:])) == ("crashed", ["call", "timer"])


def test_bytes_are_sent_although_another_connection_was_interrupted(start: Start) -> None:
    started = start(
        """
        import socket
        import threading

        interrupted = threading.Event()

        def then(client, connection):
            reactor.callInThread(ask, connection.transport.getHost().port)

        def ask(port):
            other, *active = (socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(3))
            for each in active * 20:
                each.sendall(b"x")
                each.recv(1)
            other.sendall(b"interrupt")
            other.recv(1)
            other.close()
            interrupted.wait()
            for each in active * 2:
                each.sendall(b"y")
                each.recv(1)
            say("answered")
            reactor.callFromThread(reactor.stop)

        def received(self, data):
            self.transport.write(data)
            if data == b"interrupt":
                self.connectionLost = interrupt

        def interrupt(reason):
            interrupted.set()
            raise KeyboardInterrupt

        Echo.dataReceived = received
        Echo.connectionLost = Client.connectionLost = lambda self, reason: None
        reactor.run(installSignalHandlers=False)
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert started.communicate(timeout=SECONDS)[0] == "answered\n"


@on_loops
def test_a_process_of_asyncio_that_was_started_before_run_ends(start: Start) -> None:
    started = start("""
        import asyncio

        loop = reactor._asyncioEventloop
        process = loop.run_until_complete(asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE))

        async def wait():
            process.stdin.close()
            say("ended", await process.wait())
            reactor.stop()

        reactor.callLater(0, lambda: loop.create_task(wait()))
        reactor.run()
    """)
    assert output_of(started) == ["ended 0"]


# Calls and contexts


def test_a_thread_that_a_callback_has_started_logs_with_the_prefix_of_the_connection(start: Start) -> None:
    started = start(
        """
        import threading
        from twisted.internet.threads import deferToThread
        from twisted.python import log

        log.addObserver(lambda event: event["message"] == ("in a thread",) and say(event["system"]))
        go_on = threading.Event()

        def work():
            go_on.wait()
            log.msg("in a thread")

        def then(client, connection):
            def received(data):
                deferToThread(work).addBoth(lambda _: reactor.stop())
                reactor.callLater(0, go_on.set)

            connection.dataReceived = received
            connection.transport.logstr = "the connection"
            client.transport.write(b"x")

        Client.connectionLost = lambda self, reason: None
        reactor.run()
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["the connection"]


def test_context_variables_that_a_callback_sets_are_visible_after_run(start: Start) -> None:
    started = start("""
        import contextvars

        variable = contextvars.ContextVar("variable", default="default")
        reactor.callLater(0, lambda: (variable.set("set"), reactor.stop()))
        reactor.run()
        say(variable.get())
    """)
    assert output_of(started) == ["set"]


def test_a_paused_connection_does_not_call_a_replaced_method(start: Start) -> None:
    started = start(
        """
        def then(client, connection):
            transport = connection.transport
            transport.doRead = lambda: say("called")
            transport.stopReading()
            client.transport.write(b"x")
            reactor.callLater(0.05, reactor.stop)

        Client.connectionLost = lambda self, reason: None
        reactor.run()
        say("stopped")
    """,
        PRELUDE + ACTIVE_CONNECTION,
    )
    assert output_of(started) == ["stopped"]


# TLS

TLS_PRELUDE = """
import socket
import ssl
from twisted.internet import protocol
from twisted.internet.ssl import PrivateCertificate

KEY = PrivateCertificate.loadPEM(open("key.pem", "rb").read())


def listen(server):
    port = reactor.listenSSL(0, protocol.Factory.forProtocol(server), KEY.options(), interface="127.0.0.1")
    return port.getHost().port


def connect(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
"""


@pytest.fixture
def start_tls(start: Start, tmp_path: Path) -> Start:
    """A function that starts a program that uses TLS."""
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "key.pem"))
    return lambda program: start(program, PRELUDE + TLS_PRELUDE)


def test_tls_bytes_stay_in_order_if_a_protocol_lets_the_reactor_iterate(start_tls: Start) -> None:
    started = start_tls("""
        DATA = b"".join(b"%07d\\n" % number for number in range(300_000))

        class Server(protocol.Protocol):
            received = b""
            nested = 0

            def dataReceived(self, data):
                self.received += data
                if self.nested < 3:
                    self.nested += 1
                    reactor.iterate(0.01)
                    self.nested -= 1
                if len(self.received) == len(DATA) and reactor.running:
                    say(self.received == DATA)
                    reactor.stop()

        def send(port):
            with connect(port) as opened:
                opened.sendall(DATA)
                opened.recv(1)

        reactor.callInThread(send, listen(Server))
        reactor.run()
    """)
    assert set(started.communicate(timeout=SECONDS)[0].split()) == {"True"}


@on_loops
def test_a_tls_connection_that_is_lost_while_its_protocol_lets_the_reactor_iterate_receives_nothing_more(
    start_tls: Start,
) -> None:
    started = start_tls("""
        class Server(protocol.Protocol):
            lost = False

            def connectionMade(self):
                self.transport.write(b"the handshake is done")

            def dataReceived(self, data):
                if self.lost:
                    say("received after the loss")
                until = reactor.seconds() + 0.2
                while not self.lost and reactor.seconds() < until:
                    reactor.iterate(0.01)

            def connectionLost(self, reason):
                self.lost = True
                say("lost")
                reactor.callLater(0, reactor.stop)

        def send(port):
            with connect(port) as opened:
                opened.recv(100)
                opened.sendall(b"x" * 40_000)

        reactor.callInThread(send, listen(Server))
        reactor.run()
    """)
    assert output_of(started) == ["lost"]


@on_loops
def test_what_is_written_while_tls_1_2_renegotiates_is_sent_afterwards(start_tls: Start) -> None:
    """Twisted's TLS would send the request for it only with the next answer."""
    started = start_tls("""
        from OpenSSL import SSL
        from twisted.internet.ssl import CertificateOptions, TLSVersion

        class Server(protocol.Protocol):
            received = b""

            def dataReceived(self, data):
                self.received += data
                if self.received.endswith(b"end"):
                    say(self.received)
                    reactor.stop()

        class Client(protocol.Protocol):
            def connectionMade(self):
                self.transport.write(b"before ")
                reactor.callLater(0.05, self.renegotiate)

            def renegotiate(self):
                self.transport.getHandle().renegotiate()
                self.transport.write(b"during ")
                reactor.callLater(0, self.transport.write, b"the ")
                reactor.callLater(0.05, self.transport.write, b"end")

        options = KEY.options()
        options.getContext().set_options(1 << 8)  # SSL_OP_ALLOW_CLIENT_RENEGOTIATION
        port = reactor.listenSSL(0, protocol.Factory.forProtocol(Server), options, interface="127.0.0.1")
        client = protocol.ClientFactory.forProtocol(Client)
        tls_1_2 = CertificateOptions(lowerMaximumSecurityTo=TLSVersion.TLSv1_2)
        reactor.connectSSL("127.0.0.1", port.getHost().port, client, tls_1_2)
        reactor.callLater(2, reactor.stop)
        reactor.run()
    """)
    assert output_of(started) == ["b'before during the end'"]


@on_loops
def test_tls_stays_that_of_twisted_if_openssl_lacks_a_function(start: Start, tmp_path: Path) -> None:
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "key.pem"))
    without = """
from cryptography.hazmat.bindings.openssl.binding import Binding

function = Binding.lib.BIO_get_mem_data
del Binding.lib.BIO_get_mem_data
"""
    again = """
Binding.lib.BIO_get_mem_data = function  # pyOpenSSL needs it
"""
    program = """
        class Server(protocol.Protocol):
            def dataReceived(self, data):
                say(type(self.transport).__name__, data)
                reactor.stop()

        def send(port):
            with connect(port) as opened:
                opened.sendall(b"hello")
                opened.recv(1)

        reactor.callInThread(send, listen(Server))
        reactor.run()
    """
    assert output_of(start(program, without + PRELUDE + again + TLS_PRELUDE)) == ["BufferingTLSTransport b'hello'"]
