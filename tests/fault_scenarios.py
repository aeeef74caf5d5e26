"""netsvc's own protocols under faults: ``python -m tests.fault_scenarios`` sweeps each, and then lets chaos loose.

Each scenario fails with an assertion if a guarantee is broken. It may fail with any error of the network: a program is
allowed to tell that a fault has hit it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner

from netsvc import ChatClient, Config, EchoClient, ask_timestamp, netsvc_service
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.probe.probe_run import ProbeRun, ProbeSettings
from netsvc.probe.probe_summary import ProbeSummary
from netsvc.probe.probe_target import ProbeProtocol, ProbeTarget
from netsvc.testing import FaultReport, Host, HostReactor, Network, chaos, sweep
from netsvc.testing.scenario_run import Scenario

SERVICES = Config(tcp=["7"], udp=["520"], stamp=["862"], chat=["1400"], udp_rate=0, connect_rate=0)

#: Lines that each member of the chat says.
LINES = 3


def hosts(network: Network, *clients: str) -> tuple[Host, list[Host]]:
    """Return a server with all services, which start again with it, and clients."""
    server = network.host("server", "10.0.0.1")
    network.links().set(latency=0.01)
    services: list[Any] = []

    def start(reactor: HostReactor) -> None:
        services.append(netsvc_service(reactor, SERVICES))
        services[-1].startService()

    server.on_start(start)
    return server, [network.host(name) for name in clients]


async def echo(network: Network) -> None:
    """A stream carries exactly what was sent, or fails."""
    _, [client] = hosts(network, "client")
    connection = await connectProtocol(clientFromString(client.reactor, "tcp:10.0.0.1:7"), EchoClient(client.reactor))
    for number in range(3):
        data = bytes([number]) * 3_000
        # TCP does not tell that a server has lost its power and says nothing more.
        assert (await connection.ask(data).addTimeout(60, client.reactor)).data == data
    connection.transport.loseConnection()


async def timestamps(network: Network) -> None:
    """A question has an answer, or an error after its tries."""
    _, [client] = hosts(network, "client")
    for _ in range(3):
        answer = await ask_timestamp(client.reactor, "10.0.0.1", 520, b"question")
        assert answer.payload == b"question"


async def chat(network: Network) -> None:
    """Each member receives each acknowledged line once, and all in the same order, whatever happens to connections.

    The log is in memory, so a crash of the server ends it. A client of netsvc tells that it missed something.
    """
    _, clients = hosts(network, "ann", "bob")
    heard: dict[str, list[str]] = {host.name: [] for host in clients}
    began_anew: set[str] = set()
    members = []
    for host in clients:

        def received(event: Any, name: str = host.name) -> None:
            if isinstance(event, ReceivedEntry) and event.entry.kind.name == "SAID":
                heard[name].append(event.entry.text)
            elif type(event).__name__ == "Resumed" and event.verdict.name != "COMPLETE":
                began_anew.add(name)

        endpoint = clientFromString(host.reactor, "tcp:10.0.0.1:1400")
        members.append(ChatClient(endpoint, received, host.reactor, nick=host.name))
        members[-1].start()
    try:
        while not all(member.is_connected for member in members):
            await deferLater(clients[0].reactor, 1)
        said = [member.say(f"{member.nick} {number}") for number in range(LINES) for member in members]
        outcomes = await gatherResults([each.addBoth(lambda result: result) for each in said])
        await deferLater(clients[0].reactor, 150)  # the pauses of both clients are over
    finally:
        for member in members:
            member.stop()
    for name, texts in heard.items():
        assert len(set(texts)) == len(texts), f"{name} received a line twice: {texts}"
    if not began_anew:
        texts = heard["ann"]
        assert texts == heard["bob"], f"not the same lines: {heard}"
        acknowledged = [outcome for outcome in outcomes if not hasattr(outcome, "value")]
        assert len(texts) >= len(acknowledged), f"{len(acknowledged)} lines are acknowledged, and {texts} received"


async def probed(network: Network, protocol: ProbeProtocol, port: int, count: int) -> ProbeSummary:
    """Probe the server, and return the numbers. Each probe has one verdict."""
    _, [client] = hosts(network, "client")
    settings = ProbeSettings(interval=100_000_000, count=count, timeout=1_000_000_000)
    run = ProbeRun(client.reactor, ProbeTarget(protocol, "server", port), "10.0.0.1", settings)
    run.start()
    await run.finished
    summary = run.total()
    await run.stop()
    counts = summary.counts
    assert counts.sent == count == counts.answered + counts.late + counts.lost
    return summary


async def stamp_probe(network: Network) -> None:
    """The directions of the losses add up, and are not more than there were."""
    summary = await probed(network, "stamp", 862, 10)
    counts, direction = summary.counts, summary.direction
    assert direction is not None
    assert direction.lost_there + direction.lost_back + direction.lost_unknown == counts.lost
    assert direction.stateful is (counts.answered + counts.late > 0)
    for told, ends in ((direction.lost_there, ("client", "server")), (direction.lost_back, ("server", "client"))):
        assert told <= network.link_from(*ends).count("lost"), f"more losses than there were from {ends[0]}"


async def tcp_probe(network: Network) -> None:
    """Each connection has one verdict."""
    await probed(network, "tcp", 7, 5)


SCENARIOS: Sequence[Scenario] = (echo, timestamps, chat, stamp_probe, tcp_probe)


def main(argv: Sequence[str] | None = None) -> int:
    """Search each scenario, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault_scenarios", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=300, help="runs of each sweep at most (default: 300)")
    parser.add_argument("--seeds", type=int, default=60, help="chaotic runs of each scenario (default: 60)")
    parser.add_argument("--jobs", type=int, help="processes at a time (default: one for each core)")
    options = parser.parse_args(argv)
    nowhere: Any = lambda _event: None  # noqa: E731
    globalLogBeginner.beginLoggingTo([nowhere], redirectStandardIO=False)  # the reports tell what matters
    failed = False
    for scenario in SCENARIOS:
        for search in (
            lambda scenario=scenario: sweep(scenario, runs_max=options.runs, jobs=options.jobs),
            lambda scenario=scenario: chaos(scenario, seeds=range(options.seeds), hosts=["server"], jobs=options.jobs),
        ):
            began = time.monotonic()
            report: FaultReport = search()
            failed = failed or bool(report.findings)
            sys.stdout.write(f"{report} ({time.monotonic() - began:.1f} s)\n")
            sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
