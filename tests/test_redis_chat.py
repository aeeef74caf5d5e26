"""The settings of a chat on Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from zope.interface import implementer

from netsvc.chat.names import ASCII_NAMES
from netsvc.errors import ConfigError
from netsvc.server.assembly import netsvc_service
from netsvc.server.config import Config
from netsvc.server.redis_chat import redis_chat
from netsvc.testing import Network
from tests.connections import terms
from tests.redis_nodes import REDIS, SimulatedRedisHost


def build(environment: dict[str, str] | None = None, **settings: Any) -> None:
    config = Config(chat=["1400"], **{"chat_store": "redis://127.0.0.1/0", **settings})
    address = config.chat_redis
    assert address is not None
    redis_chat(terms(Clock()), config, ASCII_NAMES, address, environment or {})


@pytest.mark.parametrize("text", ["secret", "user:secret\n", ":a:b"])
def test_credentials_come_from_a_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "credentials"
    file.write_text(text)
    build(chat_store_credentials=str(file))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file or directory; name a file that can be read"),
        (b"", "the credentials file contains no password; write one line, password or username:password"),
        (b"\xff", "the file is not UTF-8; write one line, the password or USER:PASSWORD"),
    ],
)
def test_a_credentials_file_without_a_password_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "credentials"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as refusal:
        build(chat_store_credentials=str(file))
    assert str(refusal.value).startswith("--chat-store-credentials")
    assert str(refusal.value).endswith(problem)


def test_a_user_without_a_password_in_the_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no password for this user"):
        build({"NETSVC_REDIS_USERNAME": "ann"})
    build({"NETSVC_REDIS_USERNAME": "ann", "NETSVC_REDIS_PASSWORD": "secret"})


def test_the_authorities_of_a_connection_with_tls_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    build(chat_store="rediss://127.0.0.1", chat_store_ca=str(file))
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match="no PEM certificate"):
        build(chat_store="rediss://127.0.0.1", chat_store_ca=str(file))
    with pytest.raises(ConfigError, match="no such file"):
        build(chat_store="rediss://127.0.0.1", chat_store_ca=str(tmp_path / "none"))


@implementer(IHandshakeListener)
class Handshakes(Protocol):
    """The connection of a server that takes note of a client that accepts its certificate."""

    def __init__(self, accepted: list[Protocol]) -> None:
        self.accepted = accepted

    def handshakeCompleted(self) -> None:
        self.accepted.append(self)


def test_all_authorities_of_a_file_are_trusted(tmp_path: Path) -> None:
    authorities = [trustme.CA(), trustme.CA()]
    server = authorities[1].issue_cert("10.0.0.9")
    network = Network()
    redis, node = network.host("redis", "10.0.0.9"), network.host("node")
    accepted: list[Protocol] = []
    certificate = PrivateCertificate.loadPEM(server.private_key_and_cert_chain_pem.bytes())
    redis.reactor.listenSSL(6379, Factory.forProtocol(lambda: Handshakes(accepted)), certificate.options())
    file = tmp_path / "ca.pem"
    file.write_bytes(b"".join(each.cert_pem.bytes() for each in authorities))
    config = Config(chat=["1400"], chat_store="rediss://10.0.0.9", chat_store_ca=str(file))
    assert config.chat_redis is not None
    store, _ = redis_chat(terms(node.reactor), config, ASCII_NAMES, config.chat_redis, {})
    store.open(_ignore, _ignore)
    network.advance(1.0)
    assert len(accepted) == 2
    network.run(store.close())


def _ignore(_event: object) -> None:
    """Do nothing with what a store delivers."""


def test_a_server_is_ready_once_the_store_is_connected_and_counts_what_the_store_does() -> None:
    network = Network()
    redis = SimulatedRedisHost(network)
    host = network.host("server")
    config = Config(chat=["1400"], chat_store=f"redis://{REDIS[0]}:{REDIS[1]}")
    service = netsvc_service(host.reactor, config)
    service.startService()
    assert not service.is_ready()
    network.advance(1.0)
    assert service.is_ready()
    [counters] = service.counters
    assert counters.store is not None
    assert counters.store.connections == 1
    redis.server.kill()
    network.advance(1.0)
    assert not service.is_ready()
    redis.server.start()
    network.advance(1.0)
    assert service.is_ready()
    network.run(service.stopService())
