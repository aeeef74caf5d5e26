"""The stores of the chat: what all of them do, and what the one in a SQLite file does besides."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from netsvc.chat.entries import SHOWN_LATER, Draft, Entry, EntryKind, Position
from netsvc.chat.memory_store import UNUSED_LOGS_MAX, MemoryStore
from netsvc.chat.room_log import RoomLog
from netsvc.chat.sqlite_file import SCHEMA
from netsvc.chat.sqlite_store import SqliteStore
from netsvc.chat.sqlite_writer import CHANGES_PER_SWEEP
from netsvc.chat.store import LogState, NewLog, Outcome, Retried, Store, StoreError
from netsvc.net.blocking import RunBlocking, blocking_runner
from netsvc.net.store_counters import StoreCounters
from netsvc.testing import Network
from tests.chat_kills import kill_and_check
from tests.redis_nodes import SimulatedRedisHost, store_on

T = TypeVar("T")

ROOM = "#room"
END = 1 << 50


class Held:
    """Runs blocking calls when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def __call__(self, function: Callable[..., T], *args: object, **kwargs: object) -> Deferred[T]:
        done: Deferred[T] = Deferred()
        self.calls.append((done, lambda: function(*args, **kwargs)))
        return done

    def run(self) -> Callable[[], None]:
        """Run the oldest call. Return a function that answers it."""
        done, call = self.calls.pop(0)
        result = call()
        return lambda: done.callback(result)

    def run_all(self) -> None:
        """Run and answer all calls, and those that follow."""
        while self.calls:
            self.run()()


class Steps(Clock):
    """A clock that makes the calls of one reactor iteration at a time, and notes the processor time that they take."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def callLater(self, delay: float, *call: Any, **kwargs: Any) -> Any:
        # A reactor makes a call without a delay in its next iteration; the clock makes it in the same call of advance.
        return super().callLater(max(delay, 1.0), *call, **kwargs)

    def run(self) -> None:
        """Run one iteration of the reactor."""
        began = time.process_time()
        self.advance(1.0)
        self.times.append(time.process_time() - began)

    def run_all(self) -> None:
        while self.getDelayedCalls():
            self.run()


class SimulatedTime:
    """Runs a simulated network for a moment."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def run_all(self) -> None:
        """Let everything happen that is under way."""
        self.network.advance(1.0)


class Kept:
    """A store in a test, with its time and what it delivers."""

    def __init__(
        self, make: Callable[[RunBlocking, Callable[[], float]], Store], held: Held | Steps | SimulatedTime | None
    ) -> None:
        self.now = 1_000.0
        self.held = held
        self.delivered: list[Entry] = []
        self.begun_anew: list[NewLog] = []
        self.answers: list[Outcome] = []
        self.store = make(held if isinstance(held, Held) else execute, lambda: self.now)
        self.store.open(self.delivered.append, self.begun_anew.append)

    def settle(self) -> None:
        if self.held is not None:
            self.held.run_all()

    def wait(self, deferred: Deferred[T]) -> T:
        """Return the result of a Deferred."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.settle()
        [result] = results
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result  # type: ignore[no-any-return]

    def subscribe(self, room: str = ROOM) -> LogState:
        return self.wait(self.store.subscribe(room))

    def send(
        self, text: str, message_id: str = "", *, kind: EntryKind = EntryKind.SAID, room: str = ROOM, author: str = "a1"
    ) -> None:
        """Append, without waiting for the answer."""
        self.store.append(Draft(room, kind, "alice", text, self.now, author, message_id), self.answers.append)

    def append(self, text: str, message_id: str = "", **others: Any) -> Outcome:
        self.send(text, message_id, **others)
        self.settle()
        return self.answers[-1]

    def texts(self, deferred: Deferred[Any]) -> list[str]:
        return [entry.text for entry in self.wait(deferred)]

    def reopen(self) -> None:
        self.wait(self.store.close())
        self.store.open(self.delivered.append, self.begun_anew.append)


Make = Callable[..., Kept]


KINDS = [
    *("memory", "memory with a clock"),
    *("sqlite", "sqlite answering later", "sqlite without FTS5"),
    "redis",
]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Return a function that makes a store with the given bounds."""
    made: list[Kept] = []

    def make_store(**bounds: Any) -> Kept:
        if request.param == "memory":
            kept = Kept(lambda _, wall: MemoryStore(wall, **bounds), None)
        elif request.param == "memory with a clock":
            clock = Steps()
            kept = Kept(lambda _, wall: MemoryStore(wall, clock, **bounds), clock)
        elif request.param == "redis":
            network = Network()
            SimulatedRedisHost(network)
            node = network.host("node")
            kept = Kept(lambda _, wall: store_on(node, wall, **bounds), SimulatedTime(network))
        else:
            path = str(tmp_path / f"chat{len(made)}.db")
            held = Held() if request.param == "sqlite answering later" else None
            if request.param == "sqlite":
                bounds["indexed_at_once"] = 1
            kept = sqlite_store(path, held, **bounds)
        if request.param == "sqlite without FTS5":
            kept.wait(kept.store.close())
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("DROP TABLE word_index")
            kept.store.open(kept.delivered.append, kept.begun_anew.append)
        made.append(kept)
        return kept

    yield make_store
    for kept in made:
        kept.wait(kept.store.close())


