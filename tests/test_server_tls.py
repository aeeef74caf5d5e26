"""The certificate that ServerTLS serves with, seen by Python's own TLS, in memory."""

from __future__ import annotations

import os
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from netsvc.chat.lines import ChatFactory
from netsvc.echo.server import EchoFactory
from netsvc.limits.admission import Admission
from netsvc.limits.networks import NetworkRules
from netsvc.net.server_tls import CertificateError, ServerTLS
from tests.connections import connect, lose, terms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def path(tmp_path: Path, authority: trustme.CA) -> Path:
    path = tmp_path / "server.pem"
    write(path, authority)
    return path


def write(path: Path, authority: trustme.CA, name: str = "localhost") -> None:
    """Replace a file as a renewal does: at once, and by another one."""
    new = path.with_suffix(".new")
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(new))
    os.replace(new, path)


def handshake(tls: ServerTLS, clock: Clock, context: ssl.SSLContext) -> dict[str, Any]:
    """Do a handshake in memory, exchange an echo, and return the server's certificate."""
    server: Any = tls.wrap(EchoFactory(terms(clock))).buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000))
    transport = StringTransport()
    server.makeConnection(transport)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def exchange() -> None:
        server.dataReceived(outgoing.read())
        clock.advance(0)
        incoming.write(transport.value())
        transport.clear()

    for step in (client.do_handshake, lambda: client.write(b"hello"), lambda: client.read(5)):
        for _ in range(5):
            try:
                step()
                break
            except ssl.SSLWantReadError:
                exchange()
        else:
            raise AssertionError("the server says nothing")
    certificate: Any = client.getpeercert()
    server.connectionLost(ssl.SSLError())
    return dict(certificate)


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_client_that_offers_protocols_by_alpn_is_accepted_without_one(
    clock: Clock, authority: trustme.CA, path: Path
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])  # as browsers and curl do
    assert handshake(ServerTLS(clock, str(path)), clock, context)


def test_a_client_gets_the_certificate_and_its_echo(clock: Clock, authority: trustme.CA, path: Path) -> None:
    certificate = handshake(ServerTLS(clock, str(path)), clock, trusting(authority))
    assert ("DNS", "localhost") in certificate["subjectAltName"]


def test_a_renewed_certificate_is_used_without_a_restart(clock: Clock, authority: trustme.CA, path: Path) -> None:
    tls = ServerTLS(clock, str(path))
    first = handshake(tls, clock, trusting(authority))
    write(path, authority)
    assert handshake(tls, clock, trusting(authority)) == first  # the files are checked once a second
    clock.advance(1)
    assert handshake(tls, clock, trusting(authority))["serialNumber"] != first["serialNumber"]


def test_the_previous_certificate_stays_if_the_new_file_cannot_be_used(
    clock: Clock, authority: trustme.CA, path: Path
) -> None:
    tls = ServerTLS(clock, str(path))
    first = handshake(tls, clock, trusting(authority))
    path.write_bytes(path.read_bytes()[:700])
    clock.advance(1)
    assert handshake(tls, clock, trusting(authority)) == first
    path.unlink()
    tls.reload()
    assert handshake(tls, clock, trusting(authority)) == first
    write(path, authority)
    tls.reload()
    assert handshake(tls, clock, trusting(authority)) != first


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_12_and_13_are_accepted(clock: Clock, authority: trustme.CA, path: Path, version: ssl.TLSVersion) -> None:
    context = trusting(authority)
    context.minimum_version = context.maximum_version = version
    handshake(ServerTLS(clock, str(path)), clock, context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_are_refused(clock: Clock, authority: trustme.CA, path: Path) -> None:
    context = trusting(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, AssertionError)):
        handshake(ServerTLS(clock, str(path)), clock, context)


def test_with_a_client_ca_only_its_clients_are_accepted(
    clock: Clock, authority: trustme.CA, path: Path, tmp_path: Path
) -> None:
    clients, strangers = trustme.CA(), trustme.CA()
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    tls = ServerTLS(clock, str(path), client_ca=str(tmp_path / "clients.pem"))
    good, bad, none = trusting(authority), trusting(authority), trusting(authority)
    clients.issue_cert("ann").configure_cert(good)
    strangers.issue_cert("eve").configure_cert(bad)
    handshake(tls, clock, good)
    for context in (bad, none):
        with pytest.raises((ssl.SSLError, AssertionError)):
            handshake(tls, clock, context)


def test_the_key_may_be_in_a_file_of_its_own(clock: Clock, authority: trustme.CA, tmp_path: Path) -> None:
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(str(key))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(certificate), append=True)
    handshake(ServerTLS(clock, str(certificate), str(key)), clock, trusting(authority))


