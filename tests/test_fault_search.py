"""Searches by faults: what they find in programs with known mistakes, and that they find nothing in right ones."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from netsvc.testing import Fault, FaultError, Network, chaos, replay, sweep
from netsvc.testing.faults import FAULT_KINDS, listening_hosts, open_connections, pairs_of_hosts, parse_fault
from netsvc.testing.scenario_run import ScenarioError, run_scenario

names = st.text(min_size=1, max_size=12)


class Answering(Protocol):
    """Answers what it receives."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]


class Asking(Protocol):
    """Asks a question. Its answer fails with the connection."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()

    def ask(self) -> Deferred[bytes]:
        self.transport.write(b"?")  # type: ignore[union-attr]
        return self.answer

    def dataReceived(self, data: bytes) -> None:
        self.answer.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(reason)


class Forgetting(Asking):
    """The mistake: it does not tell that the connection was lost."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the question."""


class Doubling(Asking):
    """The mistake: the answer of a connection that is lost later fires twice."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.answer.errback(reason)


def network_of(network: Network) -> None:
    network.links().set(latency=0.01)
    network.host("server").on_start(
        lambda reactor: serverFromString(reactor, "tcp:7").listen(Factory.forProtocol(Answering))
    )
    network.host("client")


async def asks(network: Network, protocol: type[Asking] = Asking) -> None:
    network_of(network)
    reactor = network.hosts["client"].reactor
    asking = await connectProtocol(clientFromString(reactor, "tcp:server:7"), protocol())
    await asking.ask().addTimeout(600, reactor)
    await deferLater(reactor, 1)


async def forgets(network: Network) -> None:
    network_of(network)
    asking = await connectProtocol(clientFromString(network.hosts["client"].reactor, "tcp:server:7"), Forgetting())
    await asking.ask()


async def doubles(network: Network) -> None:
    await asks(network, Doubling)


def test_a_right_program_has_no_problem_with_any_fault_at_any_event() -> None:
    report = sweep(asks, jobs=1)
    assert report.findings == ()
    assert report.runs > 30
    assert chaos(asks, seeds=range(20), jobs=1).findings == ()
    report.check()


def test_a_sweep_finds_a_deferred_that_never_fires_and_the_command_repeats_it() -> None:
    report = sweep(forgets, jobs=1, faults=["close", "abort"])
    first = report.findings[0]
    assert (first.faults[0].kind, first.problem.kind) == ("abort", "no result")
    assert "forgets (test_fault_search.py:" in str(report)
    assert f"replay tests/test_fault_search.py::forgets --seed 0 --fault '{first.faults[0]}'" in str(report)
    with pytest.raises(AssertionError, match="2 problems"):
        report.check()
    with pytest.raises(AssertionError, match=r"(?s)no result: .*aborted") as repeated:
        replay(forgets, str(first.faults[0]))
    assert "server" in str(repeated.value)  # the chart


@pytest.mark.logs_failure("AlreadyCalledError")
def test_a_sweep_finds_a_logged_failure() -> None:
    report = sweep(doubles, jobs=1, faults=["abort"])
    assert {finding.problem.kind for finding in report.findings} == {"failure logged"}
    assert "AlreadyCalledError" in str(report)


class KeptAnswering(Answering):
    """The mistake: its factory keeps the failure of a connection, and nothing handles it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.lost = Deferred()
        self.factory.lost.errback(reason)


async def keeps(network: Network) -> None:
    network_of(network)
    serverFromString(network.hosts["server"].reactor, "tcp:8").listen(Factory.forProtocol(KeptAnswering))
    asking = await connectProtocol(clientFromString(network.hosts["client"].reactor, "tcp:server:8"), Asking())
    await asking.ask()


def test_a_failure_that_a_host_keeps_is_of_the_run_in_which_it_happened() -> None:
    one, two = sweep(keeps, jobs=1, faults=["abort"]), sweep(keeps, jobs=2, faults=["abort"])
    assert one == two
    [finding] = one.findings
    assert finding.problem.kind == "failure logged"
    with pytest.raises(AssertionError, match="failure logged"):
        replay(keeps, *finding.faults)
    assert sweep(asks, jobs=1, faults=["pause"]).findings == ()


