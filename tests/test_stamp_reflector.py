"""The STAMP reflector: on a clock in memory, on the simulated network, and on real sockets."""

from __future__ import annotations

import importlib
import logging
import math
import socket
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from netsvc import Config, ConfigError, netsvc_service
from netsvc.limits.cause import Cause
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.limits.networks import NetworkRules
from netsvc.linux.clock_state import ClockState
from netsvc.net.terms import Terms
from netsvc.net.udp_socket import TELLS_LOCAL_ADDRESS
from netsvc.stamp.packets import (
    StampAnswer,
    StampQuestion,
    decode_answer,
    encode_answer,
    encode_question,
)
from netsvc.stamp.server import SessionKey, StampReflector
from netsvc.stamp.stamp_keys import StampKeys
from netsvc.stamp.stamp_sessions import StampSessions
from netsvc.stamp.stamp_times import ErrorEstimate, TimeFormat
from netsvc.stamp.tlvs import (
    INTEGRITY_FAILED,
    ClassOfService,
    StampTlv,
    TimestampInformation,
    TlvType,
    decode_tlvs,
    encode_tlvs,
    sign_tlvs,
    tlvs_are_genuine,
)
from netsvc.testing import Network
from netsvc.wire.datagram import Datagram
from tests.connections import terms
from tests.programs import SECONDS, serving

NOW = 1_795_000_000
NANOSECONDS = NOW * 1_000_000_000
PEER = ("192.0.2.1", 40_000)
KEY = bytes(range(32))

linux = pytest.mark.skipif(not TELLS_LOCAL_ADDRESS, reason="the kernel does not tell what is needed")


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(NOW)
    return clock


def question(
    sequence: int = 0, *, ssid: int = 7, ptp: bool = False, tlvs: bytes = b"", key: bytes | None = None
) -> bytes:
    estimate = ErrorEstimate(False, TimeFormat.PTP if ptp else TimeFormat.NTP, 0.001)
    return encode_question(StampQuestion(sequence, NANOSECONDS - 5_000, estimate, ssid, tlvs), key)


def stateful(service: Terms, **options: object) -> StampReflector:
    return StampReflector(service, sessions=StampSessions[SessionKey](100), **options)  # type: ignore[arg-type]


def answers_to(reflector: StampReflector, *questions: bytes, key: bytes | None = None) -> list[StampAnswer]:
    batch = [Datagram(payload, PEER, ttl=61, kernel_time=NANOSECONDS) for payload in questions]
    return [decode_answer(answer.payload, near=NANOSECONDS, key=key) for answer in reflector.batch_received(batch)]


@pytest.mark.parametrize("ptp", [False, True])
@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
def test_an_answer_has_the_times_the_ttl_and_the_fields_of_the_question(
    clock: Clock, ptp: bool, key: bytes | None
) -> None:
    keys = None if key is None else StampKeys({7: key})
    reflector = StampReflector(terms(clock), keys=keys, clock_state=lambda: ClockState(True, 0.002))
    clock.advance(0.5)
    [answer] = answers_to(reflector, question(9, ptp=ptp, key=key), key=key)
    form = TimeFormat.PTP if ptp else TimeFormat.NTP
    assert (answer.sequence, answer.sender_sequence, answer.ssid, answer.sender_ttl) == (9, 9, 7, 61)
    assert (answer.sender_time, answer.receive_time) == (NANOSECONDS - 5_000, NANOSECONDS)
    assert answer.transmit_time == NANOSECONDS + 500_000_000
    assert answer.error_estimate.synchronized
    assert answer.error_estimate.time_format is form
    assert answer.error_estimate.error == pytest.approx(0.002, rel=0.01)
    assert answer.sender_error_estimate == ErrorEstimate(False, form, answer.sender_error_estimate.error)


