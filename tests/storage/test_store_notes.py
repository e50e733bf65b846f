"""Notes through log, crash and recovery: in order, each once, and durable elsewhere before the log forgets them."""

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.disk import DiskFullError
from storage.kinds import PayloadKind
from storage.notes import SessionOpened, Subscribed, encode_note
from storage.store import HELD_TURNS, Store
from tests.storage.store_disk import StoreDisk
from tests.storage.store_house import OPTIONS, StoreHouse, empty, fast_place


@pytest.fixture
def place() -> Iterator[Path]:
    with fast_place() as place:
        yield place


@pytest.fixture
def house(place: Path) -> StoreHouse:
    """Six datapoints and their notes, acknowledged, and nothing applied."""
    house = StoreHouse(empty(place), [], 0)
    house.append_all(6)
    return house


def applied(store: Store) -> int:
    return store.sessions.load().next_number - 1


def opened(disk: StoreDisk, house: StoreHouse) -> StoreHouse:
    """The next life; StoreHouse compares what was noted with what is there."""
    rows = house.rows.copy()
    return StoreHouse(disk, rows, min(house.acknowledged, len(rows)))


def test_durable_notes_wait_and_are_applied_when_the_store_is_opened_again(house: StoreHouse) -> None:
    assert (applied(house.store), len(house.store.notes)) == (0, 6)
    house.close()
    found = opened(house.disk, house)
    assert (applied(found.store), len(found.store.notes)) == (6, 0)
    found.check()
    found.close()


def test_notes_that_were_applied_already_are_passed_over_when_the_log_tells_them_again(
    house: StoreHouse,
) -> None:
    """Nothing is sealed, so the log begins with the first one at every start."""
    for count in (6, 9, 12):
        house.store.flush_notes()
        assert applied(house.store) == count
        house.append_all(3)
        house.close()
        house = opened(house.disk, house)
        assert house.store.recovered.rows == len(house.rows) == count + 3
        house.check()
    house.close()


def test_old_notes_are_those_that_were_there_some_turns_ago(house: StoreHouse) -> None:
    for turn in range(HELD_TURNS):
        house.store.flush_old_notes()
        assert applied(house.store) == 0
        house.append_all(1)
        assert len(house.store.notes) == 7 + turn
    for turn in range(HELD_TURNS):
        house.store.flush_old_notes()
        assert applied(house.store) == 6 + turn
    house.store.flush_old_notes()
    assert (applied(house.store), len(house.store.notes)) == (6 + HELD_TURNS, 0)
    house.check()
    house.close()