def test_the_error_says_why_a_file_cannot_be_used(
    clock: Clock, authority: trustme.CA, path: Path, tmp_path: Path
) -> None:
    other, empty = tmp_path / "other.pem", tmp_path / "empty.pem"
    write(other, authority)
    empty.touch()
    fifo, long = tmp_path / "fifo", tmp_path / "long"
    os.mkfifo(fifo)
    long.write_bytes(path.read_bytes() * 2000)
    for files, problem in [
        ((path, tmp_path / "missing"), "cannot be read: no such file or directory"),
        ((tmp_path, ""), "cannot be read: is a directory"),
        ((empty, path), "no PEM certificate"),
        ((path, empty), "no PEM key without a passphrase"),
        ((path, other), f"the key does not belong to the certificate in {path}"),
        ((path, path, empty), "no PEM certificate"),
        ((fifo, ""), "not a regular file"),
        (("/dev/zero", ""), "not a regular file"),
        ((long, ""), "longer than 1 MiB"),
    ]:
        with pytest.raises(CertificateError) as refusal:
            ServerTLS(clock, *map(str, files))
        assert str(refusal.value) == problem


@pytest.mark.parametrize("draining", [False, True])
def test_a_refused_peer_gets_no_tls_handshake(clock: Clock, path: Path, draining: bool) -> None:
    rules = NetworkRules(deny=[] if draining else ["192.0.2.1"])
    echo = EchoFactory(terms(clock, Admission(networks=rules)))
    secured = ServerTLS(clock, str(path)).wrap(echo)
    if draining:
        connected, _ = connect(echo)
        echo.drain(0)
    assert secured.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000)) is None
    if draining:
        lose(connected)


def test_a_peer_that_closes_tls_after_its_lines_says_no_more_than_others(
    clock: Clock, authority: trustme.CA, path: Path
) -> None:
    chat = ChatFactory(terms(clock))
    listener, to_listener = connect(chat)
    server: Any = ServerTLS(clock, str(path)).wrap(chat).buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000))
    transport = StringTransport()
    server.makeConnection(transport)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
    for _ in range(4):
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        if outgoing.pending:
            server.dataReceived(outgoing.read())
        clock.advance(0)
        incoming.write(transport.value())
        transport.clear()
    client.write(b"a\n" * 8_000)
    with suppress(ssl.SSLError):
        client.unwrap()
    server.dataReceived(outgoing.read())
    server.connectionLost(Failure(ConnectionDone()))
    clock.advance(0)
    assert to_listener.value().count(b"> a\n") <= 2
    lose(listener)


def write_expiring(path: Path, authority: trustme.CA, expires: datetime) -> float:
    """Write a certificate that expires at this time. Return the time in seconds since the epoch."""
    issued = authority.issue_cert("localhost", not_after=expires)
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return expires.timestamp()


EXPIRES = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_an_expired_certificate_is_refused(clock: Clock, authority: trustme.CA, path: Path) -> None:
    clock.rightNow = write_expiring(path, authority, EXPIRES)
    with pytest.raises(CertificateError, match=r"^the certificate expired on 2030-01-02$") as refusal:
        ServerTLS(clock, str(path))
    assert refusal.value.remedy == "renew it"
    clock.rightNow -= 1
    assert ServerTLS(clock, str(path)).expires == EXPIRES.timestamp()


def test_a_certificate_in_use_is_not_replaced_by_an_expired_one(
    clock: Clock, authority: trustme.CA, path: Path, tmp_path: Path
) -> None:
    expires = write_expiring(path, authority, EXPIRES)
    clock.rightNow = expires - 10
    tls = ServerTLS(clock, str(path))
    write_expiring(path, authority, EXPIRES - timedelta(days=1))
    tls.reload()
    assert tls.expires == expires
    path.unlink()
    os.mkfifo(path)
    tls.reload()
    assert tls.expires == expires


def test_many_beginnings_of_certificates_are_read_in_linear_time(
    clock: Clock, authority: trustme.CA, path: Path
) -> None:
    path.write_bytes(b"-----BEGIN CERTIFICATE-----" * 38_000)
    began = time.process_time()
    with pytest.raises(CertificateError, match="no PEM certificate"):
        ServerTLS(clock, str(path))
    assert time.process_time() - began < 1


def test_a_file_that_cannot_be_used_leaves_no_descriptor_open(clock: Clock, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        for path in (tmp_path, fifo):
            with pytest.raises(CertificateError):
                ServerTLS(clock, str(path))
    assert len(os.listdir("/dev/fd")) == before