@pytest.fixture
def kept(make: Make) -> Kept:
    """A store that is subscribed to a room."""
    kept = make()
    kept.subscribe()
    return kept


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "chat.db")


def sqlite_store(path: str, held: Held | None = None, **bounds: Any) -> Kept:
    return Kept(lambda run_blocking, wall: SqliteStore(path, run_blocking, wall, **bounds), held)


# What all stores do


def test_entries_are_delivered_in_order_and_then_answered(kept: Kept) -> None:
    places: list[int] = []
    for text in "abc":
        draft = Draft(ROOM, EntryKind.SAID, "alice", text, 1_000.0)
        kept.store.append(draft, lambda answer: places.append(kept.delivered.index(answer)))  # type: ignore[arg-type]
    kept.settle()
    assert [(entry.offset, entry.text) for entry in kept.delivered] == [(1, "a"), (2, "b"), (3, "c")]
    assert places == [0, 1, 2]


def test_a_subscription_tells_the_end_of_the_log(kept: Kept) -> None:
    epoch = kept.subscribe().end.epoch
    assert kept.subscribe() == LogState(Position(epoch, 0), None)
    kept.append("a")
    assert kept.subscribe().end == Position(epoch, 1)


def test_each_room_has_offsets_and_an_epoch_of_its_own(kept: Kept) -> None:
    other = kept.subscribe("#other")
    kept.append("a")
    kept.append("b", room="#other")
    assert [(entry.room, entry.offset) for entry in kept.delivered] == [(ROOM, 1), ("#other", 1)]
    assert kept.delivered[1].epoch == other.end.epoch != kept.delivered[0].epoch


def test_a_retry_is_answered_with_the_first_entry_and_not_delivered(kept: Kept) -> None:
    first = kept.append("a", "m1")
    assert kept.append("a again", "m1") == Retried(first)  # type: ignore[arg-type]
    assert kept.delivered == [first]


def test_a_retry_that_is_appended_together_with_its_original_is_a_retry(kept: Kept) -> None:
    kept.send("a", "m1")
    kept.send("a", "m1")
    kept.send("b", "m2")
    kept.settle()
    assert [entry.text for entry in kept.delivered] == ["a", "b"]
    assert kept.answers == [kept.delivered[0], Retried(kept.delivered[0]), kept.delivered[1]]


def test_ids_of_other_authors_and_rooms_and_empty_ids_are_no_retries(kept: Kept) -> None:
    kept.subscribe("#other")
    kept.append("a", "m1")
    kept.append("b", "m1", author="a2")
    kept.append("c", "m1", room="#other")
    kept.append("d")
    kept.append("e")
    assert [entry.text for entry in kept.delivered] == ["a", "b", "c", "d", "e"]


def test_reading_returns_the_entries_after_an_offset(kept: Kept) -> None:
    for text in "abcd":
        kept.append(text)
    assert kept.wait(kept.store.read(ROOM, 1, 2)) == kept.delivered[1:3]
    assert kept.wait(kept.store.read(ROOM, 4, 2)) == []
    assert kept.wait(kept.store.entry_at(ROOM, 2)) == kept.delivered[1]
    assert kept.wait(kept.store.entry_at(ROOM, 5)) is None


def test_every_field_of_an_entry_is_kept(kept: Kept) -> None:
    kept.append("a \N{GRINNING FACE}' \" \\ %", "m1", kind=EntryKind.ACTION)
    [entry] = kept.delivered
    assert entry[:7] == (ROOM, EntryKind.ACTION, "alice", "a \N{GRINNING FACE}' \" \\ %", 1_000.0, "a1", "m1")
    assert kept.wait(kept.store.read(ROOM, 0, 1)) == [entry]


def test_the_bound_on_entries_removes_the_oldest(make: Make) -> None:
    kept = make(entries_max=3)
    kept.subscribe()
    for text in "abcde":
        kept.append(text, text)
    assert kept.texts(kept.store.read(ROOM, 0, 10)) == ["c", "d", "e"]
    assert kept.wait(kept.store.read(ROOM, 0, 1))[0].offset == 3
    assert kept.texts(kept.store.search(ROOM, "a", END, 10)) == []
    assert isinstance(kept.append("a", "a"), Entry)  # its original is no longer known


def test_the_bound_on_age_removes_the_oldest(make: Make) -> None:
    kept = make(age_max=60.0)
    kept.subscribe()
    kept.append("a")
    kept.now += 50
    kept.append("b")
    kept.now += 20
    for read in (kept.store.read(ROOM, 0, 9), kept.store.newest(ROOM, END, 9), kept.store.search(ROOM, "a", END, 9)):
        assert kept.texts(read) in (["b"], [])
    assert kept.wait(kept.store.entry_at(ROOM, 1)) is None
    assert kept.texts(kept.store.read(ROOM, 0, 9)) == ["b"]
    assert kept.append("c").offset == 3  # type: ignore[union-attr]


def test_without_bounds_everything_is_kept(make: Make) -> None:
    kept = make(entries_max=0, age_max=0.0)
    kept.subscribe()
    kept.append("a")
    kept.now += 1e9
    kept.append("b")
    assert kept.texts(kept.store.read(ROOM, 0, 9)) == ["a", "b"]


