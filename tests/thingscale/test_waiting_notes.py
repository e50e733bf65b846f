"""Notes that became durable wait for the housekeeping, but not without bound."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.commit import Completed
from storage.disk import DiskFullError
from storage.notes import SessionOpened, encode_note
from storage.store import Store
from thingscale.config import load
from thingscale.daemon import Daemon
from thingscale.settings import store_options


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setattr("thingscale.daemon.NOTES_MAX", 10)
    config = load(None, {"server.data": str(tmp_path)})
    store = Store.open(tmp_path, store_options(config))
    daemon = Daemon(config, store)
    yield daemon
    daemon.close()
    store.close()


def complete(daemon: Daemon, number: int) -> None:
    """A batch with five notes, the first one of this number."""
    notes = [encode_note(number + i, SessionOpened(1, "U000001", b"", 60, 5, 1)) for i in range(5)]
    daemon.on_completed(Completed(1, 0, 5, [], notes, 0.001))


def test_notes_wait_until_there_are_too_many(daemon: Daemon) -> None:
    for number in (1, 6):
        complete(daemon, number)
    assert (len(daemon.store.notes), daemon.store.sessions.statistics().notes) == (10, 0)
    complete(daemon, 11)
    assert (len(daemon.store.notes), daemon.store.sessions.statistics().notes) == (0, 15)


def test_a_full_disk_keeps_them_and_is_not_asked_at_every_batch(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(notes: list[bytes], number: int, message: int) -> None:
        asked.append(len(notes))
        raise DiskFullError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(daemon.store.sessions, "apply", refuse)
        for number in range(1, 61, 5):
            complete(daemon, number)
    assert asked == [15, 35]
    assert daemon.housekeeping.disk_full == 2
    daemon.store.flush_notes()
    assert daemon.store.sessions.load().next_number == 61
    complete(daemon, 61)
    assert len(daemon.store.notes) == 5


def test_what_was_put_off_goes_on_as_soon_as_a_batch_has_room(daemon: Daemon) -> None:
    notebook, journal = daemon.broker.notebook, daemon.store.journal
    size = 100_000
    while notebook.has_room(size):
        notebook.note(SessionOpened(1, "U000001", b"c" * size, 60, 5, 1), 1)
    done: list[int] = []
    notebook.when_there_is_room(size, done.append, 1)
    assert notebook.is_waiting
    assert done == []
    batch = journal.take_batch()
    assert batch is not None
    daemon.on_completed(Completed(1, 0, 5, [], [], 0.001))
    assert len(done) == 1
    assert not notebook.is_waiting
