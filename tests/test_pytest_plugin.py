"""Tests of the pytest plugin. Each runs pytest in a new process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replays import run_programs

SECONDS = 60


def run(directory: Path, test: str, *options: str) -> str:
    """Run a test file. Returns the output of pytest."""
    (directory / "test_it.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_netsvc", *options],
        capture_output=True,
        cwd=directory,
        # Loading the other plugins takes a second. tests/test_examples.py tests that pytest finds this plugin.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.stdout + done.stderr


def run_trial(directory: Path) -> str:
    """Run the file ``test_it.py`` with trial. Returns its output."""
    done = subprocess.run(
        [sys.executable, "-m", "twisted.trial", "--temp-directory", str(directory / "trial"), "test_it"],
        capture_output=True,
        cwd=directory,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.stdout + done.stderr


PRINT_SEED = "def test_a(network):\n    print('seed is', network.seed)\n"


def seeds(output: str) -> list[int]:
    return [int(seed) for seed in re.findall(r"seed is (\d+)", output)]


def test_the_name_of_the_test_determines_the_seed(tmp_path: Path) -> None:
    [first] = seeds(run(tmp_path, PRINT_SEED, "-s"))
    assert [first] == seeds(run(tmp_path, PRINT_SEED, "-s"))
    assert [first] != seeds(run(tmp_path, PRINT_SEED.replace("test_a", "test_b"), "-s"))


def test_options_set_the_seed_and_the_number_of_seeds(tmp_path: Path) -> None:
    assert seeds(run(tmp_path, PRINT_SEED, "-s", "--netsvc-seed", "7")) == [7]
    assert seeds(run(tmp_path, PRINT_SEED, "-s", "--netsvc-seed", "7", "--netsvc-seeds", "3")) == [7, 8, 9]
    [first] = seeds(run(tmp_path, PRINT_SEED, "-s"))
    assert seeds(run(tmp_path, PRINT_SEED, "-s", "--netsvc-seeds", "2")) == [first, first + 1]


def test_only_tests_with_a_network_run_with_several_seeds(tmp_path: Path) -> None:
    assert "4 passed" in run(tmp_path, PRINT_SEED + "def test_plain():\n    pass\n", "--netsvc-seeds", "3")


@pytest.mark.parametrize("options", [[], ["--netsvc-seed", "3"], ["--netsvc-seeds", "2"]])
def test_a_failed_test_reports_its_seed_and_the_command_to_repeat_it(tmp_path: Path, options: list[str]) -> None:
    test = """
import pytest

def pytest_generate_tests(metafunc):  # its parameter is before the seed in the name, and the other one behind it
    metafunc.parametrize("first", ["a"])

@pytest.mark.parametrize("second", ["b"])
def test_it(network, first, second):
    host = network.host("alone")
    host.crash()
    assert network.seed == 0
"""
    output = run(tmp_path, test, *options)
    [seed, name] = re.findall(r"seed (\d+); run it again with: pytest '(.*)'", output)[0]
    assert name == "test_it.py::test_it[a-b]"
    assert "alone  crashed" in output
    assert f"seed {seed};" in run(tmp_path, test, name, "--netsvc-seed", seed)
    assert "1 passed" in run(tmp_path, test, name, "--netsvc-seed", "0")


def test_a_logged_failure_and_an_unhandled_deferred_fail_the_test(tmp_path: Path) -> None:
    test = """
from twisted.internet.defer import fail

def test_logged(network):
    network.host("a").reactor.callLater(1, lambda: 1 / 0)
    network.advance(1)

def test_unhandled(network):
    fail(ZeroDivisionError())

def test_expected(network, logged_failures):
    network.host("a").reactor.callLater(1, lambda: 1 / 0)
    network.advance(1)
    assert logged_failures.pop().check(ZeroDivisionError)
"""
    output = run(tmp_path, test)
    assert "3 passed, 2 errors" in output
    assert output.count("ERROR test_it.py::test_logged") == output.count("ERROR test_it.py::test_unhandled") == 1


def test_zero_seeds_is_an_error_of_one_line(tmp_path: Path) -> None:
    output = run(tmp_path, PRINT_SEED, "--netsvc-seeds", "0")
    assert output.strip() == "ERROR: --netsvc-seeds must be at least 1"


def test_a_run_without_networks_imports_neither_netsvc_nor_twisted(tmp_path: Path) -> None:
    test = "import sys\ndef test_it():\n    assert not {'netsvc', 'twisted'} & set(sys.modules)\n"
    assert "1 passed" in run(tmp_path, test)


def test_trial_can_use_a_network(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        """
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from netsvc.testing import Network

