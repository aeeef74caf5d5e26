"""``netsvc talk``: a conversation in both directions at once, as the client or as the server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import click
from click import UsageError

from netsvc.cli.answer_timer import AnswerTimer
from netsvc.cli.client_tls import ClientTLS
from netsvc.cli.command import CONNECT_TIMEOUT, DEFAULT_HOST, Command, CommandError, PausableSource, sleep
from netsvc.cli.console import INPUT_LINE_MAX, Console, excerpt, is_terminal, notice, standard_streams
from netsvc.cli.parameters import (
    CONTEXT_SETTINGS,
    check_exclusive,
    check_needed,
    client_tls_options,
    exactness_options,
    family_options,
    peer_argument,
    server_tls_options,
    source_options,
    udp_option,
    unix_option,
    verbose_option,
    wait_option,
)
from netsvc.cli.progress import format_bytes
from netsvc.cli.stream_peer import Route, Where, listening_tls, unix_path
from netsvc.cli.talk_partners import BUSY, PartnerFactory
from netsvc.cli.terminal_reactor import has_screen, install_asyncio_reactor
from netsvc.errors import ConfigError, ListenError, NetsvcError
from netsvc.limits.cause import Cause
from netsvc.net.listening import Listener, datagram_listener, stream_listener
from netsvc.net.reactors import Reactor
from netsvc.net.tls_records import UnexpectedTLSError, begins_with_tls
from netsvc.talk.base_conversation import NotSentError
from netsvc.talk.datagram_conversation import DatagramConversation
from netsvc.talk.stream_conversation import Conversation, TLSConversation
from netsvc.wire.address import AddressError, HostPort, format_peer, parse_address
from netsvc.wire.framing import Framing, PieceFraming, WholeLineFraming

if TYPE_CHECKING:
    from netsvc.cli.talk_screen import ScreenConsole

#: The line that a server of netsvc's sends to a peer that it refuses, and what is wrong then.
REFUSALS = {
    BUSY: "the other side is busy; try again later",
    **{
        cause.sentence.encode("ascii") + b"\n": f"the server has refused the connection: {cause.sentence}"
        for cause in (Cause.SERVER_FULL, Cause.TOO_MANY_PER_HOST, Cause.TOO_MANY_PER_NETWORK, Cause.CONNECT_RATE)
    },
}

#: Bytes at the beginning of what is received that are kept, to tell a refusal or TLS from other data.
HEAD_MAX = 1024

AnyConversation = Conversation | DatagramConversation


class NoAnswerError(NetsvcError):
    """The peer owed an answer, and sent nothing in time."""


class RefusedError(NetsvcError):
    """The peer has sent nothing but the reason why it does not serve this side."""


@dataclass
class Talk(Command):
    """A conversation: its address, and the values of the options."""

    where: str | None
    unix: str | None
    udp: bool
    listen: bool
    keep: bool
    tls: bool
    ca: str | None
    cert: str | None
    key: str | None
    tls_cert: str | None
    tls_key: str | None
    client_ca: str | None
    as_text: bool
    raw: bool
    framing: str | None
    bye: tuple[str, ...]
    ipv4: bool
    ipv6: bool
    source: str | None
    source_port: int | None
    timeout: float | None
    verbose: bool

    _conversation: AnyConversation | None = field(init=False, default=None)
    _screen: ScreenConsole | None = field(init=False, default=None)
    _input_at_end: bool = field(init=False, default=False)
    _units_after_end: int = field(init=False, default=0)
    _failed: bool = field(init=False, default=False)
    _sent: int = field(init=False, default=0)
    _received: int = field(init=False, default=0)
    _head: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        self._check_options()
        text = self.as_text or bool(self.framing or self.bye)
        self._input_is_exact = not text and (self.raw or not is_terminal())
        self._output_is_exact = not text and (self.raw or not os.isatty(1))
        self.is_interactive = is_terminal() and os.isatty(1) and not self.raw
        if not self.bye and self.is_interactive:
            self.bye = ("bye",)
        self._unix = unix_path(self.where, self.unix)
        self._route = Route.chosen(self.ipv4, self.ipv6, self.source, self.source_port, self.timeout or CONNECT_TIMEOUT)
        if self.listen and not self._route.is_default:
            raise UsageError("-4, -6, -s and -p are for connections that this side opens; write ADDRESS:PORT")
        self._peer: Where
        if self._unix is not None:
            if self.udp or not self._route.is_default:
                raise UsageError("a UNIX socket cannot be combined with -u, -4, -6, -s or -p; leave them out")
            self._peer = self._unix
        elif self.where is None:
            raise UsageError("[HOST:]PORT is missing")
        else:
            self._peer = _local(self.where) if self.listen else self.peer_address(self.where, DEFAULT_HOST)

    def _check_options(self) -> None:
        """Refuse options that contradict each other, or that have no effect."""
        if self.where is not None and self.unix is not None:
            raise UsageError(f"unexpected argument {self.where}, because --unix names the peer")
        check_exclusive(
            ("--tls", "--udp", self.tls and self.udp),
            ("--keep", "--udp", self.keep and self.udp),
            ("--raw", "--text", self.raw and self.as_text),
            ("--raw", "--framing", self.raw and self.framing),
            ("--raw", "--bye", self.raw and self.bye),
            ("--ca", "--listen", self.ca and self.listen),
            ("--cert", "--listen", self.cert and self.listen),
        )
        check_needed(
            ("--ca", "--tls", self.ca and not self.tls),
            ("--cert", "--tls", self.cert and not self.tls),
            ("--key", "--cert", self.key and not self.cert),
            ("--keep", "--listen", self.keep and not self.listen),
            ("--tls-cert", "--tls and --listen", self.tls_cert and not (self.tls and self.listen)),
            ("--tls-key", "--tls-cert", self.tls_key and not self.tls_cert),
            ("--client-ca", "--tls-cert", self.client_ca and not self.tls_cert),
        )
        if self.tls and self.listen and not self.tls_cert:
            raise UsageError("--tls with --listen needs a certificate; add --tls-cert FILE and --tls-key FILE")
        if self.udp and self.framing:
            raise UsageError("--framing cannot be combined with --udp, because a datagram is a message; leave out one")

    async def run(self, reactor: Reactor) -> None:
        console = await self._new_console(reactor)
        self._console = console
        self._answers = AnswerTimer(reactor, self.timeout, self._no_answer, lambda: console.output_is_full)
        try:
            async with standard_streams(reactor, console):
                console.pause_input()
                console.output_closed.addCallback(lambda _: self._abort())
                if not (is_terminal() or os.isatty(1)):
                    console.show_progress(reactor, lambda: self._sent + self._received)
                await self._talk(reactor)
        except ConfigError as e:
            raise UsageError(str(e)) from None
        except ListenError as e:
            raise CommandError(str(e)) from None
        finally:
            self._answers.stop()
            if self._screen is not None:
                await self._screen.leave()
            if self._units_after_end:
                notice(self._rest_text())
        if self._units_after_end or self._failed:
            raise CommandError

    # The full screen of a terminal

    @property
    def _has_screen(self) -> bool:
        return self.is_interactive and has_screen()

    def install_reactor(self) -> None:
        if self._has_screen:
            install_asyncio_reactor()

    async def _new_console(self, reactor: Reactor) -> Console:
        if not self._has_screen:
            return Console(self._input_received, self._end_of_input, self._input_framing())
        from netsvc.cli.talk_screen import ScreenConsole

        await sleep(reactor, 0)  # until the loop runs
        console = ScreenConsole(reactor, self._input_received, self._end_of_input)
        self._screen = console
        return console

    # The input

    def _input_framing(self) -> Framing | None:
        """Return what divides standard input into what is sent at once; None for lines without their ends."""
        if not self._input_is_exact:
            return None
        return WholeLineFraming(INPUT_LINE_MAX) if self.udp else PieceFraming()

    def _input_received(self, data: bytes) -> None:
        conversation = self._conversation
        if conversation is None or conversation.sending_ended:
            if not self._console.output_closed.called:
                self._units_after_end += len(data) if self._input_is_exact else 1
            return
        self._sent += len(data)
        try:
            if self._input_is_exact and isinstance(conversation, Conversation):
                conversation.write(data)
            else:
                conversation.send(data)
        except NotSentError as e:
            self._failed = True
            self._console.notice(f"not sent: {excerpt(data)}: {e}")
        else:
            self._answers.sent()

    def _end_of_input(self) -> None:
        self._input_at_end = True
        if self._conversation is not None:
            self._end_sending(self._conversation)

    def _end_sending(self, conversation: AnyConversation) -> None:
        # A datagram conversation ends when the peer is silent for a second. With -w an answer may take longer.
        waits = self.udp and not self.listen and self._answers.awaited
        self._answers.input_ended()
        if not waits:
            conversation.end()

    def _rest_text(self) -> str:
        number = self._units_after_end
        unit = "byte" if self._input_is_exact else "line"
        verb = "was" if number == 1 else "were"
        return f"{number:,} {unit}{'' if number == 1 else 's'} {verb} not sent, because the conversation was over"

    # The output

    def _message_received(self, text: str) -> None:
        self._note(text.encode("utf-8", "replace") + b"\n")
        self._console.print_text(text)

    def _bytes_received(self, data: bytes) -> None:
        self._note(data)
        self._console.write(data)

    def _note(self, data: bytes) -> None:
        self._received += len(data)
        if len(self._head) < HEAD_MAX:
            self._head += data[:HEAD_MAX]
        ends_now = self.udp and not self.listen and self._input_at_end and self._answers.awaited
        self._answers.received()
        if ends_now and self._conversation is not None:
            self._conversation.end()

    # The conversation

    async def _talk(self, reactor: Reactor) -> None:
        if self.udp:
            await self._talk_in_datagrams(reactor)
        elif self.listen:
            await self._talk_with_callers(reactor)
        else:
            try:
                tls = ClientTLS(self.ca, self.cert, self.key) if self.tls else None
                conversation = await self._route.connect(reactor, self._peer, self._new_stream(reactor), tls)
                await conversation.ready
                await self._follow(conversation)
            except (UsageError, CommandError):
                raise
            except Exception as e:
                raise CommandError(self._explain(e)) from None

    def _new_stream(self, reactor: Reactor) -> Conversation:
        """Return a conversation that is not connected yet."""
        options: dict[str, Any] = {"framing": self.framing or ("line" if self._output_is_exact else None)}
        if self.tls and self.timeout is not None:
            options["handshake_timeout"] = self.timeout
        return (TLSConversation if self.tls else Conversation)(
            reactor,
            self._message_received,
            self._console.notice,
            bye=self.bye,
            peer_ended_input=self._peer_ended_input,
            bytes_received=self._bytes_received if self._output_is_exact else None,
            **options,
        )

    async def _talk_with_callers(self, reactor: Reactor) -> None:
        partners = PartnerFactory(reactor, tls=self.tls)
        wrap = None
        if self.tls_cert:
            wrap = listening_tls(reactor, self.tls_cert, self.tls_key, self.client_ca).wrap
        where = self._unix.description if self._unix else await self._local_address(reactor)
        listener = stream_listener(reactor, "", where, partners, wrap=wrap)
        ready = partners.wait_for(self._new_stream(reactor))
        listener.startService()
        self._console.notice(f"waiting on {listener.where()}")
        try:
            while True:
                try:
                    await self._follow(await ready)
                except (UsageError, CommandError):
                    raise
                except Exception as e:
                    if not self.keep:
                        raise CommandError(self._explain(e)) from None
                    self._console.notice(self._explain(e))
                if not self.keep or self._console.output_closed.called:
                    return
                ready = partners.wait_for(self._new_stream(reactor))
        finally:
            await listener.stopService()

    async def _talk_in_datagrams(self, reactor: Reactor) -> None:
        try:
            if self.listen:
                conversation = self._new_datagrams(reactor, None)
                where = await self._local_address(reactor)
                listener: Listener = datagram_listener(reactor, "", where, lambda: conversation)
                listener.startService()
                self._console.notice(f"waiting on {listener.where()}")
            elif isinstance(self._peer, HostPort):
                port = self._peer.port
                made: list[DatagramConversation] = []

                def make(address: str) -> DatagramConversation:
                    made.append(self._new_datagrams(reactor, (address, port)))
                    return made[0]

                await self._route.open_datagrams(reactor, self._peer, make)
                [conversation] = made
            self._conversation = conversation
            self._console.register_producer(PausableSource(conversation))
            if self._input_at_end:
                self._end_sending(conversation)
            else:
                self._console.resume_input()
            await conversation.ended
        except (ListenError, ConfigError):
            raise
        except Exception as e:
            raise CommandError(self._explain(e)) from None

    def _new_datagrams(self, reactor: Reactor, peer: tuple[str, int] | None) -> DatagramConversation:
        return DatagramConversation(
            reactor,
            self._message_received,
            self._console.notice,
            peer=peer,
            bye=self.bye,
            bytes_received=self._bytes_received if self._output_is_exact else None,
        )

    async def _local_address(self, reactor: Reactor) -> str:
        try:
            return await self.listening_string(reactor, self.where or "")
        except Exception as e:
            raise CommandError(self._explain(e)) from None

    async def _follow(self, conversation: Conversation) -> None:
        """Carry a conversation that is connected, to its end."""
        console, began = self._console, monotonic()
        transport = conversation.transport
        peer = transport.getPeer()
        if self.listen:
            self._peer = self._unix or HostPort(getattr(peer, "host", None), getattr(peer, "port", 0))
        console.notice(f"talking to {self._unix or format_peer(peer)}")
        if self.verbose:
            for line in _connection_facts(transport):
                console.notice(line)
        self._head, self._sent, self._received = b"", 0, 0
        self._conversation = conversation
        # Backpressure in both directions: the side that is slower pauses the other.
        conversation.register_producer(PausableSource(console.source))
        console.register_producer(PausableSource(conversation))
        if self._input_at_end:
            self._end_sending(conversation)
        else:
            console.resume_input()
        try:
            await conversation.ended
        except (NoAnswerError, UnexpectedTLSError):
            raise
        except Exception:
            self._raise_if_refused()
            raise
        finally:
            self._answers.stop()
            if self.keep:
                console.pause_input()
            if self.verbose:
                seconds = monotonic() - began
                console.notice(
                    f"sent {self._sent:,} bytes, received {self._received:,} bytes in {seconds:.3f} s "
                    f"({format_bytes((self._sent + self._received) / max(seconds, 1e-6))}/s)"
                )
        self._raise_if_refused()

    def _raise_if_refused(self) -> None:
        """Check that what was received is not only a refusal, or a TLS record on a connection without TLS."""
        if not self.listen and self._head in REFUSALS:
            raise RefusedError(REFUSALS[self._head])
        if not self.tls and self._received < HEAD_MAX and begins_with_tls(self._head):
            raise UnexpectedTLSError

    def _explain(self, cause: BaseException) -> str:
        if isinstance(cause, RefusedError | NoAnswerError | UnexpectedTLSError):
            return f"{self._peer}: {cause}"
        return self._route.explain(cause, self._peer)

    def _peer_ended_input(self) -> None:
        if is_terminal() and self._conversation is not None:
            self._console.notice("the other side has ended its input")
            self._conversation.end()

    def _no_answer(self) -> None:
        if self._conversation is not None:
            self._conversation.fail(NoAnswerError(f"no answer within {self.timeout:g} s"))

    def _abort(self) -> None:
        if self._conversation is not None:
            self._conversation.abort()


def _local(where: str) -> HostPort:
    """Return the address to listen on. The listener accepts other forms as well, and reports what is wrong with one."""
    try:
        return parse_address(where)
    except AddressError:
        return HostPort(None, 0)


def _connection_facts(transport: Any) -> list[str]:
    """Return what a user may want to know about a connection."""
    facts = [f"from {format_peer(transport.getHost())}"]
    handle: Any = transport.getHandle() if hasattr(transport, "getPeerCertificate") else None
    if hasattr(handle, "get_protocol_version_name"):
        facts.append(f"{handle.get_protocol_version_name()}, {handle.get_cipher_name()}")
        certificate = handle.get_peer_certificate()
        if certificate is not None:
            facts.append(f"the certificate of the other side: {certificate.get_subject().CN or '(no common name)'}")
    return facts


COMMAND = click.Command(
    "talk",
    callback=Talk,
    context_settings=CONTEXT_SETTINGS,
    short_help="Talk with a peer, as the client or as the server.",
    help=(
        "Talk with the program that listens at [HOST:]PORT; with --listen, listen there for one client. "
        "The end of standard input ends the sending, not the receiving. Bytes from a file or pipe are sent unchanged, "
        "and bytes to a file or pipe are written unchanged. At a terminal, lines are sent and text is printed without "
        "unsafe characters. Between two terminals, the word bye ends both directions."
    ),
    params=[
        peer_argument(required=False),
        unix_option("Talk on the UNIX socket at PATH, in place of [HOST:]PORT."),
        udp_option("Send each message as a datagram instead of using a stream."),
        click.Option(
            ["-l", "--listen"],
            is_flag=True,
            help="Listen for one client instead of connecting. PORT alone listens on every address of this host.",
        ),
        click.Option(["--keep"], is_flag=True, help="With --listen: take one partner after another."),
        *client_tls_options(),
        *server_tls_options("With --tls and --listen: the PEM file with the certificate."),
        *exactness_options(),
        click.Option(
            ["--framing"],
            type=click.Choice(["line", "raw"]),
            help=(
                "line: each line is a message. raw: the bytes that arrive together are a message, and no line end is "
                "sent. Implies --text."
            ),
        ),
        click.Option(
            ["--bye"],
            multiple=True,
            metavar="WORD",
            help=(
                "End the conversation when either side sends this word. May be repeated. Implies --text. "
                "[default: bye at terminals, none elsewhere]"
            ),
        ),
        *family_options(),
        *source_options(),
        wait_option(None, "Seconds without an answer after which it is an error."),
        verbose_option("Say more about the connection."),
    ],
)