def test_the_newest_entries_are_those_that_a_history_shows(kept: Kept) -> None:
    for kind in EntryKind:
        kept.append(kind.value, kind=kind)
    kept.append("", kind=EntryKind.TOPIC)
    shown = [kind.value for kind in EntryKind if kind in SHOWN_LATER]
    assert kept.texts(kept.store.newest(ROOM, END, 10)) == [*shown, ""]
    assert kept.texts(kept.store.newest(ROOM, END, 2)) == [shown[-1], ""]
    assert kept.texts(kept.store.newest(ROOM, 2, 10)) == ["said", "action"]
    assert kept.texts(kept.store.search(ROOM, "joined", END, 10)) == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("deploy", ["Deployed the SERVER", "deploy: server is down"]),
        ("server DEPLOY", ["Deployed the SERVER", "deploy: server is down"]),
        ("down server", ["deploy: server is down"]),
        ("ploy", []),
        ("ÉCOLE", ["l'école e\N{COMBINING ACUTE ACCENT}cole"]),
        ("strasse", ["Straße"]),
        ("日本", ["日本語"]),
        ("c++", ["C++"]),
        ('" OR *', []),
        ("server NOT down", []),
        ("words:server", []),
        ("!?", []),
        ("", []),
        ("deploy server is down 2026-11-29 absent", []),
        ("absent " * 7 + "deploy nothing", []),
        # What is beyond the bounds is ignored.
        ("deploy " * 8 + "absent", ["Deployed the SERVER", "deploy: server is down"]),
        ("a" * 64 + "b", ["a" * 70]),
    ],
)
def test_search_finds_beginnings_of_words_in_any_case(kept: Kept, words: str, found: list[str]) -> None:
    texts = ["Deployed the SERVER", "deploy: server is down", "l'école e\N{COMBINING ACUTE ACCENT}cole", "Straße"]
    for text in [*texts, "日本語", "C++", "a" * 70]:
        kept.append(text)
    assert kept.texts(kept.store.search(ROOM, words, END, 10)) == found


def test_search_returns_the_last_entries_of_one_room_up_to_an_offset(kept: Kept) -> None:
    kept.subscribe("#other")
    for text in ("x1", "x2", "x3", "x4"):
        kept.append(text)
        kept.append(f"{text} elsewhere", room="#other")
    assert kept.texts(kept.store.search(ROOM, "x", END, 2)) == ["x3", "x4"]
    assert kept.texts(kept.store.search(ROOM, "x", 3, 2)) == ["x2", "x3"]


def test_an_erased_text_is_gone_and_its_place_stays(kept: Kept) -> None:
    kept.append("secret")
    kept.append("open")
    kept.wait(kept.store.erase(ROOM, 1))
    entry = kept.wait(kept.store.entry_at(ROOM, 1))
    assert entry is not None
    assert entry.erased
    assert kept.texts(kept.store.read(ROOM, 0, 9)) == ["", "open"]
    assert kept.texts(kept.store.newest(ROOM, END, 9)) == ["open"]
    assert kept.texts(kept.store.search(ROOM, "secret", END, 9)) == []


def test_erasing_what_is_not_there_does_nothing(kept: Kept) -> None:
    kept.wait(kept.store.erase(ROOM, 7))
    assert kept.append("a") == kept.delivered[0]


def test_the_topic_outlives_its_entry(make: Make) -> None:
    kept = make(entries_max=2)
    kept.subscribe()
    topic = kept.append("rules", kind=EntryKind.TOPIC)
    for text in "abc":
        kept.append(text)
    assert kept.wait(kept.store.entry_at(ROOM, 1)) is None
    assert kept.subscribe().topic == topic
    kept.append("", kind=EntryKind.TOPIC)
    assert kept.subscribe().topic is None


def test_nothing_is_delivered_after_the_end_of_a_subscription(kept: Kept) -> None:
    kept.append("a")
    kept.store.unsubscribe(ROOM)
    kept.settle()
    state = kept.subscribe()
    assert state.end == kept.delivered[0].position
    kept.append("b")
    assert [entry.offset for entry in kept.delivered] == [1, 2]


def test_a_log_with_nothing_to_show_is_forgotten_in_the_end(make: Make) -> None:
    kept = make()
    kept.subscribe()
    before = kept.subscribe("#empty").end
    kept.append("", kind=EntryKind.JOINED, room="#empty")
    kept.store.unsubscribe("#empty")
    for _ in range(2 * CHANGES_PER_SWEEP):
        kept.append("a")
    assert kept.subscribe("#empty").end.epoch != before.epoch
    assert kept.subscribe("#empty").end.offset == 0


def test_a_closed_store_can_be_opened_again(kept: Kept) -> None:
    kept.append("a")
    kept.reopen()
    assert kept.subscribe().end == kept.delivered[0].position
    kept.append("b")
    assert kept.texts(kept.store.read(ROOM, 0, 9)) == ["a", "b"]


_TEXTS = st.sampled_from(["a", "ab c", "c B", "Straße", "x-y", ""])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), _TEXTS, st.sampled_from(["", "m1", "m2"]), st.sampled_from(list(EntryKind))),
        st.tuples(st.just("erase"), st.integers(1, 12)),
        st.tuples(st.just("settle")),
        st.tuples(st.just("reopen")),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS, entries_max=st.sampled_from([0, 3]), indexed_at_once=st.sampled_from([1, 3, 500]))