def test_the_time_of_sending_is_read_for_each_answer_when_it_is_asked_for(clock: Clock) -> None:
    batch = [Datagram(question(number), PEER, kernel_time=NANOSECONDS) for number in range(3)]
    sent = []
    for answer in StampReflector(terms(clock)).batch_received(batch):
        sent.append(decode_answer(answer.payload, near=NANOSECONDS).transmit_time - NANOSECONDS)
        clock.advance(0.25)  # the system sends it
    assert sent == [0, 250_000_000, 500_000_000]


def test_a_stateful_reflector_counts_the_answers_of_each_session(clock: Clock) -> None:
    reflector = stateful(terms(clock))
    numbers = [question(5), question(8), question(9, ssid=8), question(8)]
    assert [answer.sequence for answer in answers_to(reflector, *numbers)] == [0, 1, 0, 2]
    others = [Datagram(question(), ("192.0.2.1", 40_001)), Datagram(question(), PEER, b"\x7f\0\0\2")]
    assert [int.from_bytes(answer.payload[:4]) for answer in reflector.batch_received(others)] == [0, 0]
    clock.advance(901)
    assert [answer.sequence for answer in answers_to(reflector, question(10))] == [0]


@pytest.mark.parametrize("length", range(14, 44))
def test_a_question_of_twamp_light_is_filled_up_with_zeros_and_answered(clock: Clock, length: int) -> None:
    [answer] = StampReflector(terms(clock)).batch_received([Datagram(question(3)[:length], PEER)])
    assert len(answer.payload) == 44
    assert decode_answer(answer.payload, near=NANOSECONDS).sender_sequence == 3


@pytest.mark.parametrize("length", range(14))
def test_a_shorter_datagram_is_counted_and_not_answered(clock: Clock, length: int) -> None:
    service = terms(clock)
    assert answers_to(StampReflector(service), bytes(length)) == []
    assert service.counters.refused == {Cause.STAMP_INVALID: 1}


@pytest.mark.parametrize("length", [44, 60, 100, 1_400])
def test_no_answer_is_longer_than_its_question(clock: Clock, length: int) -> None:
    tlvs = [StampTlv(TlvType.REFLECTED_TEST_PACKET_CONTROL, b"\xff" * 12), StampTlv(TlvType.LOCATION, bytes(12))]
    padded = (question() + encode_tlvs(tlvs)).ljust(length, b"\xff")[:length]
    [answer] = StampReflector(terms(clock)).batch_received([Datagram(padded, PEER)])
    assert len(answer.payload) == length


def test_the_tlvs_tell_the_traffic_class_and_where_the_times_come_from(clock: Clock) -> None:
    asked = [
        StampTlv(TlvType.TIMESTAMP_INFORMATION, bytes(4)),
        StampTlv(TlvType.CLASS_OF_SERVICE, ClassOfService(46).encode()),
        StampTlv(TlvType.REFLECTED_TEST_PACKET_CONTROL, bytes(12)),
        StampTlv(TlvType.EXTRA_PADDING, b"padding"),
    ]
    datagram = Datagram(question(tlvs=encode_tlvs(asked)), PEER, traffic_class=10 << 2 | 3)
    [answer] = StampReflector(terms(clock)).batch_received([datagram])
    assert decode_tlvs(answer.payload[44:]) == [
        StampTlv(TlvType.TIMESTAMP_INFORMATION, TimestampInformation(0, 2, 0, 2).encode(), 0),
        StampTlv(TlvType.CLASS_OF_SERVICE, ClassOfService(46, 10, 3).encode(), 0),
        StampTlv(TlvType.REFLECTED_TEST_PACKET_CONTROL, bytes(12), 0x80),
        StampTlv(TlvType.EXTRA_PADDING, b"padding", 0),
    ]
    assert answer.traffic_class == 46 << 2


