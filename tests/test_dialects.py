"""netsvc replaces each of the classic blocking-socket programs, and does not have their faults."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import NETSVC, SECONDS, Program, in_thread, listening, netsvc, port_of, running, serving

RECEIVED = "已接收"
GOT_IT = "服務端收到了資訊"
NOWHERE = "127.0.0.1:0"


def connect(port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    client = socket.socket(socket.AF_INET, kind)
    client.settimeout(SECONDS)
    client.connect(("127.0.0.1", port))
    return client


@pytest.fixture(scope="module")
def acknowledging() -> Iterator[int]:
    with serving("--tcp", NOWHERE, "--reply", GOT_IT) as (_, [port]):
        yield port


@pytest.fixture(scope="module")
def time_server() -> Iterator[int]:
    with serving("--udp", NOWHERE) as (_, [port]):
        yield port


@pytest.fixture
def listener() -> Iterator[tuple[Program, int]]:
    """A ``netsvc talk --listen`` to which no client has connected, and its port."""
    with running(*NETSVC, "talk", "--bye", "bye", "--listen", NOWHERE) as program:
        yield program, int(program.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1])


def test_1_netsvc_replaces_the_acknowledging_server(acknowledging: int) -> None:
    with connect(acknowledging) as client:
        for message in ("hello", "收到"):
            client.sendall(message.encode())
            assert client.recv(512).decode() == GOT_IT


def test_2_netsvc_replaces_the_client_of_the_acknowledging_server() -> None:
    with listening() as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while connection.recv(512):
                    connection.sendall(GOT_IT.encode())

        in_thread(serve)
        with running(*NETSVC, "talk", "--framing", "raw", "--bye", "byebye", port_of(server)) as client:
            for _ in range(2):
                client.type("hello\n")
                client.wait_for(GOT_IT)
                client.output = ""
            client.type("byebye\n")
            assert client.end() == 0


def test_3_netsvc_replaces_the_timestamp_server(time_server: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.sendto("你好".encode(), ("127.0.0.1", time_server))
        answer, _ = client.recvfrom(1024)
    assert re.fullmatch(r"\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] 你好", answer.decode())


def test_4_netsvc_replaces_the_timestamp_client() -> None:
    with listening(socket.SOCK_DGRAM) as server:

        def serve() -> None:
            for _ in range(2):
                data, client = server.recvfrom(1024)
                server.sendto(f"[{time.ctime()}] {data.decode()}".encode(), client)

        in_thread(serve)
        done = netsvc("timestamp", port_of(server), stdin="hello\n你好\n".encode())
    assert done.returncode == 0
    assert [line.partition("] ")[2] for line in done.stdout.decode().splitlines()] == ["hello", "你好"]


def test_5_netsvc_replaces_the_receiver_that_ends_at_a_word() -> None:
    with running(*NETSVC, "receive", "--udp", "--bye", "exit", NOWHERE) as sink:
        port = int(sink.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for word in ("hello", "Exit"):
                sender.sendto(word.encode(), ("127.0.0.1", port))
        assert sink.end() == 0
    assert "hello\nExit\n" in sink.output


def test_6_netsvc_replaces_the_senders() -> None:
    with listening(socket.SOCK_DGRAM) as sink:
        assert netsvc("send", "--udp", f"127.0.0.1:{port_of(sink)}", "one").returncode == 0
        assert netsvc("send", "--udp", "--text", f"127.0.0.1:{port_of(sink)}", stdin=b"two\nthree\n").returncode == 0
        assert [sink.recvfrom(1024)[0] for _ in range(3)] == [b"one", b"two", b"three"]


def test_7_a_conversation_with_the_classic_server_ends_with_a_bye_word() -> None:
    received: list[str] = []
    with listening() as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while True:
                    text = connection.recv(1024).decode()
                    received.append(text)
                    if text.lower() == "bye" or not text:
                        return
                    connection.sendall(b"go on")

        thread = in_thread(serve)
        with running(*NETSVC, "talk", "--bye", "bye", port_of(server)) as client:
            client.type("hello\n")
            client.wait_for("go on")
            client.type("Bye\n")
            assert client.end() == 0
        thread.join(SECONDS)
    assert received == ["hello\n", "Bye"]  # the framing is not known when the first message is sent


def test_7_a_conversation_with_the_classic_client_ends_with_its_bye_word(listener: tuple[Program, int]) -> None:
    program, port = listener
    with connect(port) as client:
        client.sendall("你好".encode())
        program.wait_for("你好")
        program.type("hi\n")
        assert client.recv(1024) == b"hi"
        client.sendall(b"bye")
    assert program.end() == 0


def test_8_another_bye_word_ends_the_conversation() -> None:
    with running(*NETSVC, "talk", "--bye", "q", "--listen", NOWHERE) as program:
        port = int(program.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1])
        with connect(port) as client:
            client.sendall(b"hello")
            program.wait_for("hello")
            program.type("Q\n")
            assert client.recv(1024) == b"Q"
        assert program.end() == 0


def test_9_netsvc_replaces_both_sides_of_the_conversation_in_datagrams() -> None:
    with running(*NETSVC, "talk", "--udp", "--text", "--listen", NOWHERE) as program:
        port = int(program.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1])
        with connect(port, socket.SOCK_DGRAM) as client:
            client.send("你好".encode())
            program.wait_for("你好")
            program.type("hi\n")
            assert client.recv(1024) == b"hi"
    with (
        listening(socket.SOCK_DGRAM) as server,
        running(*NETSVC, "talk", "--udp", "--text", port_of(server)) as program,
    ):
        program.type("hello\n")
        data, client_address = server.recvfrom(1024)
        assert data == b"hello"
        server.sendto(b"answer", client_address)
        program.wait_for("answer")


def test_10_netsvc_replaces_the_receiver_of_one_datagram() -> None:
    with running(*NETSVC, "receive", "--udp", "--text", "--count", "1", NOWHERE) as receiver:
        port = int(receiver.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1])
        with connect(port, socket.SOCK_DGRAM) as sender:
            sender.send("你好".encode())
            assert receiver.end() == 0
            assert f"from 127.0.0.1:{port_of(sender)}\n你好\n" in receiver.output


def test_11_netsvc_replaces_the_acknowledging_server_that_logs_its_clients() -> None:
    with serving("--tcp", NOWHERE, "--reply", RECEIVED, "--log-connections") as (server, [port]):
        with connect(port) as client:
            client.sendall(b"hello")
            assert client.recv(1024).decode() == RECEIVED
            where = f"tcp: 127.0.0.1:{port_of(client)} connected"
        server.stop()
        assert where in server.output


def test_12_netsvc_replaces_the_name_lookups() -> None:
    if not Path("/etc/services").exists():
        pytest.skip("this host has no services file")
    done = netsvc("lookup", "localhost", "127.0.0.1", "443", "https")
    assert done.returncode == 0
    printed = done.stdout.decode()
    for line in (
        "localhost: address 127.0.0.1 (loopback)",
        "127.0.0.1: name localhost",
        "443: service https/tcp",
        "https: port 443/tcp",
    ):
        assert line in printed


# The faults of the classic programs


def test_many_clients_are_served_concurrently(acknowledging: int) -> None:
    clients = [connect(acknowledging) for _ in range(20)]
    for client in reversed(clients):  # in reverse, so that a sequential server would block
        client.sendall(b"x")
        assert client.recv(512).decode() == GOT_IT
        client.close()


@pytest.mark.parametrize("size", [512, 1024])
def test_a_character_that_is_split_by_a_buffer_arrives_whole(size: int) -> None:
    text = "收" * size
    with serving("--tcp", NOWHERE, "--reply", "{message}") as (_, [port]), connect(port) as client:
        for start in range(0, len(text.encode()), size):
            client.sendall(text.encode()[start : start + size])
        client.shutdown(socket.SHUT_WR)
        got = b""
        while data := client.recv(size):
            got += data
    assert got.decode() == text
    with listening() as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                for start in range(0, len(text.encode()), size):
                    connection.sendall(text.encode()[start : start + size])

        in_thread(serve)
        done = netsvc("talk", "--framing", "raw", port_of(server))
    assert done.stdout.decode().replace("\n", "") == text


def test_an_empty_line_does_not_hang_the_client(acknowledging: int) -> None:
    done = netsvc("talk", "--framing", "raw", acknowledging, stdin=b"\n\nhello\n")
    assert (done.returncode, done.stdout.decode()) == (1, GOT_IT + "\n")
    assert done.stderr.decode().count("an empty message cannot be sent") == 2


def test_each_side_may_send_several_messages_in_a_row(listener: tuple[Program, int]) -> None:
    program, port = listener
    with connect(port) as client:
        client.sendall(b"one\n")
        program.wait_for("one")
        for _ in range(3):
            program.type("me again\n")
        with client.makefile("rb") as lines:
            assert [lines.readline() for _ in range(3)] == [b"me again\n"] * 3


def test_a_lost_datagram_does_not_make_the_client_wait_for_ever() -> None:
    with listening(socket.SOCK_DGRAM) as silent:
        done = netsvc("timestamp", "--timeout", "0.05", "--tries", "2", port_of(silent), "hello")
        questions = [silent.recvfrom(1024)[0] for _ in range(2)]
    assert done.returncode == 1
    assert questions == [b"hello", b"hello"]


def test_an_answer_from_a_stranger_or_to_another_question_is_ignored() -> None:
    with listening(socket.SOCK_DGRAM) as server, listening(socket.SOCK_DGRAM) as stranger:

        def serve() -> None:
            data, client = server.recvfrom(1024)
            stamp = f"[{time.ctime()}] "
            stranger.sendto(f"{stamp}{data.decode()}".encode(), client)
            server.sendto(f"{stamp}another question".encode(), client)
            server.sendto(b"no stamp", client)
            server.sendto(f"{stamp}{data.decode()}".encode(), client)

        in_thread(serve)
        done = netsvc("timestamp", port_of(server), "mine")
    assert (done.returncode, done.stdout.count(b"\n")) == (0, 1)
    assert done.stdout.endswith(b"] mine\n")


def test_a_bye_word_that_was_not_configured_does_not_stop_the_receiver() -> None:
    with running(*NETSVC, "receive", "--udp", "--count", "3", NOWHERE) as receiver:
        port = int(receiver.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1])
        with connect(port, socket.SOCK_DGRAM) as stranger:
            for word in (b"exit", b"bye", b"still there"):
                stranger.send(word)
        assert receiver.end() == 0
    assert "still there" in receiver.output


def test_without_a_server_the_client_prints_one_line_and_ends() -> None:
    with listening() as closed:
        port = port_of(closed)
    done = netsvc("talk", port, stdin=b"hello\n")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().count("\n") == 1


def test_the_timestamp_server_and_the_classic_one_do_not_loop(time_server: int) -> None:
    answered: list[bytes] = []
    with listening(socket.SOCK_DGRAM) as classic:
        classic.settimeout(0.5)
        classic.sendto(b"spark", ("127.0.0.1", time_server))
        try:
            while True:
                data, peer = classic.recvfrom(1024)
                answered.append(data)
                classic.sendto(f"[{time.ctime()}] ".encode() + data, peer)
        except TimeoutError:
            pass
    assert len(answered) == 1