def test_a_scenario_without_events_is_refused_and_one_without_a_result_is_run() -> None:
    for scenario in (lambda _: succeed(1), lambda _: None):
        for search in (sweep, chaos):
            with pytest.raises(ScenarioError, match="ends before any event"):
                search(scenario, jobs=1)

    def only_begins(network: Network) -> None:
        network_of(network)
        connecting = connectProtocol(clientFromString(network.hosts["client"].reactor, "tcp:server:7"), Protocol())
        connecting.addErrback(lambda _: None)

    assert sweep(only_begins, jobs=1).runs > 10


def test_the_place_of_an_exception_is_a_line_of_the_scenario() -> None:
    async def fails(network: Network) -> None:
        later: Deferred[Any] = deferLater(network.host("host").reactor, 1)
        later.addCallback(lambda _: defer.fail(OSError("down")))
        await later

    [finding] = sweep(fails, jobs=1).findings
    assert re.fullmatch(r"OSError: down \(test_fault_search\.py:\d+\)", finding.problem.text)


def test_the_partition_of_a_fault_ends_no_other_one() -> None:
    async def partitions(network: Network) -> None:
        network.links().set(latency=0.01)
        received = []

        class Noting(DatagramProtocol):
            def datagramReceived(self, data: bytes, _peer: Any) -> None:
                received.append(data)

        network.host("server").reactor.listenUDP(9, Noting())
        client = network.host("client").reactor
        port: Any = client.listenUDP(0, DatagramProtocol())
        port.write(b"before", (network.hosts["server"].address, 9))
        await deferLater(client, 1)
        split = network.partition({"server"}, {"client"})
        await deferLater(client, 100)
        port.write(b"during", (network.hosts["server"].address, 9))
        await deferLater(client, 1)
        split.heal()
        network.links().set(latency=0.02)
        port.write(b"after", (network.hosts["server"].address, 9))
        await deferLater(client, 100)
        assert b"during" not in received, received

    assert sweep(partitions, jobs=1, faults=["partition"]).findings == ()
    trace = run_scenario(partitions, 0, [parse_fault("partition@2 client--server 150s")]).network.trace
    assert any("b'after'" in str(event) and event.outcome == "lost" for event in trace)


def test_cores_find_the_same_as_one() -> None:
    assert sweep(forgets, jobs=2) == sweep(forgets, jobs=1)
    assert chaos(forgets, seeds=range(4), jobs=2) == chaos(forgets, seeds=range(4), jobs=1)


def test_a_sweep_finds_a_broken_invariant_and_the_event_after_which_it_broke() -> None:
    def server_is_up(network: Network) -> None:
        assert network.hosts["server"].up, "the server is down"

    report = sweep(asks, jobs=1, faults=["crash"], invariants=[server_is_up])
    [finding] = report.findings
    assert finding.problem.kind == "invariant broken"
    assert "server_is_up after event 1: AssertionError: the server is down" in finding.problem.text
    assert finding.also > 5


def test_a_sweep_of_a_program_that_fails_without_a_fault_tells_that_alone() -> None:
    async def wrong(network: Network) -> None:
        assert network.now > 0

    report = sweep(wrong, jobs=1)
    assert (report.runs, report.findings[0].faults) == (1, ())
    assert "exception: AssertionError" in str(report)


@pytest.mark.parametrize("error", [ValueError("no"), ConnectionError("no"), SystemExit(0)])
def test_every_exception_of_a_run_without_faults_is_a_problem(error: BaseException) -> None:
    def fails(network: Network) -> None:
        raise error

    async def fails_later(network: Network) -> None:
        await deferLater(network.host("host").reactor, 1)
        raise error

    for scenario in (fails, fails_later):
        [finding] = sweep(scenario, jobs=1).findings
        assert finding.problem.kind == "exception"
        assert chaos(scenario, seeds=[1], jobs=1).findings[0].problem.text == finding.problem.text


def test_a_scenario_that_returns_something_else_is_a_problem() -> None:
    def generates(network: Network) -> Any:
        yield network

    assert "return a coroutine, a Deferred or None" in str(sweep(generates, jobs=1))


def test_any_awaitable_is_awaited() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            raise AssertionError("it was awaited")

    assert "it was awaited" in str(sweep(lambda _network: Awaitable(), jobs=1))


def test_a_host_that_comes_later_and_one_that_the_scenario_restarts_are_no_problem() -> None:
    async def comes_and_goes(network: Network) -> None:
        await asks(network)
        network.hosts["server"].crash() if network.hosts["server"].up else None
        network.host("later").on_start(lambda _: None)
        await deferLater(network.hosts["client"].reactor, 1)
        if not network.hosts["server"].up:
            network.hosts["server"].restart()
        await deferLater(network.hosts["client"].reactor, 60)

    assert sweep(comes_and_goes, jobs=1, hosts=["server", "later"], faults=["crash", "pause"]).findings == ()
    assert chaos(comes_and_goes, jobs=1, hosts=["server", "later"], seeds=range(20)).findings == ()


