"""``netsvc talk``: a conversation in both directions at once, as the client or as the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from click import UsageError
from OpenSSL import crypto
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates

from netsvc.cli.command import CONNECT_TIMEOUT, DEFAULT_HOST, Command, CommandError, PausableSource, explain
from netsvc.cli.console import Console, excerpt, is_terminal, notice, standard_streams
from netsvc.cli.parameters import CONTEXT_SETTINGS, peer_argument, udp_option
from netsvc.errors import ConfigError, ListenError
from netsvc.net.datagram_protocol import listen_for
from netsvc.net.host_names import resolve
from netsvc.net.listening import datagram_listener, stream_listener
from netsvc.net.reactors import Reactor
from netsvc.talk.base_conversation import NotSentError
from netsvc.talk.datagram_conversation import DatagramConversation
from netsvc.talk.stream_conversation import Conversation, TLSConversation
from netsvc.wire.address import HostPort, format_peer


@dataclass
class Talk(Command):
    """A conversation: its address, and the values of the options."""

    where: str
    udp: bool
    listen: bool
    tls: bool
    ca: str | None
    framing: str | None
    bye: tuple[str, ...]

    _conversation: Conversation | DatagramConversation = field(init=False)

    def __post_init__(self) -> None:
        self.bye = self.bye or ("bye",)
        if self.tls and (self.udp or self.listen):
            raise UsageError(
                f"--tls cannot be combined with {'--udp' if self.udp else '--listen'}; leave out one of them"
            )
        if self.ca and not self.tls:
            raise UsageError("--ca has no effect without --tls; add --tls")
        if self.udp and self.framing:
            raise UsageError("--framing cannot be combined with --udp, because a datagram is a message; leave out one")
        # With --listen the listener parses the address, because it accepts other forms too.
        self._peer = HostPort(self.where, 0) if self.listen else self.peer_address(self.where, DEFAULT_HOST)

    async def run(self, reactor: Reactor) -> None:
        self._lines_after_end = self._lines_not_sent = 0
        console = Console(self._send_line, self._input_ended)
        try:
            async with standard_streams(reactor, console):
                console.pause_input()
                self._conversation = await self._begin(reactor, console)
                console.output_closed.addCallback(lambda _: self._conversation.abort())
                console.resume_input()
                await self._conversation.ended
        except ConfigError as e:
            raise UsageError(str(e)) from None
        except ListenError as e:
            raise CommandError(str(e)) from None
        except Exception as e:
            raise CommandError(explain(e, self._peer)) from None
        finally:
            if self._lines_after_end:
                lines = "1 line was" if self._lines_after_end == 1 else f"{self._lines_after_end:,} lines were"
                notice(f"{lines} not sent, because the conversation was over")
        if self._lines_after_end or self._lines_not_sent:
            raise CommandError

    def _input_ended(self) -> None:
        self._conversation.end()

    def _send_line(self, line: bytes) -> None:
        if self._conversation.sending_ended:
            self._lines_after_end += 1
            return
        try:
            self._conversation.send(line)
        except NotSentError as e:
            self._lines_not_sent += 1
            notice(f"not sent: {excerpt(line)}: {e}")

    async def _begin(self, reactor: Reactor, console: Console) -> Conversation | DatagramConversation:
        if self.udp:
            return await self._begin_datagrams(reactor, console)
        kind = TLSConversation if self.tls else Conversation
        conversation = kind(
            reactor,
            console.print_text,
            notice,
            framing=self.framing,
            bye=self.bye,
            peer_ended_input=self._peer_ended_input,
        )
        if self.listen:
            where = await self.listening_string(reactor, self.where)
            listener = stream_listener(reactor, "", where, _OneConnectionFactory(conversation))
            listener.startService()
            notice(f"waiting on {listener.where()}")
            await conversation.ready
            await listener.stopService()
        else:
            await connectProtocol(self._endpoint(reactor), conversation)
            await conversation.ready
        notice(f"talking to {format_peer(conversation.transport.getPeer())}")
        # Backpressure in both directions: the side that is slower pauses the other.
        conversation.register_producer(PausableSource(console.transport))
        console.register_producer(PausableSource(conversation))
        return conversation

    async def _begin_datagrams(self, reactor: Reactor, console: Console) -> DatagramConversation:
        if self.listen:
            conversation = DatagramConversation(reactor, console.print_text, notice, bye=self.bye)
            console.register_producer(PausableSource(conversation))
            where = await self.listening_string(reactor, self.where)
            listener = datagram_listener(reactor, "", where, lambda: conversation)
            listener.startService()
            notice(f"waiting on {listener.where()}")
            return conversation
        address = (await resolve(reactor, self._peer.host or ""))[0]
        conversation = DatagramConversation(
            reactor, console.print_text, notice, peer=(address, self._peer.port), bye=self.bye
        )
        listen_for(reactor, conversation, address)
        console.register_producer(PausableSource(conversation))
        return conversation

    def _endpoint(self, reactor: Reactor) -> IStreamClientEndpoint:
        host = self._peer.host or ""
        endpoint = HostnameEndpoint(reactor, host, self._peer.port, timeout=CONNECT_TIMEOUT)
        if not self.tls:
            return endpoint
        return wrapClientTLS(optionsForClientTLS(host, trustRoot=self._authority() or platformTrust()), endpoint)

    def _authority(self) -> Any:
        if not self.ca:
            return None
        try:
            pem = Path(self.ca).read_bytes()
            return trustRootFromCertificates([Certificate.loadPEM(pem)])
        except OSError as e:
            problem = (e.strerror or str(e)).lower()
            raise UsageError(f"--ca {self.ca}: {problem}; name a PEM file that can be read") from None
        except crypto.Error:
            raise UsageError(f"--ca {self.ca}: the file contains no PEM certificate; name one that does") from None

    def _peer_ended_input(self) -> None:
        if is_terminal():
            notice("the other side has ended its input")
            self._conversation.end()


class _OneConnectionFactory(Factory):
    """Gives the conversation to the first client and refuses further ones."""

    noisy = False

    def __init__(self, conversation: Conversation) -> None:
        self._conversation: Conversation | None = conversation

    def buildProtocol(self, addr: IAddress | None) -> Conversation | None:
        conversation, self._conversation = self._conversation, None
        return conversation


COMMAND = click.Command(
    "talk",
    callback=Talk,
    context_settings=CONTEXT_SETTINGS,
    short_help="Talk with a peer, as the client or as the server.",
    help=(
        "Talk with the program that listens at [HOST:]PORT; with --listen, listen there for one client. "
        "The end of standard input ends the sending, not the receiving. A bye word that is typed or received, in upper "
        "or lower case, ends both. Without --framing, messages are lines until the other side sends a message without "
        "a line end."
    ),
    params=[
        peer_argument(),
        udp_option("Send each message as a datagram instead of using a stream."),
        click.Option(
            ["-l", "--listen"],
            is_flag=True,
            help="Listen for one client instead of connecting. PORT alone listens on every address of this host.",
        ),
        click.Option(
            ["--tls"], is_flag=True, help="Connect with TLS, and verify the server's certificate and its name."
        ),
        click.Option(
            ["--ca"],
            metavar="FILE",
            help="With --tls: trust the authority in this PEM file instead of those of the system.",
        ),
        click.Option(
            ["--framing"],
            type=click.Choice(["line", "raw"]),
            help=(
                "line: each line is a message. raw: the bytes that arrive together are a message, and no line end is "
                "sent."
            ),
        ),
        click.Option(
            ["--bye"],
            multiple=True,
            metavar="WORD",
            help="End the conversation when either side sends this word. May be repeated. [default: bye]",
        ),
    ],
)