@pytest.mark.parametrize(
    ("state", "source"),
    [(None, 0), (ClockState(True, 0.001), 0), (ClockState(False, math.inf), 5)],
    ids=["unknown", "synchronized", "free-running"],
)
def test_a_clock_is_called_free_running_only_if_the_system_tells_so(
    clock: Clock, state: ClockState | None, source: int
) -> None:
    reflector = StampReflector(terms(clock), clock_state=lambda: state)
    tlvs = encode_tlvs([StampTlv(TlvType.TIMESTAMP_INFORMATION, bytes(4))])
    [answer] = answers_to(reflector, question(tlvs=tlvs))
    assert decode_tlvs(answer.tlvs)[0].value == TimestampInformation(source, 2, source, 2).encode()


def test_a_session_is_forgotten_a_second_after_its_end_at_most(clock: Clock) -> None:
    sessions = StampSessions[SessionKey](100)
    reflector = StampReflector(terms(clock), sessions=sessions)
    answers_to(reflector, question(ssid=1), question(ssid=2), question(ssid=2))
    clock.advance(901)
    answers_to(reflector, question(ssid=3))
    assert len(sessions) == 1


def test_nothing_is_claimed_about_a_clock_that_the_system_does_not_keep(clock: Clock) -> None:
    [answer] = answers_to(StampReflector(terms(clock)), question())
    assert not answer.error_estimate.synchronized
    assert answer.error_estimate.error > 1e9


def test_the_state_of_the_clock_is_asked_for_once_a_second(clock: Clock) -> None:
    states = iter([ClockState(False, math.inf), ClockState(True, 0.001)])
    reflector = StampReflector(terms(clock), clock_state=lambda: next(states))
    for seconds, synchronized in ((0, False), (0.9, False), (0.2, True)):
        clock.advance(seconds)
        [answer] = answers_to(reflector, question())
        assert answer.error_estimate.synchronized is synchronized


@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
def test_an_answer_that_comes_back_is_not_answered(clock: Clock, key: bytes | None) -> None:
    service = terms(clock)
    reflector = StampReflector(service, keys=None if key is None else StampKeys({}, KEY))
    [answer] = answers_to(reflector, question(key=key), key=key)
    assert answers_to(reflector, encode_answer(answer, key), key=key) == []
    assert service.counters.refused == {Cause.OWN_REPLY: 1}


@pytest.mark.parametrize(
    ("packet", "cause"),
    [
        (question(key=KEY[1:]), Cause.STAMP_HMAC),
        (question(ssid=9, key=KEY), Cause.STAMP_HMAC),
        (question(), Cause.STAMP_HMAC),
        (question()[:14], Cause.STAMP_HMAC),
        (question(key=KEY)[:111], Cause.STAMP_HMAC),
        (question(key=KEY)[:13], Cause.STAMP_INVALID),
        (question().ljust(112, b"\0"), Cause.STAMP_HMAC),
    ],
    ids=["a wrong key", "an unknown SSID", "unauthenticated", "TWAMP-light", "too short", "no packet", "no HMAC"],
)
def test_with_keys_only_authenticated_questions_are_answered(clock: Clock, packet: bytes, cause: Cause) -> None:
    service = terms(clock)
    reflector = StampReflector(service, keys=StampKeys({7: KEY}))
    assert answers_to(reflector, packet) == []
    assert service.counters.refused == {cause: 1}


def test_authenticated_answers_are_counted_for_each_session(clock: Clock) -> None:
    reflector = stateful(terms(clock), keys=StampKeys({}, KEY))
    numbers = [question(5, key=KEY), question(8, key=KEY), question(9, ssid=8, key=KEY), question(8, key=KEY)]
    assert [answer.sequence for answer in answers_to(reflector, *numbers, key=KEY)] == [0, 1, 0, 2]
    others = [
        Datagram(question(key=KEY), ("192.0.2.1", 40_001)),
        Datagram(question(key=KEY), PEER, b"\x7f\0\0\2"),
    ]
    assert [int.from_bytes(answer.payload[:4]) for answer in reflector.batch_received(others)] == [0, 0]


def test_each_session_has_the_key_of_its_ssid(clock: Clock) -> None:
    keys = {7: KEY, 8: KEY[::-1]}
    reflector = StampReflector(terms(clock), keys=StampKeys(keys))
    for ssid, key in keys.items():
        [answer] = answers_to(reflector, question(ssid=ssid, key=key), key=key)
        assert answer.ssid == ssid