@pytest.mark.logs_failure("OSError")
def test_a_service_that_does_not_start_again_is_a_logged_failure() -> None:
    async def starts_once(network: Network) -> None:
        started: list[None] = []

        def start(_reactor: Any) -> None:
            if started:
                raise OSError("no second time")
            started.append(None)

        network.host("server").on_start(start)
        await asks_of(network)

    report = sweep(starts_once, jobs=1, faults=["crash"], hosts=["server"])
    assert report.findings[0].problem.text.startswith("OSError: no second time")


async def asks_of(network: Network) -> None:
    await deferLater(network.host("client").reactor, 100)


def test_an_unknown_host_is_an_error_of_the_caller() -> None:
    for search in (sweep, chaos):
        with pytest.raises(FaultError, match="no host is called 'sever'; the hosts are server, client"):
            search(asks, hosts=["sever"], jobs=1)


def test_with_invariants_and_for_local_functions_the_report_has_a_test_and_no_command() -> None:
    async def local(network: Network) -> None:
        await forgets(network)

    def always(network: Network) -> None:
        """Hold."""

    text = str(sweep(local, jobs=1, faults=["abort"]))
    assert "repeat it" not in text
    assert "       replay(\n               local,\n" in text
    assert "invariants=[always]," in str(sweep(forgets, jobs=1, faults=["abort"], invariants=[always]))


def test_the_command_has_the_timeout_and_is_quoted_for_the_shell() -> None:
    text = str(sweep(forgets, jobs=1, faults=["crash"], hosts=["server"], timeout=50))
    assert "--timeout 50 --fault 'crash@" in text
    assert "timeout=50," in sweep(forgets, jobs=1, faults=["crash"], timeout=50).findings[0].test


def test_a_fault_without_an_effect_is_a_warning_of_a_replay() -> None:
    with pytest.warns(UserWarning, match="'abort@9 client:1--server:7' had no effect"):
        replay(asks, "abort@9 client:1--server:7")
    with pytest.warns(UserWarning, match="'crash@9 nobody 30s' had no effect"):
        replay(asks, "crash@9 nobody")


def test_of_two_partitions_of_two_hosts_the_longer_one_counts(network: Network) -> None:
    network_of(network)
    for seconds in (10, 1):
        Fault("partition", 1, "client", "server", seconds=seconds).happen(network)
        network.advance(0.5)
    network.advance(5)
    assert network._fabric.partitions() == ["server <-> client"]
    network.advance(5)
    assert network._fabric.partitions() == []


def test_in_a_mesh_all_hosts_may_crash(network: Network) -> None:
    for name in "abc":
        host = network.host(name)
        serverFromString(host.reactor, "tcp:7").listen(Factory.forProtocol(Answering))
    for name in "abc":
        for other in "abc".replace(name, ""):
            reactor = network.hosts[name].reactor
            network.run(connectProtocol(clientFromString(reactor, f"tcp:{other}:7"), Asking()))
    assert sorted(listening_hosts(network)) == ["a", "b", "c"]


def test_a_sweep_has_at_most_as_many_runs_as_are_allowed() -> None:
    assert sweep(asks, jobs=1, runs_max=7).runs == 8


def test_chaos_is_shrunk_to_the_faults_that_matter_and_printed_as_a_test() -> None:
    report = chaos(forgets, seeds=range(10), budget=8, jobs=1)
    assert report.findings
    assert all(len(finding.faults) == 1 for finding in report.findings)
    finding = report.findings[0]
    assert f'replay(\n               forgets,\n               "{finding.faults[0]}"' in str(report)
    with pytest.raises(AssertionError):
        replay(forgets, *finding.faults, seed=finding.seed)


def test_two_faults_that_matter_together_are_both_kept() -> None:
    async def survives_one(network: Network) -> None:
        network_of(network)
        reactor = network.hosts["client"].reactor
        lost = 0
        while True:
            asking = await connectProtocol(clientFromString(reactor, "tcp:server:7"), Asking())
            try:
                await asking.ask().addTimeout(600, reactor)
                await deferLater(reactor, 0.1)
                await asking.answer
                return
            except Exception:
                lost += 1
                assert lost < 2, "the connection was lost twice"

    report = chaos(survives_one, seeds=range(12), budget=12, faults=["abort"], jobs=1)
    assert report.findings
    assert min(len(finding.faults) for finding in report.findings) == 2
    assert max(len(finding.faults) for finding in report.findings) <= 3  # of 12