def test_the_file_holds_what_memory_holds(
    steps: list[Any], entries_max: int, indexed_at_once: int, tmp_path: Path
) -> None:
    for file in tmp_path.iterdir():
        file.unlink()
    model = Kept(lambda _, wall: MemoryStore(wall, entries_max=entries_max), None)
    kept = sqlite_store(str(tmp_path / "chat.db"), Held(), entries_max=entries_max, indexed_at_once=indexed_at_once)
    both = (model, kept)
    for each in both:
        each.subscribe()
    for step, *arguments in steps:
        for each in both:
            if step == "send":
                text, message_id, kind = arguments
                each.send(text, message_id, kind=kind)
            elif step == "erase":
                each.store.erase(ROOM, *arguments)
            else:
                each.settle()
                if step == "reopen" and each is kept:
                    each.reopen()
                    each.subscribe()
    logs = []
    for each in both:
        each.settle()
        reads = (
            each.store.read(ROOM, 0, 100),
            each.store.newest(ROOM, 7, 3),
            each.store.search(ROOM, "a", END, 3),
            each.store.search(ROOM, "b c", 9, 3),
        )
        log = [each.delivered, each.answers, each.subscribe(), *map(each.wait, reads)]
        logs.append(str(log).replace(each.subscribe().end.epoch, "epoch"))
    kept.wait(kept.store.close())
    assert logs[0] == logs[1]


# What only the store in memory does

#: NFKC makes this 18 times longer. No text of 1 KB takes longer to search.
SLOW_TEXT = "\ufdfa" * 341


def memory_store(steps: Steps | None = None, **bounds: Any) -> Kept:
    return Kept(lambda _, wall: MemoryStore(wall, steps, **bounds), steps)


def _note(answers: list[tuple[str, int]], room: str, found: Sequence[Entry]) -> None:
    answers.append((room, len(found)))