class Tests(TestCase):
    def test_it(self):
        network = Network(seed=3)
        host = network.host("host")
        self.assertEqual(network.run(deferLater(host.reactor, 3600, lambda: "late")), "late")

    def test_logged(self):
        network = Network()
        network.host("host").reactor.callLater(1, lambda: 1 / 0)
        network.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
"""
    )
    assert "PASSED (successes=2)" in run_trial(tmp_path)


FORGETFUL = """
from twisted.internet.task import LoopingCall

def test_it(network):
    host = network.host("host")
    network.host("other").reactor.callLater(0, lambda: LoopingCall(print).start(1, now=False))
    network.advance(3)
"""


def test_what_is_left_on_the_real_reactor_fails_the_test_unless_the_global_reactor_is_that_of_the_host(
    tmp_path: Path,
) -> None:
    output = run(tmp_path, FORGETFUL)
    assert "left something on the real reactor: <DelayedCall" in output
    assert "netsvc_global_reactor = true" in output
    assert "1 passed" in run(tmp_path, FORGETFUL, "-o", "netsvc_global_reactor=true")


def test_a_real_socket_fails_a_simulated_test_although_the_program_hides_the_error(tmp_path: Path) -> None:
    test = """
from twisted.internet import protocol, reactor

def test_it(network):
    try:
        reactor.listenTCP(0, protocol.Factory())
    except Exception:
        pass
"""
    output = run(tmp_path, test, "-o", "netsvc_global_reactor=true")
    assert "reactor.listenTCP was used outside of the code of a host" in output
    assert "1 passed, 1 error" in output


def test_programs_that_use_the_global_reactor_run_and_replay_with_another_hash_seed(tmp_path: Path) -> None:
    runs = [run_programs(sys.executable, tmp_path / seed, seed) for seed in ("1", "2")]
    assert len(runs[0]) > 15
    differing = [name for name in runs[0] | runs[1] if runs[0].get(name) != runs[1].get(name)]
    assert not differing


def test_trial_can_install_the_global_reactor(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        """
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
import netsvc.testing

netsvc.testing.install()
netsvc.testing.install()

class Tests(TestCase):
    def test_simulated(self):
        network = netsvc.testing.Network()
        waited = network.host("host").run(lambda: deferLater(reactor, 3600, lambda: "late"))
        self.assertEqual(network.run(waited), "late")

    def test_real(self):
        return deferLater(reactor, 0.001, lambda: None)
"""
    )
    assert "PASSED (successes=2)" in run_trial(tmp_path)


WAITING = """
import pytest
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

@pytest.fixture
def host(network):
    return network.host("host")

async def test_coroutine(network, host):
    await deferLater(host.reactor, 3_000)
    assert network.now == 3_000

async def test_of_a_fixture_with_a_network(host):
    assert await deferLater(host.reactor, 3_000, lambda: "result") == "result"

@inlineCallbacks
def test_generator(network, host):
    yield deferLater(host.reactor, 3_000)
    assert network.now == 3_000

def test_deferred(host):
    return deferLater(host.reactor, 3_000, lambda: None)

async def test_that_fails(host):
    assert await deferLater(host.reactor, 3_000, lambda: "one") == "other"

async def test_that_waits_for_ever(network):
    await Deferred()
"""

DECORATED = """
import pytest_twisted
from twisted.internet.task import deferLater

@pytest_twisted.ensureDeferred
async def test_ensured(network):
    await deferLater(network.host("host").reactor, 3_000)
    assert network.now == 3_000

@pytest_twisted.inlineCallbacks
def test_decorated_generator(network):
    yield deferLater(network.host("host").reactor, 3_000)
    assert network.now == 3_000

@pytest_twisted.ensureDeferred
async def test_without_a_network():
    from twisted.internet import reactor
    await deferLater(reactor, 0.001)
"""

PYTEST_TWISTED = ["-p", "pytest_twisted"]


@pytest.mark.parametrize("options", [[], PYTEST_TWISTED, [*PYTEST_TWISTED, "--reactor=asyncio"]])
def test_coroutines_and_deferreds_of_tests_wait_in_virtual_time(tmp_path: Path, options: list[str]) -> None:
    output = run(tmp_path, WAITING, *options)
    assert "2 failed, 4 passed" in output
    assert "FAILED test_it.py::test_that_fails - AssertionError: assert 'one' == 'other'" in output
    assert "no event is scheduled any more at 0 s" in output
    assert re.search(r"- it waits for: test_that_waits_for_ever \(test_it.py:\d+\) > a Deferred", output)


@pytest.mark.parametrize("options", [[], ["--reactor=asyncio"]])
def test_the_decorators_of_pytest_twisted_wait_in_virtual_time(tmp_path: Path, options: list[str]) -> None:
    assert "3 passed" in run(tmp_path, DECORATED, *PYTEST_TWISTED, *options)


def test_a_coroutine_without_a_network_is_left_to_pytest(tmp_path: Path) -> None:
    assert "async def functions are not natively supported" in run(tmp_path, "async def test_it():\n    pass\n")


def test_coroutines_and_deferreds_of_tests_of_trial_wait_in_virtual_time(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        """
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from netsvc.testing import Network