def test_the_same_seed_and_faults_give_the_same_run() -> None:
    faults = [parse_fault("partition@9 client--server 5s"), parse_fault("pause@3 server 1s")]
    first, second = (run_scenario(asks, 3, faults).network.trace for _ in range(2))
    assert str(first) == str(second)


def test_each_kind_of_fault_is_in_the_trace() -> None:
    texts = {
        "abort": "abort@8 client--server",
        "close": "close@11 server--client",
        "partition": "partition@8 client--server 2s",
        "crash": "crash@8 server 2s",
        "pause": "pause@8 server 2s",
    }
    for kind, note in {
        "abort": "aborted",
        "close": "closed by server",
        "partition": "up=True",
        "crash": "restarted",
        "pause": "paused for 2 s",
    }.items():
        trace = run_scenario(asks, 0, [parse_fault(texts[kind])]).network.trace
        assert any(event.kind == note for event in trace), kind


def test_hosts_and_connections_are_found(network: Network) -> None:
    network_of(network)
    network.host("other")
    client = network.hosts["client"].reactor
    network.run(connectProtocol(clientFromString(client, "tcp:server:7"), Asking()))
    port: Any = network.hosts["other"].reactor.listenUDP(0, DatagramProtocol())
    port.write(b"x", (network.hosts["client"].address, 9))
    network.settle()
    assert [str(each) for each in open_connections(network)] == ["server:7--client:50152"]
    assert pairs_of_hosts(network) == [("server", "client"), ("client", "other")]
    assert listening_hosts(network) == ["server", "client"]


@given(
    st.sampled_from(FAULT_KINDS),
    st.integers(1, 10**6),
    names,
    names,
    st.none() | st.tuples(st.integers(1, 65_535), st.integers(1, 65_535)),
    st.integers(1, 10**6),
)
def test_the_text_of_a_fault_is_read_as_it_was_written(
    kind: Any, after: int, host: str, peer: str, ports: tuple[int, int] | None, milliseconds: int
) -> None:
    assume(host != peer)
    if kind in ("crash", "pause"):
        fault = Fault(kind, after, host, seconds=milliseconds / 1000)
    elif kind == "partition":
        fault = Fault(kind, after, host, peer, seconds=milliseconds / 1000)
    else:
        fault = Fault(kind, after, host, peer, ports)
    assert parse_fault(str(fault)) == fault


@given(st.text() | st.from_regex(r"(crash|abort)@[0-9]{1,3} [a-z:.0-9-]{1,9}( [0-9.]{1,6}s)?", fullmatch=True))
def test_no_text_of_a_fault_raises_anything_else(text: str) -> None:
    with contextlib.suppress(FaultError):
        parse_fault(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no fault; write KIND@EVENT HOST"),
        ("melt@3 server", "the kinds are abort, close, partition, crash, pause"),
        ("crash@3 a--b 2s", "a crash needs one host"),
        ("partition@3 a 2s", "a partition needs two hosts"),
        ("abort@x a--b", "is no fault"),
    ],
)
def test_another_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(FaultError, match=message):
        parse_fault(text)


# The command


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netsvc.testing", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )


