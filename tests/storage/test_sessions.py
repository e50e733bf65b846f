"""The session store against a plain model: any notes in any portions, again after a crash, and on a full disk."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.disk import DiskFullError
from storage.notes import (
    NEVER_EXPIRES_S,
    Delivery,
    Done,
    InboundReleased,
    InboundTaken,
    Message,
    Note,
    NoteFormatError,
    Queued,
    Received,
    Retained,
    Sent,
    SessionClosed,
    SessionEnded,
    SessionOpened,
    Subscribed,
    Unsubscribed,
    UserForgotten,
    WillCleared,
    WillSet,
    Written,
    encode_note,
)
from storage.session_changes import SessionChanges
from storage.sessions import SessionsFormatError, SessionStore
from tests.storage.full_disk import full_disk
from tests.storage.plain_broker import PlainBroker

MESSAGE = Message(b"a/b", b"21.5", 1, False, b"", 0, 1_700_000_000_000_000)
OPENED = SessionOpened(1, "U000001", b"client", 60, 5, 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    store = SessionStore.open(path)
    yield store
    store.close()


def numbered(*notes: Note, first: int = 1) -> list[bytes]:
    return [encode_note(number, note) for number, note in enumerate(notes, first)]


def rows(path: Path, table: str) -> int:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        count: int = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    database.close()
    return count


# ---- against the model

SESSIONS = st.integers(1, 3)
USERS = st.sampled_from(["U000001", "U000002"])
TOPICS = st.sampled_from([b"a", b"b/c", b"\xff"])
BYTES = st.sampled_from([b"", b"x", b"\x00\xff"])
IDS = st.integers(1, 3)
TIMES = st.integers(0, 2**53)
FLAGS = st.booleans()
MESSAGES = st.builds(Message, TOPICS, BYTES, st.integers(0, 2), FLAGS, BYTES, TIMES, TIMES)
DELIVERIES = st.builds(
    Delivery, SESSIONS, st.integers(1, 2), st.integers(0, 3), FLAGS, st.lists(IDS, max_size=3).map(tuple)
)
EXPIRIES = st.sampled_from([0, 60, NEVER_EXPIRES_S])
FURTHER = 1
# Queued messages are numbered 1, 2, ... by the test, or are a further part of the last one, for other sessions; what is
# said of them mostly concerns those that there are.
MESSAGE_IDS = st.integers(1, 12)
NOTES = st.one_of(
    st.builds(SessionOpened, SESSIONS, USERS, BYTES, EXPIRIES, st.integers(3, 5), TIMES),
    st.builds(SessionClosed, SESSIONS, EXPIRIES, TIMES),
    st.builds(SessionEnded, SESSIONS),
    st.builds(Subscribed, SESSIONS, TOPICS, st.integers(0, 63), st.integers(0, 9)),
    st.builds(Unsubscribed, SESSIONS, TOPICS),
    st.builds(
        Queued,
        st.integers(0, 1),
        MESSAGES,
        st.lists(DELIVERIES, max_size=3, unique_by=lambda each: each.session).map(tuple),
    ),
    st.builds(Sent, SESSIONS, MESSAGE_IDS, IDS),
    st.builds(Received, SESSIONS, MESSAGE_IDS),
    st.builds(Done, SESSIONS, MESSAGE_IDS),
    st.builds(InboundTaken, SESSIONS, IDS),
    st.builds(InboundReleased, SESSIONS, IDS),
    st.builds(Retained, USERS, TOPICS, st.none() | MESSAGES),
    st.builds(WillSet, SESSIONS, MESSAGES, st.integers(0, 60)),
    st.builds(WillCleared, SESSIONS),
    st.builds(UserForgotten, USERS),
    st.builds(Written, USERS, SESSIONS, st.sampled_from("ab"), BYTES, IDS, IDS, TIMES),
)
FIRST = st.permutations([SessionOpened(i, f"U00000{i % 2 + 1}", b"c", 60, 5, 1) for i in (1, 2, 3)])
STEPS = st.lists(st.tuples(st.integers(1, 20), FLAGS, st.integers(0, 30)), max_size=6)


def in_order(notes: list[Note]) -> list[tuple[int, Note]]:
    """Numbered, with gaps, as are the messages."""
    messages = 0
    content, owed = MESSAGE, set[int]()
    told: list[tuple[int, Note]] = []
    for place, note in enumerate(notes):
        each = note
        if isinstance(note, Queued):
            if not (note.message == FURTHER and messages):
                messages, content, owed = messages + 1, note.content, set()
            deliveries = tuple(each for each in note.deliveries if each.session not in owed)
            owed.update(each.session for each in deliveries)
            each = Queued(messages, content, deliveries)
        told.append((place + 1 + place // 7, each))
    return told


OPENINGS: list[Note] = [SessionOpened(i, "U000001", b"c", 60, 5, 1) for i in (1, 2)]
QUEUED = Queued(0, MESSAGE, (Delivery(1, 1, 0, False, ()), Delivery(2, 2, 0, False, ())))


# What is said of a message before it is queued concerns nobody, in one list as in two.
@example(first=OPENINGS, notes=[Received(1, 1), Sent(2, 1, 3), QUEUED], steps=[])
@example(first=OPENINGS, notes=[Received(1, 1), Sent(2, 1, 3), QUEUED], steps=[(4, False, 0)])
@example(first=OPENINGS, notes=[Done(1, 1), QUEUED], steps=[])
@example(first=OPENINGS, notes=[Done(1, 1), Done(2, 1), QUEUED], steps=[(3, False, 0)])
# A message for very many sessions comes in parts.
@example(first=OPENINGS, notes=[QUEUED, Queued(FURTHER, MESSAGE, (Delivery(1, 2, 7, True, (3,)),))], steps=[])
@example(
    first=OPENINGS,
    notes=[
        Queued(0, MESSAGE, (Delivery(1, 1, 0, False, ()),)),
        Queued(FURTHER, MESSAGE, (Delivery(2, 1, 0, False, ()),)),
        Done(2, 1),
    ],
    steps=[(3, False, 0)],
)
@settings(max_examples=150)
@given(first=FIRST, notes=st.lists(NOTES, max_size=60), steps=STEPS)
def test_any_notes_in_any_portions_are_found_again_each_of_them_once(
    first: list[Note], notes: list[Note], steps: list[tuple[int, bool, int]]
) -> None:
    """A step: so many notes in one list, whether it is opened again then, and how many come once more."""
    told = in_order([*first, *notes])
    data = [encode_note(*each) for each in told]
    model = PlainBroker()
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        path = Path(directory) / "sessions.sqlite3"
        store = SessionStore.open(path)
        done = 0
        for count, opens, overlap in [*steps, (len(told), True, 10)]:
            end = min(done + count, len(told))
            store.apply(data[max(0, done - overlap) : end])
            for number, note in told[done:end]:
                model.take(number, note)
            done = end
            if opens:
                store.close()
                store = SessionStore.open(path)
            assert store.load() == model.saved()
            assert {key: store.written(*key) for key in model.written} == model.written
            assert rows(path, "written") == len(model.written)
            assert rows(path, "message") == len({message for message, _ in model.deliveries})
            assert store.statistics().sessions == len(model.sessions)
        store.close()


# ---- single sentences


def test_a_file_of_format_1_is_upgraded_with_all_that_is_in_it(store: SessionStore, path: Path) -> None:
    store.apply(numbered(OPENED, Retained("U000001", b"a/b", MESSAGE)))
    before = store.load()
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("DROP TABLE written; PRAGMA user_version = 1;")
    again = SessionStore.open(path)
    assert again.load() == before
    written = Written("U000001", 3, "key", b"digest", 5, 9, 7)
    again.apply(numbered(written, first=3))
    assert again.written("U000001", 3, "key") == written
    assert again.written("U000001", 4, "key") is None
    assert again.written_counts() == {"U000001": 1}
    again.forget_written(7)
    assert again.written("U000001", 3, "key") == written
    again.forget_written(8)
    assert again.written("U000001", 3, "key") is None
    again.close()


def test_an_empty_store_begins_with_one(store: SessionStore) -> None:
    store.apply([])
    saved = store.load()
    assert (saved.next_number, saved.next_session, saved.next_message) == (1, 1, 1)
    assert saved.sessions == saved.retained == []


def test_ids_of_what_is_gone_are_not_given_again(store: SessionStore, path: Path) -> None:
    delivery = Delivery(9, 1, 0, False, ())
    notes = (SessionOpened(9, "U000001", b"", 0, 4, 1), Queued(70, MESSAGE, (delivery,)), SessionEnded(9))
    store.apply(numbered(*notes, first=500))
    store.close()
    again = SessionStore.open(path)
    saved = again.load()
    assert (saved.next_number, saved.next_session, saved.next_message) == (503, 10, 71)
    assert saved.sessions == []
    again.close()


def test_what_is_acknowledged_within_a_list_costs_no_row() -> None:
    changes = SessionChanges({1: "U000001", 2: "U000001"})
    deliveries = (Delivery(1, 1, 7, False, ()), Delivery(2, 2, 8, False, ()))
    notes = (Queued(1, MESSAGE, deliveries), Done(1, 1), Received(2, 1), Done(2, 1))
    for number, note in enumerate(notes, 1):
        changes.take(number, note)
    assert (changes.fresh, changes.progress, changes.done) == ({}, {}, set())
    assert list(changes.delivery_rows()) == []
    assert changes.message_max == 1


def test_a_message_stays_until_its_last_delivery_is_done(store: SessionStore, path: Path) -> None:
    deliveries = (Delivery(1, 1, 7, False, (3, 4)), Delivery(2, 2, 0, True, ()))
    store.apply(numbered(OPENED, SessionOpened(2, "U000001", b"d", 60, 5, 7), Queued(1, MESSAGE, deliveries)))
    assert rows(path, "message") == 1
    store.apply(numbered(Done(1, 1), Sent(2, 1, 12), Received(2, 1), first=4))
    first, second = store.load().sessions
    assert first.deliveries == []
    assert second.deliveries == [(1, MESSAGE, 2, 12, True, True, ())]
    assert rows(path, "message") == 1
    store.apply(numbered(SessionEnded(2), first=7))
    assert rows(path, "message") == rows(path, "delivery") == 0


def test_what_is_for_a_session_that_ended_leaves_nothing_behind(store: SessionStore, path: Path) -> None:
    late = (
        Queued(2, MESSAGE, (Delivery(1, 1, 0, False, ()),)),
        Subscribed(1, b"#", 1, 0),
        InboundTaken(1, 5),
        WillSet(1, MESSAGE, 0),
    )
    store.apply(numbered(OPENED, Queued(1, MESSAGE, (Delivery(1, 1, 0, False, ()),)), SessionEnded(1), *late))
    tables = ("session", "message", "delivery", "subscription", "inbound", "will")
    assert [rows(path, table) for table in tables] == [0] * 6
    assert store.load().next_message == 3


def test_a_list_with_a_note_that_cannot_be_read_changes_nothing(store: SessionStore) -> None:
    store.apply(numbered(OPENED))
    before = store.load()
    with pytest.raises(NoteFormatError):
        store.apply([*numbered(SessionEnded(1), first=2), b"\x92\x03\x91\x63"])
    assert store.load() == before
    assert store.statistics().notes == 1


@pytest.mark.parametrize("count", [1, 3_000])  # too much for SQLite's cache: fails before the commit
def test_a_list_that_the_disk_refuses_changes_nothing_and_can_be_applied_later(
    store: SessionStore, path: Path, count: int
) -> None:
    store.apply(numbered(OPENED))
    before = store.load()
    large = Message(b"a/b", b"x" * 3_000, 1, False, b"", 0, 0)
    notes = numbered(
        *(Queued(i, large, (Delivery(1, 1, 0, False, ()),)) for i in range(1, count + 1)),
        SessionOpened(2, "U000001", b"", 0, 4, 1),
        Subscribed(2, b"#", 1, 0),
        first=2,
    )
    with full_disk(path.with_name(f"{path.name}-wal")):
        for _ in range(2):
            with pytest.raises(DiskFullError):
                store.apply(notes)
    assert store.load() == before
    assert store.statistics().sessions == 1
    store.apply(notes)
    first, second = store.load().sessions
    assert len(first.deliveries) == count
    assert second.subscriptions == [(b"#", 1, 0)]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_the_file_and_what_sqlite_puts_beside_it(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = SessionStore.open(path)
        store.apply(numbered(OPENED))
        files = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert set(files) >= {"sessions.sqlite3", "sessions.sqlite3-wal"}
    assert set(files.values()) == {0o600}


def test_a_file_of_another_version_is_refused(path: Path) -> None:
    SessionStore.open(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(SessionsFormatError, match="99"):
        SessionStore.open(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database, though it is long enough to be looked at" * 100)
    with pytest.raises(SessionsFormatError, match="not a database"):
        SessionStore.open(path)


def test_what_a_kill_left_in_sqlites_log_is_durable_after_the_start(path: Path, tmp_path: Path) -> None:
    """A checkpoint syncs it; the database file alone then tells the same."""
    killed = SessionStore.open(path)
    killed.apply(numbered(OPENED))
    copy = tmp_path / "copy.sqlite3"
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    killed.close()
    store = SessionStore.open(copy)
    alone = tmp_path / "alone.sqlite3"
    alone.write_bytes(copy.read_bytes())
    assert rows(alone, "session") == 1
    store.close()