def test_old_notes_that_the_disk_refuses_are_old_at_the_next_turn(
    house: StoreHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(notes: list[bytes], number: int, message: int) -> None:
        raise DiskFullError(errno.ENOSPC, "full")

    for _ in range(HELD_TURNS):
        house.store.flush_old_notes()
    with monkeypatch.context() as patch:
        patch.setattr(house.store.sessions, "apply", refuse)
        for _ in range(3):
            with pytest.raises(DiskFullError):
                house.store.flush_old_notes()
    house.store.flush_old_notes()
    assert (applied(house.store), len(house.store.notes)) == (6, 0)
    house.close()


def test_a_torn_record_takes_its_notes_with_it(house: StoreHouse) -> None:
    pictures = []
    for _ in range(2):
        assert house.append()
    assert house.noted == 8
    house.disk.on_step = lambda: pictures.append(
        house.disk.picture(house.disk.data.with_name(f"p{len(pictures)}"))
    )
    house.commit()
    house.disk.on_step = lambda: None
    house.close()
    outcomes = set()
    for seed in range(12):
        disk = pictures[-1].picture(house.disk.data.with_name(f"cut-{seed}"))
        disk.cut_power(seed)
        found = StoreHouse(disk, house.rows.copy(), 6)
        outcomes.add((found.store.ring.durable, applied(found.store)))
        found.close()
    assert outcomes == {(6, 6), (8, 8)}


def test_notes_before_a_seal_survive_it_and_the_log_gives_their_room_back(house: StoreHouse) -> None:
    """Without any row too: the cursor passes records of nothing but notes."""
    for turn in range(40):
        note = encode_note(house.noted + 1 + turn, SessionOpened(7 + turn, "U000001", b"x" * 300, 60, 5, 1))
        assert house.store.journal.append(1, PayloadKind.NOTE, 0, 0, b"", note) == 6
        house.commit()
        house.seal()
    assert len(house.disk.log.names(Path("/log"))) <= 3
    house.close()
    store = Store.open(house.disk.data, OPTIONS, house.disk)
    assert store.recovered.records == 0
    assert applied(store) == 46
    assert [session.session for session in store.sessions.load().sessions] == [1, *range(7, 47)]
    store.close()


def test_the_cursor_does_not_move_while_the_session_store_cannot_be_written(
    house: StoreHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(notes: list[bytes], number: int, message: int) -> None:
        raise DiskFullError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(house.store.sessions, "apply", refuse)
        with pytest.raises(DiskFullError):
            house.store.flush_notes()
        assert len(house.store.notes) == 6
        with pytest.raises(DiskFullError):
            house.store.publish_all(None, None)
    assert house.store.catalog.cursor.seq == 0
    house.seal()
    assert (applied(house.store), house.store.catalog.cursor.seq) == (6, 6)
    house.check()
    house.close()


def test_a_seal_in_the_middle_of_recovery_is_passed_by_no_note(house: StoreHouse) -> None:
    for _ in range(8):
        house.append_all(6)
    house.close()
    pictures = []
    disk = house.disk
    disk.on_step = lambda: pictures.append(disk.picture(disk.data.with_name(f"p{len(pictures)}")))
    small = StoreHouse(disk, house.rows.copy(), house.acknowledged, replace(OPTIONS, ring_rows=16))
    disk.on_step = lambda: None
    assert small.store.catalog.cursor.seq > 0
    small.check()
    small.close()
    assert len(pictures) > 4
    for picture in pictures:
        found = StoreHouse(picture, house.rows.copy(), house.acknowledged)
        found.check()
        found.close()


def test_notes_of_a_record_that_a_power_cut_can_still_take_back_are_not_applied_yet(
    house: StoreHouse,
) -> None:
    """A kill came before the sync; the ring is full in the middle of that record, and the power fails during the seal."""
    house.append_all(8)
    pictures: list[StoreDisk] = []
    for _ in range(6):
        assert house.append()
    house.disk.on_step = lambda: pictures.append(
        house.disk.picture(house.disk.data.with_name(f"p{len(pictures)}"))
    )
    house.commit()
    house.disk.on_step = lambda: None
    house.close()
    disk = pictures[-1]
    unsettled: list[StoreDisk] = []
    disk.on_step = lambda: unsettled.append(disk.picture(disk.data.with_name(f"q{len(unsettled)}")))
    small = StoreHouse(disk, house.rows.copy(), 14, replace(OPTIONS, ring_rows=16))
    disk.on_step = lambda: None
    assert small.store.ring.durable == 20
    assert small.store.catalog.cursor.seq == 14
    small.close()
    outcomes = set()
    for number, picture in enumerate(unsettled):
        picture.cut_power(number)
        found = StoreHouse(picture, house.rows.copy(), 14)
        outcomes.add(found.store.ring.durable)
        found.check()
        found.close()
    assert outcomes == {14, 20}


def test_recovery_applies_a_long_logs_notes_in_portions(
    house: StoreHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        house.append_all(4)
    house.close()
    monkeypatch.setattr("storage.store.NOTES_MAX", 10)
    found = opened(house.disk, house)
    statistics = found.store.sessions.statistics()
    assert (applied(found.store), len(found.store.notes)) == (46, 0)
    assert statistics.notes == 38  # of four messages the beginning and the end undid each other
    assert statistics.commits == 4
    found.check()
    found.close()


def test_a_note_larger_than_a_payload_may_be_goes_through(house: StoreHouse) -> None:
    note = encode_note(house.noted + 1, Subscribed(1, b"x" * 700, 0, 0))
    assert len(note) > OPTIONS.limits.payload_bytes_max
    assert house.store.journal.append(1, PayloadKind.NOTE, 0, 0, b"", note) == 6
    house.commit()
    house.close()
    store = Store.open(house.disk.data, OPTIONS, house.disk)
    assert store.sessions.load().sessions[0].subscriptions == [(b"x" * 700, 0, 0)]
    store.close()
