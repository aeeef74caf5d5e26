"""``netsvc talk``: a conversation, both directions at once, either side listening."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.python.usage import UsageError

from netsvc.cli.command import CONNECT_TIMEOUT, DEFAULT_HOST, Command, CommandError, Flow, explain
from netsvc.cli.console import Console, is_terminal, notice, opened
from netsvc.errors import ConfigError, ListenError
from netsvc.net.datagram_protocol import listen_for, resolve
from netsvc.net.listening import datagram_listener, stream_listener
from netsvc.talk import Conversation, DatagramConversation, SayError, TLSConversation
from netsvc.wire.address import HostPort, peer_text


class Talk(Command):
    """Talk with whoever listens at [HOST:]PORT, or wait there for somebody."""

    synopsis = "[options] [HOST:]PORT"
    longdesc = (
        "End of input ends the sending, not the receiving. A bye word, typed or received, in any case, ends both. "
        "Without --framing lines are spoken, until the other side sends a message without a line end."
    )
    optFlags = [  # noqa: RUF012  Twisted's own convention
        ["udp", "u", "datagrams, one for each message, instead of a stream"],
        [
            "listen",
            "l",
            "wait for somebody instead of calling; PORT alone listens on every address of this host",
        ],
        ["tls", None, "TLS, with the server's certificate and name verified"],
    ]
    optParameters = [  # noqa: RUF012
        ["ca", None, None, "PEM file of the authority to trust with --tls, instead of the system's"],
    ]
    where: HostPort
    _partner: Conversation | DatagramConversation

    def __init__(self) -> None:
        super().__init__()
        self["bye"] = []
        self["framing"] = None

    def opt_framing(self, framing: str) -> None:
        """line or raw (a message is what arrives together, and is sent without a line end)"""
        if framing not in ("line", "raw"):
            raise UsageError(f"--framing {framing}: there are line and raw")
        self["framing"] = framing

    def opt_bye(self, word: str) -> None:
        """a word that ends the conversation; may be repeated [default: bye]"""
        self["bye"].append(word)

    def parseArgs(self, where: str = "", *rest: str) -> None:
        if not where or rest:
            raise UsageError("one [HOST:]PORT is wanted")
        self["where"] = where

    def postOptions(self) -> None:
        self["bye"] = self["bye"] or ["bye"]
        if self["tls"] and (self["udp"] or self["listen"]):
            raise UsageError("--tls calls; it goes with neither --listen nor --udp")
        if self["ca"] and not self["tls"]:
            raise UsageError("--ca goes with --tls")
        if self["udp"] and self["framing"]:
            raise UsageError("--framing is for streams; a datagram is a message")
        # What --listen takes, the listener parses.
        self.where = HostPort(self["where"], 0) if self["listen"] else self.address(self["where"], DEFAULT_HOST)

    async def run(self, reactor: Any) -> None:
        self._late = self._unsent = 0  # lines that came after the end, and that could not be sent before
        console = Console(self._typed, self._input_ended)
        try:
            async with opened(reactor, console):
                console.pause()
                self._partner = await self._find_partner(reactor, console)
                console.unread.addCallback(lambda _: self._partner.hang_up())
                console.resume()
                await self._partner.ended
        except ConfigError as e:
            raise UsageError(str(e)) from None
        except ListenError as e:
            raise CommandError(str(e)) from None
        except Exception as e:
            raise CommandError(explain(e, self.where)) from None
        finally:
            if self._late:
                notice(f"not sent, because the conversation was over: {self._late:,} more line(s)")
        if self._late or self._unsent:
            raise CommandError  # each was said

    def _input_ended(self) -> None:
        self._partner.end()

    def _typed(self, line: bytes) -> None:
        if self._partner.over:
            self._late += 1
            return
        try:
            self._partner.say(line)
        except SayError as e:
            self._unsent += 1
            notice(f"not sent: {line.decode('utf-8', 'replace')[:64]}: {e}")

    async def _find_partner(self, reactor: Any, console: Console) -> Conversation | DatagramConversation:
        if self["udp"]:
            return await self._find_datagrams(reactor, console)
        kind = TLSConversation if self["tls"] else Conversation
        conversation = kind(reactor, console.show, notice, framing=self["framing"], bye=self["bye"], left=self._left)
        if self["listen"]:
            caller = _FirstCaller(conversation)
            where = await self.listening(reactor, self["where"])
            listener = stream_listener(reactor, "talk", where, caller)
            listener.startService()
            notice(f"waiting on {listener.where()}")
            await caller.came
            await listener.stopService()
        else:
            await connectProtocol(self._endpoint(reactor), conversation)
        await conversation.ready
        notice(f"talking to {peer_text(conversation.transport.getPeer())}")
        # Whichever side is slow, the other one waits.
        conversation.throttle(Flow(console.transport))
        console.throttle(Flow(conversation))
        return conversation

    async def _find_datagrams(self, reactor: Any, console: Console) -> DatagramConversation:
        if self["listen"]:
            conversation = DatagramConversation(reactor, console.show, notice, bye=self["bye"])
            console.throttle(Flow(conversation))
            where = await self.listening(reactor, self["where"])
            listener = datagram_listener(reactor, "talk", where, lambda: conversation)
            listener.startService()
            notice(f"waiting on {listener.where()}")
            return conversation
        address = (await resolve(reactor, self.where.host or ""))[0]
        conversation = DatagramConversation(
            reactor, console.show, notice, partner=(address, self.where.port), bye=self["bye"]
        )
        listen_for(reactor, conversation, address)
        console.throttle(Flow(conversation))
        return conversation

    def _endpoint(self, reactor: Any) -> IStreamClientEndpoint:
        host = self.where.host or ""
        endpoint = HostnameEndpoint(reactor, host, self.where.port, timeout=CONNECT_TIMEOUT)
        if not self["tls"]:
            return endpoint
        return wrapClientTLS(optionsForClientTLS(host, trustRoot=self._authority() or platformTrust()), endpoint)

    def _authority(self) -> Any:
        if not self["ca"]:
            return None
        try:
            pem = Path(self["ca"]).read_bytes()
            return trustRootFromCertificates([Certificate.loadPEM(pem)])
        except OSError as e:
            raise UsageError(f"--ca {self['ca']}: {(e.strerror or str(e)).lower()}") from None
        except crypto.Error:
            raise UsageError(f"--ca {self['ca']}: there is no PEM certificate in it") from None

    def _left(self) -> None:
        if is_terminal():
            notice("the other side has finished")
            self._partner.end()


class _FirstCaller(Factory):
    """Gives the first caller the conversation, and everybody else nothing."""

    noisy = False

    def __init__(self, conversation: Conversation) -> None:
        self._conversation: Conversation | None = conversation
        self.came: Deferred[None] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> Conversation | None:
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            self.came.callback(None)
        return conversation