@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
def test_an_answer_leaves_from_the_address_that_was_asked(clock: Clock, key: bytes | None) -> None:
    reflector = StampReflector(terms(clock), keys=None if key is None else StampKeys({}, key))
    asked = b"\x7f\0\0\2"
    [answer] = reflector.batch_received([Datagram(question(key=key), PEER, asked, asked)])
    assert (answer.peer, answer.local) == (PEER, asked)


@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
def test_times_that_the_system_does_not_tell_are_read_from_the_clock(clock: Clock, key: bytes | None) -> None:
    reflector = StampReflector(terms(clock), keys=None if key is None else StampKeys({}, key))
    [reply] = reflector.batch_received([Datagram(question(key=key), PEER)])
    answer = decode_answer(reply.payload, near=NANOSECONDS, key=key)
    assert (answer.receive_time, answer.transmit_time, answer.sender_ttl) == (NANOSECONDS, NANOSECONDS, 255)


def test_the_tlvs_of_an_authenticated_question_are_verified_filled_in_and_signed(clock: Clock) -> None:
    asked = encode_tlvs([StampTlv(TlvType.CLASS_OF_SERVICE, ClassOfService(46).encode())])
    reflector = stateful(terms(clock), keys=StampKeys({7: KEY}))
    datagram = Datagram(question(9, tlvs=sign_tlvs(asked, 9, KEY), key=KEY), PEER, traffic_class=10 << 2 | 3)
    [reply] = reflector.batch_received([datagram])
    answer = decode_answer(reply.payload, near=NANOSECONDS, key=KEY)
    [class_of_service, signature] = decode_tlvs(answer.tlvs)
    assert class_of_service == StampTlv(TlvType.CLASS_OF_SERVICE, ClassOfService(46, 10, 3).encode(), 0)
    assert (signature.type, signature.flags) == (TlvType.HMAC, 0)
    assert tlvs_are_genuine(answer.tlvs, 0, KEY)  # 0: the number of the answer
    assert reply.traffic_class == 46 << 2


@pytest.mark.parametrize("tlvs", [b"\x80\4\0\4" + bytes(4), sign_tlvs(b"", 8, KEY)], ids=["unsigned", "wrong"])
def test_unsigned_tlvs_of_an_authenticated_question_have_no_effect(clock: Clock, tlvs: bytes) -> None:
    reflector = StampReflector(terms(clock), keys=StampKeys({7: KEY}))
    datagram = Datagram(question(9, tlvs=tlvs, key=KEY), PEER, traffic_class=10 << 2)
    [reply] = reflector.batch_received([datagram])
    [tlv] = decode_tlvs(decode_answer(reply.payload, near=NANOSECONDS, key=KEY).tlvs)
    assert tlv.flags & INTEGRITY_FAILED
    assert tlv.value == tlvs[4:]
    assert reply.traffic_class is None


def test_bytes_and_answers_are_counted(clock: Clock) -> None:
    service = terms(clock)
    reflector = StampReflector(service)
    list(
        reflector.batch_received(
            [Datagram(question()[:20], PEER), Datagram(bytes(3), PEER), Datagram(question(), PEER)]
        )
    )
    counters = service.counters
    assert (counters.received_bytes, counters.replies, counters.sent_bytes) == (20 + 3 + 44, 2, 88)


def test_a_question_from_the_port_of_a_reflector_is_answered_to_trusted_networks_only(clock: Clock) -> None:
    service = terms(clock)
    guard = DatagramGuard(from_services=NetworkRules(["192.0.2.0/24"]))
    batch = [Datagram(question(), (host, 862)) for host in ("192.0.2.1", "198.51.100.1")]
    answers = list(StampReflector(service, guard).batch_received(batch))
    assert [answer.peer for answer in answers] == [("192.0.2.1", 862)]
    assert service.counters.refused == {Cause.PRIVILEGED_PORT: 1}


