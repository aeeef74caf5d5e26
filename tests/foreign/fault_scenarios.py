"""Clients of protocols and libraries that netsvc did not write. Each waits for a result: scenarios for faults.

``python -m tests.foreign.faults`` searches all of them, and ``python -m netsvc.testing sweep FILE::NAME`` one. They
need the libraries of the extra ``dev``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import klein
import treq
import trustme
import txredisapi
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import Portal
from twisted.internet import reactor as global_reactor  # noqa: TID251  as programs import it
from twisted.internet import ssl
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.mail import smtp
from twisted.names import client as names_client
from twisted.names import dns
from twisted.protocols import amp
from twisted.python.failure import Failure
from twisted.spread import pb
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.words.protocols.jabber import xmlstream
from zope.interface import implementer

from examples.sweep_twisted import ssh_command, websocket
from netsvc.testing import Host, Network
from netsvc.testing.scenario_run import Scenario
from tests.global_reactor.test_libraries import Redis
from tests.global_reactor.test_programs import Adder, NameServer, Realm, Sum
from tests.global_reactor.test_protocols_with_extras import http2_client

T = TypeVar("T")

reactor: Any = global_reactor


def hosts(network: Network, listen: Callable[[], object]) -> tuple[Host, Host]:
    """Return a server whose ports are opened at each start, and a client."""
    server, client = network.host("server"), network.host("client")
    network.links().set(latency=0.01)
    server.on_start(lambda _reactor: listen())
    return server, client


class Echoing(Resource):
    """Sends back the body of a request."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        return bytes(request.content.read())


async def web(network: Network) -> None:
    """``twisted.web``: two requests by one connection of a pool."""
    _, client = hosts(network, lambda: reactor.listenTCP(80, Site(Echoing())))
    with client:
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor))
    for _ in range(2):
        with client:
            asked = agent.request(b"POST", b"http://server/", bodyProducer=FileBodyProducer(io.BytesIO(b"x" * 20_000)))
        response = await asked
        with client:
            body = readBody(response)
        assert len(await body) == 20_000


_authority = trustme.CA()
_pem = _authority.issue_cert("server", key_type=trustme.KeyType.RSA).private_key_and_cert_chain_pem.bytes()
_certificate: Any = ssl.PrivateCertificate.loadPEM(_pem)
_trust = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(_authority.cert_pem.bytes())])


class Here(Resource):
    """Answers with one word."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"here"


async def http2(network: Network) -> None:
    """``twisted.web`` with HTTP/2: the server; the client is twenty lines around h2."""
    _, client = hosts(network, lambda: reactor.listenSSL(443, Site(Here(), timeout=60), _certificate.options()))
    ended: Deferred[float] = Deferred()
    protocol = http2_client(ended, network)
    with client:
        options = ssl.optionsForClientTLS("server", _trust, acceptableProtocols=[b"h2"])
        connecting = connectProtocol(wrapClientTLS(options, HostnameEndpoint(reactor, "server", 443)), protocol)
    await connecting
    with client:
        answer = protocol.get("/")
    await DeferredList([answer, ended], fireOnOneCallback=True)


async def names(network: Network) -> None:
    """``twisted.names``: a long answer, first by UDP and then by TCP."""
    texts = [bytes([letter]) * 250 for letter in b"abcd"]

    class Zone:
        def query(self, query: Any, timeout: Any = None) -> Deferred[Any]:
            record = dns.RRHeader(query.name.name, dns.TXT, payload=dns.Record_TXT(*texts))
            return succeed(([record], [], []))

    def listen() -> None:
        answers = NameServer(clients=[Zone()])
        reactor.listenUDP(53, dns.DNSDatagramProtocol(answers))
        reactor.listenTCP(53, answers)

    server, client = hosts(network, listen)
    with client:
        asked = names_client.Resolver(servers=[(server.address, 53)]).lookupText("www.example.net")
    [answer], _, _ = await asked
    assert answer.payload.data == texts


@implementer(smtp.IMessage)
class Stored:
    """A message that is kept."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    def lineReceived(self, line: bytes) -> None:
        self._lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        return succeed(None)

    def connectionLost(self) -> None:
        """Forget the message."""


@implementer(smtp.IMessageDelivery)
class Delivery:
    """Takes all messages."""

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b"Received: here"

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Any:
        return lambda: Stored([])


