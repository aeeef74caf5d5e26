from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator

import pytest

from netsvc.server.log_relay import WAITING_MAX, LogRelay


class Output:
    """A descriptor that stands for standard output, with a relay.

    :ivar descriptor: where the process writes.
    """

    def __init__(self, target: int, stop_time: float = 20.0) -> None:
        self.resumed = threading.Event()
        self.descriptor = os.dup(target)
        self.relay = LogRelay(self.descriptor, self.resumed.set, stop_time)
        self.relay.start()

    def write(self, text: bytes) -> None:
        while text:
            text = text[os.write(self.descriptor, text) :]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of 4 KiB."""
    source, entry = os.pipe()
    fcntl.fcntl(entry, fcntl.F_SETPIPE_SZ, 4096)
    yield source, entry
    for descriptor in (source, entry):
        os.close(descriptor)


def lines_of(source: int, number: int) -> list[bytes]:
    """Read this many lines."""
    data = b""
    while data.count(b"\n") < number:
        data += os.read(source, 65_536)
    return data.splitlines()


def test_lines_arrive_in_order_and_those_that_wait_at_the_end_as_well() -> None:
    source, entry = os.pipe()
    output = Output(entry)
    output.write(b"".join(b"%d\n" % number for number in range(100)))
    output.write(b"unfinished")
    output.relay.stop()
    output.write(b" line\n")  # directly
    assert lines_of(source, 101) == [*(b"%d" % number for number in range(100)), b"unfinished line"]
    assert output.relay.dropped == 0
    for descriptor in (output.descriptor, source, entry):
        os.close(descriptor)


def test_a_reader_that_does_not_read_delays_nobody_and_lines_are_dropped_as_a_whole(pipe: tuple[int, int]) -> None:
    source, entry = pipe
    output = Output(entry)
    number = 3 * WAITING_MAX // 100
    for index in range(number):
        output.write(b"%099d\n" % index)
    output.write(b"last\n")
    read = b""
    while not output.resumed.is_set():
        read += os.read(source, 65_536)
    assert 0 < output.relay.dropped < number
    while read.count(b"\n") < number + 1 - output.relay.dropped:
        read += os.read(source, 65_536)
    output.relay.stop()
    os.close(output.descriptor)
    numbers = [int(line) for line in read.splitlines() if line != b"last"]
    assert numbers == sorted(numbers)
    assert numbers[:100] == list(range(100))


def test_the_end_does_not_wait_for_ever_for_a_reader(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], stop_time=0.01)
    output.write(b"x\n" * 10_000)
    output.relay.stop()
    output.write(b"y\n" * 10_000)  # does not block
    os.close(output.descriptor)
    assert b"y" not in b"".join(lines_of(pipe[0], 10_000))


def test_an_output_that_does_not_block_loses_no_line(pipe: tuple[int, int]) -> None:
    source, entry = pipe
    os.set_blocking(entry, False)
    output = Output(entry)
    output.write(b"".join(b"%099d\n" % number for number in range(1_000)))
    data = b""
    while data.count(b"\n") < 1_000:
        data += os.read(source, 65_536)
    output.relay.stop()
    assert [int(line) for line in data.splitlines()] == list(range(1_000))
    assert output.relay.dropped == 0
    os.close(output.descriptor)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_lines_that_do_not_fit_on_the_disk_are_counted() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    output = Output(full)
    output.write(b"one\ntwo\n")
    output.relay.stop()
    assert output.relay.dropped == 2
    os.close(output.descriptor)
    os.close(full)


def test_lines_after_the_reader_has_gone_are_counted() -> None:
    source, entry = os.pipe()
    os.close(source)
    output = Output(entry)
    output.write(b"one\n")
    output.relay.stop()
    assert output.relay.dropped == 1
    os.close(output.descriptor)
    os.close(entry)
