"""Notes that undo each other never reach the session store, and nobody can tell."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.notes import (
    Delivery,
    Done,
    Note,
    NoteFormatError,
    Queued,
    Received,
    Sent,
    SessionEnded,
    SessionOpened,
    Subscribed,
    decode_note,
    encode_note,
)
from storage.sessions import SessionStore
from storage.waiting import WaitingNotes
from tests.storage.plain_broker import PlainBroker
from tests.storage.test_sessions import FIRST, FURTHER, MESSAGE, NOTES, OPENINGS, in_order, numbered

DELIVERED = st.builds(
    lambda qos, sessions: Queued(
        0, MESSAGE, tuple(Delivery(each, qos, 0, False, ()) for each in sorted(sessions))
    ),
    st.integers(1, 2),
    st.sets(st.integers(1, 3), min_size=1),
)
SOON = st.one_of(
    DELIVERED,
    DELIVERED,
    *(
        st.builds(sort, st.integers(1, 3), st.integers(1, 8), *more)
        for sort, more in ((Sent, [st.integers(1, 3)]), (Received, []), (Done, []), (Done, []), (Done, []))
    ),
    NOTES,
)
# So many notes come, what is left up to so many notes ago is applied, and then perhaps the daemon is killed.
STEPS = st.lists(st.tuples(st.integers(1, 20), st.none() | st.integers(0, 30), st.booleans()), max_size=6)


def queued(message: int, *sessions: int) -> Queued:
    return Queued(message, MESSAGE, tuple(Delivery(session, 1, 0, False, ()) for session in sessions))


def waiting(*notes: Note, first: int = 1) -> WaitingNotes:
    found = WaitingNotes(0)
    found.extend(numbered(*notes, first=first))
    return found


def left(found: WaitingNotes, number: int | None = None) -> list[Note]:
    return [decode_note(each)[1] for each in found.portion(number).notes]


# Half of a message for several sessions is in the tables when the rest is told.
@example(first=OPENINGS, notes=[queued(0, 1, 2), Done(1, 1), Done(2, 1)], steps=[(4, 1, True)])
@example(first=OPENINGS, notes=[queued(0, 1), Sent(1, 1, 5), Done(1, 1)], steps=[(3, 0, False), (1, 0, True)])
@example(first=OPENINGS, notes=[queued(0, 1), queued(FURTHER, 2), Done(2, 1)], steps=[(4, 1, True)])
@example(
    first=OPENINGS, notes=[queued(0, 1), Done(2, 1), Done(1, 1), SessionEnded(2)], steps=[(4, None, True)]
)
@settings(max_examples=300)
@given(first=FIRST, notes=st.lists(SOON, max_size=60), steps=STEPS)
def test_any_notes_leave_in_the_tables_what_they_would_one_by_one(
    first: list[Note], notes: list[Note], steps: list[tuple[int, int | None, bool]]
) -> None:
    told = in_order([*first, *notes])
    log = [encode_note(*each) for each in told]
    model = PlainBroker()
    for number, note in told:
        model.take(number, note)
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        store = SessionStore.open(Path(directory) / "sessions.sqlite3")
        found = WaitingNotes(store.applied)
        done = 0
        for count, behind, is_killed in [*steps, (len(told), None, False), (0, 0, False)]:
            end = min(done + count, len(told))
            found.extend(log[done:end])
            if behind is not None and end > behind:
                portion = found.portion(told[end - 1 - behind][0])
                store.apply(*portion)
                found.on_applied(portion)
                assert store.applied >= told[end - 1 - behind][0]
            if is_killed:
                found = WaitingNotes(store.applied)
                found.extend(log[:end])  # the log tells everything again
            done = end
        assert len(found) == 0
        assert store.load() == model.saved()
        assert store.applied == model.number
        store.close()


def test_a_message_that_everybody_has_acknowledged_leaves_nothing_but_the_numbers() -> None:
    found = waiting(queued(7, 1), Sent(1, 7, 3), Received(1, 7), Done(1, 7))
    assert len(found) == 0
    assert found.portion() == ([], 4, 7)


def test_what_one_of_several_sessions_is_still_owed_stays_in_order_without_the_others() -> None:
    found = waiting(
        Subscribed(1, b"#", 1, 0), queued(7, 1, 2), SessionEnded(3), Sent(1, 7, 4), Sent(2, 7, 1), Done(1, 7)
    )
    assert left(found) == [Subscribed(1, b"#", 1, 0), queued(7, 2), SessionEnded(3), Sent(2, 7, 1)]
    assert len(found) == 4
    found.extend(numbered(Done(2, 7), first=7))
    assert left(found) == [Subscribed(1, b"#", 1, 0), SessionEnded(3)]
    assert len(found) == 2


def test_many_sessions_leave_the_one_that_is_away() -> None:
    """What a thousand have acknowledged costs the tables one row, not a thousand notes."""
    everybody = range(1, 1001)
    found = waiting(queued(7, *everybody), *(Done(session, 7) for session in everybody if session != 300))
    assert left(found) == [queued(7, 300)]
    assert len(found) == 1


def test_a_further_part_of_a_message_belongs_to_it() -> None:
    found = waiting(queued(7, 1), queued(7, 2, 3), Done(2, 7), Done(1, 7))
    assert left(found) == [queued(7, 3)]
    assert left(found, 1) == []
    found.extend(numbered(Done(3, 7), first=5))
    assert found.portion() == ([], 5, 7)


def test_a_portion_that_ends_between_the_parts_leaves_the_second_one_without_who_is_done() -> None:
    found = waiting(queued(7, 1, 2), queued(7, 3, 4), Done(4, 7), Done(1, 7))
    assert left(found, 1) == [queued(7, 2)]
    found.on_applied(found.portion(1))
    assert left(found) == [queued(7, 3)]
    assert len(found) == 1


def test_what_is_told_of_others_than_those_who_are_owed_it_undoes_nothing() -> None:
    notes: list[Note] = [queued(7, 1), Done(2, 7), Done(1, 8), Received(3, 7)]
    assert left(waiting(*notes)) == notes


def test_a_note_that_is_in_the_tables_takes_no_other_one_with_it() -> None:
    """The table has the message: its end must come there."""
    found = WaitingNotes(1)
    found.extend(numbered(queued(7, 1), Done(1, 7)))
    assert left(found) == [Done(1, 7)]


def test_a_portion_ends_at_its_number_and_what_is_told_later_concerns_the_tables() -> None:
    found = waiting(queued(1, 1), queued(2, 1), Done(1, 1), queued(3, 1), Sent(1, 2, 9))
    assert left(found, 2) == [queued(2, 1)]
    assert left(found, 4) == [queued(2, 1), queued(3, 1)]
    found.on_applied(found.portion(2))
    found.extend(numbered(Done(1, 2), Done(1, 3), first=6))
    assert left(found) == [Sent(1, 2, 9), Done(1, 2)]
    assert len(found) == 2


def test_what_was_asked_for_and_not_applied_is_still_there() -> None:
    found = waiting(queued(1, 1), SessionOpened(1, "U1", b"c", 60, 5, 1))
    assert found.portion() == found.portion()
    assert len(found) == 2


@given(data=st.binary(max_size=60), cut=st.integers(0, 60))
def test_what_is_no_note_is_kept_for_who_has_the_words_for_it(data: bytes, cut: int) -> None:
    whole = encode_note(3, queued(7, 1, 300))
    for each in (data, b"\x92\x03\x94\x06" + data, whole[:cut], whole[:cut] + data):
        found = WaitingNotes(0)
        found.extend([each])
        try:
            number, _ = decode_note(each)
        except NoteFormatError:
            assert found.portion().notes == [each]
        else:
            assert found.portion().notes == ([each] if number > 0 else [])


def test_it_is_the_session_store_that_refuses_it(tmp_path: Path) -> None:
    store = SessionStore.open(tmp_path / "sessions.sqlite3")
    found = WaitingNotes(0)
    found.extend([*numbered(SessionOpened(1, "U1", b"c", 60, 5, 1)), b"\x92\x03\x91\x63"])
    with pytest.raises(NoteFormatError):
        store.apply(*found.portion())
    assert store.applied == 0
    store.close()