class InSetUp(TestCase):
    async def setUp(self):
        self.network = Network()
        self.host = self.network.host("host")
        await deferLater(self.host.reactor, 1_000)

    async def tearDown(self):
        await deferLater(self.host.reactor, 1_000)
        self.assertEqual(self.network.now, 3_000)

    def test_deferred(self):
        return deferLater(self.host.reactor, 1_000, lambda: None)

class InTest(TestCase):
    def test_deferred(self):
        return deferLater(Network().host("host").reactor, 1_000, lambda: None)

    async def test_real_time_afterwards(self):
        await deferLater(Network().host("host").reactor, 1_000)
        await deferLater(reactor, 0.001)
        await threads.deferToThread(int)

    def test_many_networks(self):  # the waits of all of them, one in another, would be too deep
        networks = [Network() for _ in range(2_000)]
        return deferLater(networks[-1].host("host").reactor, 1_000, lambda: None)

    async def test_that_waits_for_ever(self):
        Network()
        await Deferred()

    async def test_that_fails(self):
        await deferLater(Network().host("host").reactor, 1_000)
        self.fail("as expected")
"""
    )
    output = run_trial(tmp_path)
    assert "FAILED (failures=1, errors=2, successes=4)" in output
    assert "as expected" in output
    assert re.search(r"no event is scheduled any more at 0 s.*\n- it waits for: .*test_that_waits_for_ever", output)


# Hypothesis

HYPOTHESIS = """
from hypothesis import HealthCheck, given, settings, strategies as st
from twisted.internet.task import deferLater

seen = []


@given(names=st.sets(st.sampled_from("abc")))
def test_examples(network, names):
    assert network.hosts == {}, "the network of another example"
    for name in sorted(names):
        network.host(name)
    network.advance(1)
    assert network.now == 1
    seen.append(network)


def test_they_were_many():
    assert len(set(map(id, seen))) > 3


class TestMethods:
    @given(st.floats(0, 10))
    async def test_coroutines_wait_in_virtual_time(self, network, seconds):
        await deferLater(network.host("host").reactor, seconds)
        assert network.now >= seconds


@given(st.integers())
def test_it_fails(network, number):
    network.host("host")
    network.note("test", f"the number is {number}")
    assert number < 100
"""


def test_hypothesis_gives_each_example_a_network_of_its_own(tmp_path: Path) -> None:
    output = run(tmp_path, HYPOTHESIS, "-p", "_hypothesis_pytestplugin", "-p", "no:randomly")
    assert "1 failed, 3 passed" in output, output
    assert "test  the number is 100" in output  # the trace of the smallest example


def test_hypothesis_still_refuses_other_fixtures_of_one_test(tmp_path: Path) -> None:
    test = (
        HYPOTHESIS
        + """

import pytest


@pytest.fixture
def server(network):
    return network.host("server")


@given(st.integers())
def test_with_a_fixture(network, server, number):
    pass
"""
    )
    output = run(tmp_path, test, "-p", "_hypothesis_pytestplugin", "-k", "test_with_a_fixture")
    assert "function-scoped fixture" in output


MACHINE = """
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis import strategies as st, settings
from netsvc.testing import Network


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.network = Network(seed=1)
        self.hosts = [self.network.host(name) for name in "ab"]
        self.crashed = set()

    @rule(number=st.integers(0, 1))
    def crash_or_restart(self, number):
        host = self.hosts[number]
        host.crash() if host.up else host.restart()
        self.crashed ^= {number}

    @rule(seconds=st.floats(0, 10))
    def advance(self, seconds):
        self.network.advance(seconds)

    @invariant()
    def hosts_are_up(self):
        assert [host.up for host in self.hosts] == [number not in self.crashed for number in (0, 1)]


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
"""


def test_a_state_machine_of_hypothesis_makes_its_own_network(tmp_path: Path) -> None:
    output = run(tmp_path, MACHINE, "-p", "_hypothesis_pytestplugin")
    assert "1 passed" in output, output