async def mail(network: Network) -> None:
    """``twisted.mail``: send a message by SMTP."""

    def listen() -> None:
        def build() -> Any:
            protocol = smtp.ESMTP()
            protocol.delivery = Delivery()
            return protocol

        reactor.listenTCP(25, Factory.forProtocol(build))

    _, client = hosts(network, listen)
    with client:
        sent = smtp.sendmail("server", b"a@example.org", [b"b@example.org"], b"Subject: x\n\nhello", reactor=reactor)
    await sent


async def words(network: Network) -> None:
    """``twisted.words``: an XMPP client asks by an IQ stanza; it has a timeout only if it is given one."""

    class Server(xmlstream.ListenAuthenticator):
        xmlstream: Any
        namespace = "jabber:client"

        def streamStarted(self, rootElement: Any) -> None:
            super().streamStarted(rootElement)
            self.xmlstream.sendHeader()
            self.xmlstream.addObserver("/iq", self.answer)

        def answer(self, stanza: Any) -> None:
            self.xmlstream.send(xmlstream.toResponse(stanza, "result"))

    class Client(xmlstream.ConnectAuthenticator):
        namespace = "jabber:client"

        def associateWithStream(self, stream: Any) -> None:
            super().associateWithStream(stream)
            stream.addObserver(xmlstream.STREAM_START_EVENT, lambda _: fire(stream))
            stream.addObserver(xmlstream.STREAM_END_EVENT, fire)

    def fire(result: Any) -> None:
        if not started.called:
            started.callback(result)

    _, client = hosts(network, lambda: reactor.listenTCP(5222, xmlstream.XmlStreamServerFactory(Server)))
    started: Deferred[Any] = Deferred()
    with client:
        factory: Any = xmlstream.XmlStreamFactory(Client("server"))
        factory.maxRetries = 0
        connecting = HostnameEndpoint(reactor, "server", 5222).connect(factory)
    await connecting
    stream = await started
    if isinstance(stream, Failure):
        stream.raiseException()
    with client:
        asked: Any = xmlstream.IQ(stream, "get").send("server")
    await asked


async def amp_calls(network: Network) -> None:
    """``twisted.protocols.amp``: two commands that take 3 s each."""
    _, client = hosts(network, lambda: reactor.listenTCP(1234, Factory.forProtocol(Adder)))
    with client:
        connecting = connectProtocol(HostnameEndpoint(reactor, "server", 1234), amp.AMP())
    asker = await connecting
    for _ in range(2):
        with client:
            asked = asker.callRemote(Sum, numbers=[1, 2])
        assert (await asked) == {"total": 3}


async def perspective_broker(network: Network) -> None:
    """``twisted.spread.pb``: log in, and call a method."""
    checker = InMemoryUsernamePasswordDatabaseDontUse(user=b"password")
    _, client = hosts(network, lambda: reactor.listenTCP(8787, pb.PBServerFactory(Portal(Realm(), [checker]))))
    factory: Any = pb.PBClientFactory()
    with client:
        reactor.connectTCP("server", 8787, factory)
        logging_in = factory.login(UsernamePassword(b"user", b"password"), None)
    accounts = await logging_in
    with client:
        asked = accounts.callRemote("add", 1, 2)
    assert (await asked) == 3


async def redis(network: Network) -> None:
    """txredisapi: a connection that connects again by itself."""
    values: dict[bytes, bytes] = {}
    _, client = hosts(network, lambda: reactor.listenTCP(6379, Factory.forProtocol(lambda: Redis(values))))
    with client:
        connecting = txredisapi.Connection("server", dbid=1)
    connection = await connecting
    for _ in range(2):
        with client:
            asked = connection.set("visits", "41")
        await asked
        with client:
            asked = connection.get("visits")
        assert str(await asked) == "41"
    with client:
        ended = connection.disconnect()
    await ended


async def klein_and_treq(network: Network) -> None:
    """klein and treq: two requests with JSON."""
    app: Any = klein.Klein()

    @app.route("/orders", methods=["POST"])
    def order(request: Any) -> bytes:
        request.setHeader("Content-Type", "application/json")
        return json.dumps({"item": json.load(request.content)["item"]}).encode()

    _, client = hosts(network, lambda: reactor.listenTCP(80, Site(app.resource())))
    for _ in range(2):
        with client:
            asked = Deferred.fromCoroutine(_post())
        assert (await asked) == {"item": "tea"}


async def _post() -> Any:
    response = await treq.post("http://server/orders", json={"item": "tea"})
    return await response.json()


SCENARIOS: Sequence[Scenario] = (
    *(web, http2, ssh_command, names, mail, words, websocket, amp_calls, redis, klein_and_treq, perspective_broker),
)