# The settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stamp_keys": "keys.txt"}, "--stamp-keys keys.txt: STAMP is not served; add --stamp"),
        ({"stamp_from": ["192.0.2.0/24"]}, "--stamp-from 192.0.2.0/24: STAMP is not served; add --stamp"),
        ({"stamp": ["862"], "stamp_from": ["x"]}, "--stamp-from x: neither a network nor an address"),
        (
            {"stamp": ["862"], "stamp_sessions": -1},
            "--stamp-sessions -1: out of range; give a whole number from 0, which means a stateless reflector",
        ),
    ],
)
def test_a_setting_without_a_meaning_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as e:
        Config(**settings)  # type: ignore[arg-type]
    assert str(e.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or directory"),
        (b"\xff", "the file is not ASCII"),
        (b"7 00", "keys, line 1: the key has 1 octets, fewer than 16"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_refused(
    network: Network, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as e:
        netsvc_service(network.host("server", "10.0.0.1").reactor, Config(stamp=["862"], stamp_keys=str(file)))
    assert message in str(e.value)
    assert "--stamp-keys" in str(e.value)


def test_the_flags_build_the_reflector(network: Network, tmp_path: Path) -> None:
    server, client = network.host("server", "10.0.0.1"), network.host("client", "10.0.0.2")
    keys = tmp_path / "keys"
    keys.write_text(f"7 {KEY.hex()}\n")
    config = Config(stamp=["862", "8620"], stamp_keys=str(keys), stamp_sessions=0, stamp_from=["10.0.0.2"])
    netsvc_service(server.reactor, config).startService()
    for port in (862, 8620):
        asking = client.reactor.open_udp_socket("10.0.0.2", 862, 1_500)
        for number in (3, 9):
            asking.send_batch([Datagram(question(number, key=KEY), ("10.0.0.1", port))])
        network.settle()
        found = [decode_answer(answer.payload, near=NANOSECONDS, key=KEY) for answer in asking.receive_batch(9)]
        assert [answer.sequence for answer in found] == [3, 9]  # stateless
        assert found[0].sender_ttl == 64
        asking.close()


@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
def test_each_port_of_the_reflector_has_its_own_sessions(network: Network, tmp_path: Path, key: bytes | None) -> None:
    server, client = network.host("server", "10.0.0.1"), network.host("client", "10.0.0.2")
    keys = tmp_path / "keys"
    keys.write_text(f"7 {KEY.hex()}\n")
    config = Config(stamp=["10.0.0.1:862", "10.0.0.1:8620"], stamp_keys=None if key is None else str(keys))
    netsvc_service(server.reactor, config).startService()
    asking = client.reactor.open_udp_socket("10.0.0.2", 40_000, 1_500)
    for port in (862, 862, 8620, 862):
        asking.send_batch([Datagram(question(key=key), ("10.0.0.1", port))])
    network.settle()
    found = [(answer.peer[1], answer.payload) for answer in asking.receive_batch(9)]
    sequences = [(port, decode_answer(payload, near=NANOSECONDS, key=key).sequence) for port, payload in found]
    assert sorted(sequences) == [(862, 0), (862, 1), (862, 2), (8620, 0)]
    asking.close()


# Real sockets

_IP_RECVTOS = 13  # of <linux/in.h>; Python 3.11 does not name it

IPV4 = (socket.IPPROTO_IP, socket.IP_TOS, _IP_RECVTOS)
IPV6 = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_RECVTCLASS)


@linux
@pytest.mark.parametrize(
    ("host", "options", "ttl"), [("127.0.0.1", IPV4, 9), ("127.0.0.77", IPV4, 9), ("::1", IPV6, 64)]
)
def test_a_real_answer_leaves_from_the_address_that_was_asked_with_the_traffic_class_that_was_asked_for(
    host: str, options: tuple[int, int, int], ttl: int
) -> None:
    level, send, receive = options
    tlvs = encode_tlvs([StampTlv(TlvType.CLASS_OF_SERVICE, ClassOfService(46).encode())])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with serving("--stamp=0") as (_, [port]), socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.setsockopt(level, send, 10 << 2 | 1)
        client.setsockopt(level, receive, 1)
        if family == socket.AF_INET:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        client.connect((host, port))  # the system drops what comes from another address
        before = time.clock_gettime_ns(time.CLOCK_REALTIME)
        client.send(question(4, tlvs=tlvs))
        payload, [ancillary], _, _ = client.recvmsg(1_500, 64)
        after = time.clock_gettime_ns(time.CLOCK_REALTIME)
    answer = decode_answer(payload, near=before)
    assert before <= answer.receive_time < answer.transmit_time <= after
    assert (answer.sender_sequence, answer.sender_ttl) == (4, ttl)
    assert decode_tlvs(answer.tlvs) == [StampTlv(TlvType.CLASS_OF_SERVICE, ClassOfService(46, 10, 1).encode(), 0)]
    assert ancillary[2][0] == 46 << 2


@linux
def test_a_real_broadcast_question_is_not_answered() -> None:
    with serving("--stamp=0") as (_, [port]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(question(1), ("127.255.255.255", port))
        client.sendto(question(2), ("127.0.0.1", port))
        assert decode_answer(client.recv(1_500), near=NANOSECONDS).sender_sequence == 2


@pytest.fixture(scope="module")
def scapy() -> Any:
    """The codec of scapy. Its import warns of libraries that change, which is no concern of these tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
        return importlib.import_module("scapy.contrib.stamp")


@pytest.mark.parametrize("ptp", [0, 1])
def test_scapy_understands_an_answer_to_its_own_question(scapy: Any, ptp: int) -> None:
    estimate = scapy.ErrorEstimate(S=1, Z=ptp, scale=20, multiplier=3)
    tlv = scapy.STAMPTestTLV(flags=0x80, type=1, len=8, value=b"scapy's!")
    packet = scapy.STAMPSessionSenderTestUnauthenticated(
        seq=77, ts=1_234.5, err_estimate=estimate, ssid=513, tlv_objects=[tlv]
    )
    with serving("--stamp=0") as (_, [port]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", port))
        client.send(b"abc")  # ended the public Python responder (twampy); it is counted here
        sent = bytes(packet)
        client.send(sent)
        received = client.recv(1_500)
    answer = scapy.STAMPSessionReflectorTestUnauthenticated(received)
    assert bytes(answer) == received
    assert (answer.seq, answer.seq_sender, answer.ssid) == (0, 77, 513)
    assert received[24:38] == sent[:14]  # its number, time and error estimate
    assert int(answer.err_estimate.Z) == ptp
    assert answer.err_estimate.multiplier > 0
    # It leaves the times of PTP as 32 bits of seconds and 32 bits of nanoseconds.
    assert 0 < answer.ts - answer.ts_rx < (SECONDS if not ptp else int(SECONDS) << 32)
    assert (answer.ttl_sender, answer.mbz1, answer.mbz2) == (64, 0, 0)
    [reflected] = answer.tlv_objects
    assert (int(reflected.flags), reflected.type, bytes(reflected.value)) == (0, 1, b"scapy's!")


@linux
def test_real_authenticated_questions_are_answered_by_the_keys_of_the_file(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# two sessions\n7 {KEY.hex()}\n* {KEY[::-1].hex()}\n")
    serve = serving("--stamp=0", f"--stamp-keys={keys}")
    with serve as (_, [port]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", port))
        for ssid, key in ((7, KEY), (8, KEY[::-1])):
            client.send(question(1, ssid=ssid, key=KEY[1:]))  # not answered
            client.send(question(2, ssid=ssid, key=key))
            received = client.recv(1_500)
            assert len(received) == 112
            assert decode_answer(received, near=NANOSECONDS, key=key).sender_sequence == 2
