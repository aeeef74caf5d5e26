"""Use Twisted from blocking code with crochet, which runs the reactor in a thread: ``crochet_thread.py REACTOR``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import_module(sys.argv[1]).install()

import crochet  # noqa: E402  after the reactor is installed

crochet.setup()

from twisted.internet import defer, endpoints, protocol, reactor, utils  # noqa: E402, TID251
from twisted.protocols.basic import LineReceiver  # noqa: E402

REQUESTS = 200


class Adder(LineReceiver):
    """Answers the sum of the numbers on each line."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(b"%d" % sum(map(int, line.split())))


class Client(LineReceiver):
    def ask(self, line: bytes) -> Any:
        self.answer: Any = defer.Deferred()
        self.sendLine(line)
        return self.answer

    def lineReceived(self, line: bytes) -> None:
        self.answer.callback(line)


@crochet.wait_for(timeout=5)
def connect() -> Any:
    factory: Any = protocol.Factory.forProtocol(Adder)
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    return endpoints.connectProtocol(endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Client())


@crochet.wait_for(timeout=5)
def ask(client: Client, line: bytes) -> Any:
    return client.ask(line)


@crochet.wait_for(timeout=5)
def output_of_a_process() -> Any:
    return utils.getProcessOutput("/bin/echo", ["from a process"])


client = connect()
answers = [int(ask(client, b"%d 1" % number)) for number in range(REQUESTS)]
assert answers == list(range(1, REQUESTS + 1))
sys.stdout.write(f"{len(answers)} answers, {output_of_a_process().decode().strip()} on {type(reactor).__name__}\n")