def size_of(kept: Kept) -> int:
    assert isinstance(kept.store, MemoryStore)
    return kept.store.size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SLOW_TEXT, "absent"),
        (SLOW_TEXT, "صلى الله عليه وسلم absent"),
        ("a b c d e f g " * 70, "a b c d e f g absent"),
        (" ".join(map(str, range(100, 350))), "1 2 3 10 11 12 13 absent"),
        ("hello", "absent"),
    ],
)
def test_an_iteration_of_the_reactor_searches_for_less_than_30_ms(text: str, words: str) -> None:
    steps = Steps()
    kept = memory_store(steps)
    kept.subscribe()
    for _ in range(500):
        kept.send(text)
    for _ in range(2):  # the second time the words of the texts are known
        searches = [kept.store.search(ROOM, words, END, 20) for _ in range(20)]
        kept.settle()
        assert all(search.called for search in searches)
    # Coverage, the garbage collector and other processes make single iterations longer.
    assert sorted(steps.times)[len(steps.times) * 9 // 10] < 0.03


def test_a_search_does_not_wait_for_a_longer_one_that_began_before() -> None:
    steps = Steps()
    kept = memory_store(steps)
    for room, lines, text in (("#long", 400, SLOW_TEXT), ("#short", 1, "hello")):
        kept.subscribe(room)
        for _ in range(lines):
            kept.send(text, room=room)
    answered: list[tuple[str, int]] = []
    for room in ("#long", "#short"):
        kept.store.search(room, "absent", END, 20).addCallback(partial(_note, answered, room))
    kept.settle()
    assert answered == [("#short", 0), ("#long", 0)]


def test_a_search_shows_nothing_that_is_erased_or_forgotten_before_it_ends() -> None:
    steps = Steps()
    kept = memory_store(steps, entries_max=100)
    kept.subscribe()
    for _ in range(100):
        kept.send(f"{SLOW_TEXT} secret")
    found: list[Sequence[Entry]] = []
    kept.store.search(ROOM, "secret", END, 100).addCallback(found.append)
    steps.run()
    kept.store.erase(ROOM, 100)
    kept.send("pushes the first one out")
    kept.settle()
    assert [entry.offset for entry in found[0]] == list(range(2, 100))


def test_a_search_ends_with_its_log() -> None:
    steps = Steps()
    kept = memory_store(steps)
    kept.subscribe()
    kept.send("", kind=EntryKind.JOINED)
    found: list[Sequence[Entry]] = []
    kept.store.search(ROOM, "absent", END, 1).addCallback(found.append)
    kept.store.unsubscribe(ROOM)
    kept.settle()
    assert found == [[]]
    assert size_of(kept) == 0


def test_closing_fails_the_searches_that_are_not_finished() -> None:
    steps = Steps()
    kept = memory_store(steps)
    kept.subscribe()
    search = kept.store.search(ROOM, "a", END, 1)
    kept.wait(kept.store.close())
    with pytest.raises(StoreError, match="closed"):
        kept.wait(search)
    assert not steps.getDelayedCalls()


def test_the_words_that_a_search_keeps_count_until_their_entries_are_gone() -> None:
    log = RoomLog("epoch")
    empty = log.size
    for text in ("one two", "three", "\ufdfa"):
        log.append(Draft(ROOM, EntryKind.SAID, "ann", text, 0.0))
    before = log.size
    assert sum(log.search("absent", 1, END)) > 0
    assert log.size > before
    log.erase(2)
    log.drop_oldest()
    assert log.size > empty
    log.drop_oldest()
    log.drop_oldest()
    assert log.size == empty


@pytest.mark.parametrize("limit", [1, 20])
def test_a_search_looks_at_no_entry_after_the_last_one_that_it_shows(limit: int) -> None:
    log = RoomLog("epoch")
    for _ in range(limit + 5):
        log.append(Draft(ROOM, EntryKind.SAID, "ann", "hello", 0.0))
    assert len(list(log.search("hello", limit, END))) == 1 + limit


def test_a_history_looks_at_no_entry_after_the_last_one_that_it_shows() -> None:
    looked_at = []

    class Kinds(Set[EntryKind]):
        def __contains__(self, kind: object) -> bool:
            looked_at.append(kind)
            return kind is EntryKind.SAID

        def __iter__(self) -> Iterator[EntryKind]:
            return iter([EntryKind.SAID])

        def __len__(self) -> int:
            return 1

    log = RoomLog("epoch")
    for kind in (EntryKind.JOINED, EntryKind.SAID, EntryKind.SAID):
        log.append(Draft(ROOM, kind, "ann", "hello", 0.0))
    assert [entry.offset for entry in log.newest(2, END, Kinds())] == [2, 3]
    assert len(looked_at) == 2


def test_if_all_logs_are_too_large_the_largest_one_loses_its_oldest_entries() -> None:
    kept = memory_store(memory_max=100_000)
    for room in ("#small", "#large"):
        kept.subscribe(room)
    for number in range(20):
        kept.send(f"{number}", room="#small")
    for number in range(300):
        kept.send(f"{number}" * 100, room="#large")
        assert size_of(kept) <= 100_000
    assert len(kept.wait(kept.store.read("#small", 0, 1_000))) == 20
    large = kept.wait(kept.store.read("#large", 0, 1_000))
    assert 50 < len(large) < 300
    assert [entry.offset for entry in large] == list(range(301 - len(large), 301))


def test_one_entry_stays_even_if_it_is_too_large() -> None:
    kept = memory_store(memory_max=1_500)
    kept.subscribe()
    for _ in range(3):
        kept.send("x" * 5_000)
    assert [entry.offset for entry in kept.wait(kept.store.read(ROOM, 0, 9))] == [3]


def test_a_search_removes_no_entries_of_logs_that_are_nearly_too_large() -> None:
    kept = memory_store(memory_max=100_000)
    for room in (ROOM, "#other"):
        kept.subscribe(room)
    while size_of(kept) < 99_000:
        kept.send(" ".join(map(str, range(100))), room=ROOM if len(kept.delivered) % 2 else "#other")
    kept_before = len(kept.delivered)
    before = size_of(kept)
    assert kept.texts(kept.store.search(ROOM, "absent", END, 9)) == []
    assert size_of(kept) == before
    assert sum(len(kept.wait(kept.store.read(room, 0, 1_000))) for room in (ROOM, "#other")) == kept_before


def test_new_lines_displace_the_words_that_a_search_has_kept_before_they_displace_lines() -> None:
    kept = memory_store(memory_max=100_000)
    kept.subscribe()
    while size_of(kept) < 60_000:
        kept.send(" ".join(map(str, range(100))))
    kept.wait(kept.store.search(ROOM, "absent", END, 9))
    assert size_of(kept) > 70_000
    while len(kept.delivered) < 110:
        kept.send(" ".join(map(str, range(100))))
    assert len(kept.wait(kept.store.read(ROOM, 0, 1_000))) == 110


def test_of_too_many_logs_without_members_the_one_that_was_quiet_for_longest_is_forgotten() -> None:
    kept = memory_store()
    epochs = {}
    for number in range(UNUSED_LOGS_MAX + 2):
        room = f"#room{number}"
        epochs[room] = kept.subscribe(room).end.epoch
        kept.now = 2_000.0 + (number if number != 7 else -1)
        kept.send("a", room=room)
        if number:  # one room has members
            kept.store.unsubscribe(room)
    assert kept.subscribe("#room0").end.epoch == epochs["#room0"]
    assert kept.subscribe("#room7").end.epoch != epochs["#room7"]
    assert kept.subscribe("#room1").end.epoch == epochs["#room1"]


# What happens while the store in a file is busy


def test_what_comes_while_a_job_runs_shares_the_next_transaction(path: str) -> None:
    held = Held()
    kept = sqlite_store(path, held)
    kept.subscribe()
    kept.send("a")
    answer = held.run()
    for text in "bcd":
        kept.send(text)
    assert not held.calls
    assert not kept.delivered
    answer()
    assert [entry.text for entry in kept.delivered] == ["a"]
    assert len(held.calls) == 1
    held.run()()
    assert [entry.text for entry in kept.delivered] == ["a", "b", "c", "d"]
    assert not held.calls
    kept.wait(kept.store.close())


@pytest.mark.parametrize("runs_before", [False, True])
@pytest.mark.parametrize("answers_between", [False, True])
def test_a_new_subscription_neither_loses_nor_doubles_what_is_being_appended(
    path: str, runs_before: bool, answers_between: bool
) -> None:
    held = Held()
    kept = sqlite_store(path, held)
    kept.subscribe()
    kept.send("a")
    kept.send("b")
    answer = held.run() if runs_before else None
    kept.store.unsubscribe(ROOM)
    if answer and answers_between:
        answer()
    kept.delivered.clear()
    states: list[LogState] = []
    kept.store.subscribe(ROOM).addCallback(states.append)
    kept.send("c")
    if answer and not answers_between:
        answer()
    kept.settle()
    [state] = states
    assert [entry.offset for entry in kept.delivered] == list(range(state.end.offset + 1, 4))
    assert {entry.epoch for entry in kept.delivered} <= {state.end.epoch}
    assert len(kept.answers) == 3
    kept.wait(kept.store.close())


def test_a_log_is_not_forgotten_while_somebody_subscribes_to_it(path: str) -> None:
    held = Held()
    kept = sqlite_store(path, held)
    kept.subscribe()
    kept.append("", kind=EntryKind.JOINED)
    kept.send("", kind=EntryKind.LEFT)
    kept.store.unsubscribe(ROOM)
    states: list[LogState] = []
    kept.store.subscribe(ROOM).addCallback(states.append)
    for _ in range(CHANGES_PER_SWEEP):
        kept.send("", kind=EntryKind.JOINED)
    kept.settle()
    kept.append("a")
    assert kept.delivered[-1].epoch == states[0].end.epoch
    kept.wait(kept.store.close())


def test_no_other_read_waits_for_a_search(path: str) -> None:
    held = Held()
    kept = sqlite_store(path, held)
    kept.subscribe()
    kept.append("a")
    for _ in range(3):
        kept.store.search(ROOM, "absent", END, 9)
    read = kept.store.read(ROOM, 0, 9)
    assert len(held.calls) == 2  # one step of one search, and the read
    answer_search, answer_read = held.run(), held.run()
    answer_read()
    assert read.called
    answer_search()
    kept.wait(kept.store.close())


@pytest.mark.parametrize("has_index", [False, True])
def test_a_long_search_is_done_in_steps_and_others_take_turns_with_it(path: str, has_index: bool) -> None:
    held = Held()
    # Nothing is in the index yet, or the index takes too long.
    kept = sqlite_store(path, held, indexed_at_once=100 if has_index else 1_000, monotonic=count(step=1.0).__next__)
    kept.subscribe()
    kept.subscribe("#short")
    kept.append("hello", room="#short")
    kept.append("hello there")
    for _ in range(120):
        kept.send(SLOW_TEXT)
    kept.settle()
    answered: list[tuple[str, int]] = []
    for room in (ROOM, "#short"):
        kept.store.search(room, "hello", END, 9).addCallback(partial(_note, answered, room))
    jobs = 0
    while held.calls:
        held.run()()
        jobs += 1
    assert answered == [("#short", 1), (ROOM, 1)]
    assert jobs >= 5
    kept.wait(kept.store.close())


def test_a_search_fails_if_the_store_is_closed_between_its_steps(path: str) -> None:
    held = Held()
    kept = sqlite_store(path, held)
    kept.subscribe()
    for _ in range(120):
        kept.send(SLOW_TEXT)
    kept.settle()
    search = kept.store.search(ROOM, "absent", END, 9)
    answer = held.run()
    closed = kept.store.close()
    answer()
    kept.wait(closed)
    with pytest.raises(StoreError, match="closed"):
        kept.wait(search)


def test_a_search_ends_if_its_log_is_begun_anew_between_its_steps(path: str) -> None:
    held = Held()
    kept = sqlite_store(path, held)
    kept.subscribe()
    for _ in range(120):
        kept.send(SLOW_TEXT)
    kept.settle()
    search = kept.store.search(ROOM, "absent", END, 9)
    answer = held.run()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE rooms SET epoch = 'another'")
    answer()
    assert kept.wait(search) == []
    kept.wait(kept.store.close())


def test_closing_waits_for_what_was_begun(path: str) -> None:
    held = Held()
    kept = sqlite_store(path, held)
    kept.subscribe()
    kept.send("a")
    kept.send("b")
    closed = kept.store.close()
    assert not closed.called
    kept.settle()
    assert closed.called
    assert [isinstance(answer, Entry) for answer in kept.answers] == [True, True]
    kept.store.open(kept.delivered.append, kept.begun_anew.append)
    assert kept.subscribe().end.offset == 2
    kept.wait(kept.store.close())


def test_a_closed_store_refuses(path: str) -> None:
    kept = sqlite_store(path)
    kept.wait(kept.store.close())
    assert str(kept.append("a")) == "the store is closed"
    asked: list[Deferred[Any]] = [kept.store.subscribe(ROOM), kept.store.read(ROOM, 0, 1), kept.store.erase(ROOM, 1)]
    for answer in asked:
        with pytest.raises(StoreError, match="closed"):
            kept.wait(answer)


def test_a_reader_of_another_program_delays_the_removal_of_an_erased_text_and_nothing_else(
    path: str, tmp_path: Path
) -> None:
    kept = sqlite_store(path)
    kept.subscribe()
    kept.append("secret")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM entries").fetchall()
        kept.wait(kept.store.erase(ROOM, 1))
        kept.append("a")
        other.execute("ROLLBACK")
    kept.append("b")
    assert not any(b"secret" in file.read_bytes() for file in tmp_path.iterdir())
    kept.wait(kept.store.close())


def test_a_store_works_on_a_host_of_the_simulated_network(path: str) -> None:
    network = Network(seed=1)
    reactor = network.host("server").reactor
    kept = Kept(lambda _, wall: SqliteStore(path, blocking_runner(reactor), wall), None)
    states: list[LogState] = []
    kept.store.subscribe(ROOM).addCallback(states.append)
    kept.send("a")
    kept.send("b")
    assert not kept.answers
    network.advance(1)
    assert [entry.text for entry in kept.delivered] == ["a", "b"]
    found: list[object] = []
    kept.store.search(ROOM, "b", END, 9).addCallback(found.append)
    closed = kept.store.close()
    network.advance(1)
    assert found == [[kept.delivered[1]]]
    assert closed.called


# What outlives the process


def test_entries_epoch_topic_and_ids_outlive_the_process(path: str) -> None:
    kept = sqlite_store(path)
    kept.subscribe()
    topic = kept.append("rules", kind=EntryKind.TOPIC)
    first = kept.append("a", "m1")
    kept.wait(kept.store.close())
    kept = sqlite_store(path)
    assert isinstance(first, Entry)
    assert kept.subscribe() == LogState(first.position, topic)  # type: ignore[arg-type]
    assert kept.append("a", "m1") == Retried(first)
    assert kept.texts(kept.store.search(ROOM, "rules", END, 9)) == ["rules"]
    kept.append("b")
    assert kept.delivered[0].position == Position(first.epoch, 3)
    kept.wait(kept.store.close())


def test_a_lower_bound_takes_effect_step_by_step(path: str) -> None:
    kept = sqlite_store(path)
    kept.subscribe()
    for number in range(600):
        kept.send(str(number))
    kept.settle()
    kept.wait(kept.store.close())
    kept = sqlite_store(path, entries_max=10)
    kept.subscribe()
    counts = []
    for _ in range(5):
        kept.append("x")
        counts.append(len(kept.wait(kept.store.read(ROOM, 0, 1_000))))
    assert counts == sorted(counts, reverse=True)
    assert 200 <= counts[0] < 600
    assert counts[-1] == 10
    kept.wait(kept.store.close())


def test_an_erased_text_is_nowhere_in_the_files(path: str, tmp_path: Path) -> None:
    kept = sqlite_store(path, entries_max=500, indexed_at_once=20)
    kept.subscribe()
    words = [f"secret{number:04}" for number in range(1_500)]
    for word in words:
        kept.append(f"{word} " + "filler " * (len(kept.delivered) % 40))
    erased = range(1_002, 1_500, 7)
    for offset in erased:
        kept.wait(kept.store.erase(ROOM, offset))

    def left() -> set[str]:
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        return {word for word in words if word.encode() in content}

    gone = {words[offset - 1] for offset in erased}
    assert not left() & gone
    kept.wait(kept.store.close())
    assert not left() & gone


def test_a_killed_process_loses_and_doubles_nothing_that_was_acknowledged(path: str) -> None:
    found = kill_and_check(Path(path), kills=2)
    assert found.acknowledged
    assert found.is_good, found


def test_the_time_until_lines_are_in_the_file_is_counted(path: str) -> None:
    clock, held, counters = Clock(), Held(), StoreCounters("sqlite")
    kept = sqlite_store(path, held, monotonic=clock.seconds, counters=counters)
    assert (counters.is_connected, counters.connections) == (True, 1)
    kept.subscribe()
    kept.send("a")
    clock.advance(2.0)
    kept.send("b")
    clock.advance(0.5)
    assert counters.waiting() == (2, 2.5)
    held.run()()
    assert (counters.appends, counters.append_seconds, counters.waiting()) == (1, 2.5, (1, 0.5))
    held.run()()
    assert (counters.appends, counters.append_seconds, counters.waiting()) == (2, 3.0, (0, 0.0))
    writing_of(kept.store).execute("PRAGMA max_page_count = 1")
    kept.append("x" * 100_000)
    assert (counters.appends, counters.refused, counters.waiting()) == (2, 1, (0, 0.0))
    kept.wait(kept.store.close())
    assert not counters.is_connected


# Failures


def writing_of(store: Store) -> sqlite3.Connection:
    assert isinstance(store, SqliteStore)
    assert store._opened is not None
    return store._opened.file.writing


def test_on_a_full_disk_appends_are_refused_and_everything_else_goes_on(path: str) -> None:
    kept = sqlite_store(path, Held())
    kept.subscribe()
    kept.append("a")
    large = "x" * 3_000
    writing_of(kept.store).execute("PRAGMA max_page_count = 1")  # as many as there are now
    while isinstance(kept.append(large), Entry):
        pass
    last = kept.delivered[-1]
    kept.send(large)
    kept.send("there is space for this, but not for the other one of its transaction")
    kept.send(large)
    kept.settle()
    assert [str(answer) for answer in kept.answers[-4:]] == ["the disk is full"] * 4
    assert kept.delivered[-1] == last
    assert kept.subscribe().end == last.position
    new = kept.subscribe("#new").end
    assert kept.append(large, room="#new").args == ("the disk is full",)  # type: ignore[union-attr]
    assert kept.subscribe("#new").end == new
    assert kept.texts(kept.store.read(ROOM, 0, 1)) == ["a"]
    writing_of(kept.store).execute("PRAGMA max_page_count = 1000000")
    kept.append("b")
    kept.append("c", room="#new")
    assert [entry.position for entry in kept.delivered[-2:]] == [
        Position(last.epoch, last.offset + 1),
        Position(new.epoch, 1),
    ]
    kept.wait(kept.store.close())


def test_a_disk_that_is_really_full_refuses_each_append_and_goes_on_with_new_space(tmp_path: Path) -> None:
    command = ["unshare", "--mount", sys.executable, "-m", "tests.chat_full_disk", str(tmp_path)]
    if (
        os.geteuid()
        or shutil.which("unshare") is None
        or subprocess.run(["unshare", "--mount", "true"], check=False).returncode
    ):
        pytest.skip("it needs root, for a mount namespace")
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    appended, *refused, after, new = done.stdout.splitlines()
    assert int(appended) > 10
    assert refused == ["the disk is full"] * 5
    assert int(after) == int(appended) + 1
    assert new == f"{tmp_path}/new.db: the disk is full; free some space"


def test_a_lock_of_another_program_refuses_appends_until_it_ends(path: str) -> None:
    kept = sqlite_store(path)
    kept.subscribe()
    kept.append("a")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert str(kept.append("b")) == "the database is locked by another program"
        assert kept.subscribe().end.offset == 1
        with pytest.raises(StoreError, match="locked by another program"):
            kept.wait(kept.store.erase(ROOM, 1))
        other.execute("ROLLBACK")
    assert kept.append("c").offset == 2  # type: ignore[union-attr]
    kept.wait(kept.store.close())


def test_a_transaction_that_fails_in_its_middle_leaves_nothing(path: str) -> None:
    kept = sqlite_store(path, indexed_at_once=1)
    kept.subscribe()
    kept.append("a")
    writing_of(kept.store).execute("ALTER TABLE word_index RENAME TO elsewhere")
    assert str(kept.append("b")) == "the database failed: no such table: word_index"
    writing_of(kept.store).execute("ALTER TABLE elsewhere RENAME TO word_index")
    assert kept.append("c").offset == 2  # type: ignore[union-attr]
    assert kept.texts(kept.store.read(ROOM, 0, 9)) == ["a", "c"]
    kept.wait(kept.store.close())


@pytest.mark.logs_failure("UnicodeEncodeError")
def test_a_text_that_cannot_be_stored_stops_nothing(path: str) -> None:
    kept = sqlite_store(path)
    kept.subscribe()
    assert str(kept.append("\ud800")) == "the store failed"
    assert kept.append("a").offset == 1  # type: ignore[union-attr]
    kept.wait(kept.store.close())


def test_a_failed_read_is_a_store_error(path: str) -> None:
    kept = sqlite_store(path)
    kept.subscribe()
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE entries")
    with pytest.raises(StoreError, match="the database failed: no such table: entries"):
        kept.wait(kept.store.read(ROOM, 0, 1))
    assert str(kept.append("a")) == "the database failed: no such table: entries"
    kept.wait(kept.store.close())


def refused(path: str) -> str:
    with pytest.raises(StoreError) as caught:
        sqlite_store(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_file_in_use_is_refused(path: str) -> None:
    kept = sqlite_store(path)
    assert refused(path) == "is in use by another netsvc; end it or name another file"
    kept.wait(kept.store.close())
    kept.store.open(kept.delivered.append, kept.begun_anew.append)
    kept.wait(kept.store.close())


def test_only_the_owner_can_read_the_files(path: str, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kept = sqlite_store(path)
        kept.subscribe()
        kept.append("a")
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        kept.wait(kept.store.close())
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("chat.db", "chat.db-wal", "chat.db-shm", "chat.db-lock"), 0o600)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "none" / "chat.db")) == "there is no such folder; make it"
    assert refused(str(tmp_path)) == "is a folder; name a file in it"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_or_folder_without_permission_is_refused(path: str, tmp_path: Path) -> None:
    reason = "the database cannot be written; allow this user to write it and its folder"
    kept = sqlite_store(path)
    kept.wait(kept.store.close())
    Path(path).chmod(0o400)
    assert refused(path) == reason
    Path(path).chmod(0o000)
    assert refused(path) == reason
    tmp_path.chmod(0o500)
    assert refused(str(tmp_path / "new.db")) == reason
    tmp_path.chmod(0o700)


def test_a_file_that_is_no_database_is_refused_and_not_changed(path: str) -> None:
    Path(path).write_bytes(b"hello " * 1_000)
    assert refused(path) == "is not a database; name another file"
    assert Path(path).read_bytes() == b"hello " * 1_000


def test_the_database_of_another_program_is_refused_and_not_changed(path: str) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = Path(path).read_bytes()
    assert refused(path) == "is a database of another program; name another file"
    assert Path(path).read_bytes() == before


def test_the_schema_of_a_newer_version_is_refused(path: str) -> None:
    kept = sqlite_store(path)
    kept.wait(kept.store.close())
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    assert refused(path) == (
        "was written by a newer netsvc (schema 2, known are up to 1); install that version or name another file"
    )


def test_a_file_that_another_program_has_locked_is_refused(path: str) -> None:
    kept = sqlite_store(path)
    kept.wait(kept.store.close())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert refused(path) == "the database is locked by another program; end that program"