SCENARIO = """
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater


async def fine(network):
    with network.host("host"):
        await deferLater(reactor, 5)


def test_unlucky(network):
    network.host("host")
    assert network.seed % 10 != 7


async def waits(network):
    await Deferred()


def two(network, server):
    pass


def asks(network):
    network.host("server")
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "scenario.py").write_text(SCENARIO)
    return tmp_path


def test_the_command_sweeps_and_replays(scenario: Path) -> None:
    done = command("sweep", "scenario.py::fine", "--jobs", "1", cwd=scenario)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "scenario.py::fine: 1 run, no problem\n"
    done = command("replay", "scenario.py::fine", "--fault", "crash@1 nobody 2s", cwd=scenario)
    assert done.stdout == "the fault 'crash@1 nobody 2s' had no effect; run sweep or chaos again\nno problem\n"
    done = command("replay", "scenario.py::waits", "--seed", "0", "--fault", "crash@1 host 2s", cwd=scenario)
    assert done.returncode == 1
    assert "it waits for: waits (scenario.py:18)" in done.stdout
    assert command("chaos", "scenario.py::fine", "--seeds", "3", cwd=scenario).returncode == 0


def test_the_command_searches_seeds_of_a_test(scenario: Path) -> None:
    done = command("search", "scenario.py::test_unlucky", "--seconds", "0.5", "--jobs", "2", cwd=scenario)
    assert done.returncode == 1
    assert done.stdout.startswith("seed 7: exception: AssertionError")
    assert "replay scenario.py::test_unlucky --seed 7" in done.stdout
    assert command("replay", "scenario.py::test_unlucky", "--seed", "7", cwd=scenario).returncode == 1
    assert command("replay", "scenario.py::test_unlucky", "--seed", "8", cwd=scenario).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["sweep", "scenario.py"], "netsvc.testing: scenario.py: the name of a function is missing"),
        (["sweep", "nowhere.py::fine"], "netsvc.testing: nowhere.py: no such file"),
        (["search", "scenario.py::two"], "netsvc.testing: scenario.py::two: the parameters are network, server; write"),
        (["sweep", "scenario.py::nothing"], "netsvc.testing: scenario.py has no function nothing"),
        (["sweep", "scenario.py::fine", "--faults", "melt"], "usage: python -m netsvc.testing sweep"),
        (["sweep", "scenario.py::fine", "--jobs", "-1"], "usage: python -m netsvc.testing sweep"),
        (["chaos", "scenario.py::fine", "--seeds", "0"], "usage: python -m netsvc.testing chaos"),
        (["sweep", "scenario.py::asks", "--hosts", "sever"], "netsvc.testing: no host is called 'sever'"),
        (["replay", "scenario.py::fine", "--fault", "melt@3"], "netsvc.testing: 'melt@3' is no fault"),
    ],
)
def test_wrong_arguments_are_an_error_with_status_64(scenario: Path, arguments: list[str], error: str) -> None:
    done = command(*arguments, cwd=scenario)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith(error)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def broken(:\n    pass\n", "scenario.py cannot be imported: SyntaxError: "),
        (
            "import no_such_module\n",
            "scenario.py cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("raise SystemExit(3)\n", "scenario.py cannot be imported: SystemExit: 3"),
        (
            "def it(network, *, other):\n    pass\n",
            "the parameters are network, other; write a function whose only one",
        ),
        ("def it(network):\n    pass\n", "the scenario ends before any event"),
    ],
)
def test_a_file_that_is_no_scenario_is_an_error_of_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "scenario.py").write_text(text)
    done = command("sweep", "scenario.py::it", cwd=tmp_path)
    assert done.returncode == 64
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_scenario_that_leaves_the_simulation_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "scenario.py").write_text(
        "from twisted.internet import protocol, reactor\n"
        "async def it(network):\n    reactor.listenTCP(0, protocol.Factory())\n"
    )
    done = command("sweep", "scenario.py::it", cwd=tmp_path)
    assert done.returncode == 1
    assert "exception: NotSimulatedError: " in done.stdout
    assert done.stderr == ""


ENDLESS = """
import os
from twisted.internet.task import LoopingCall
from twisted.internet.defer import Deferred

async def it(network):
    def swallow():
        try:
            sum(range(1000))
        except BaseException:
            pass
    call = LoopingCall(swallow)
    call.clock = network.host("a").reactor
    call.start(0.001)
    os.write(1, b"begun\\n")  # in one piece, beside that of another process
    await Deferred()
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_a_search_at_once_and_without_a_traceback(tmp_path: Path, jobs: str) -> None:
    (tmp_path / "scenario.py").write_text(ENDLESS)
    with subprocess.Popen(
        [sys.executable, "-m", "netsvc.testing", "search", "scenario.py::it", "--timeout", "1000000", "--jobs", jobs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "begun\n"
            os.killpg(program.pid, signal.SIGINT)
            output, errors = program.communicate(timeout=20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
    assert program.returncode == 130
    assert output.endswith("0 seeds, 0 with a problem\n")
    assert errors == ""


def test_a_closed_pipe_ends_a_search_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "scenario.py").write_text("async def it(network):\n    assert False\n")
    with subprocess.Popen(
        [sys.executable, "-m", "netsvc.testing", "search", "scenario.py::it", "--seconds", "1", "--jobs", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    ) as program:
        assert program.stdout is not None
        program.stdout.close()
        assert program.stderr is not None
        assert program.stderr.read() == b""
    assert program.returncode == 1
