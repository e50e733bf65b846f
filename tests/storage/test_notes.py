"""Notes as bytes: what stands in logs stays readable, and nothing else is taken for a note."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.note_bytes import encode
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
    decode_note,
    encode_note,
)
from tests.storage.test_sessions import NOTES

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "sessions.md"
MESSAGE = Message(b"a/b", b"x", 1, True, b"", 0, 255)
MESSAGE_HEX = "97 c403612f62 c40178 01 c3 c400 00 ccff"

# Never change a row: logs have them.
BYTES: list[tuple[Note, str]] = [
    (SessionOpened(1, "U1", b"c", NEVER_EXPIRES_S, 5, 9), "97 01 01 a25531 c40163 ceffffffff 05 09"),
    (SessionClosed(1, 60, 9), "94 02 01 3c 09"),
    (SessionEnded(5), "92 03 05"),
    (Subscribed(1, b"#", 2, 3), "95 04 01 c40123 02 03"),
    (Unsubscribed(1, b"#"), "93 05 01 c40123"),
    (
        Queued(300, MESSAGE, (Delivery(1, 2, 0, False, (4,)),)),
        f"94 06 cd012c {MESSAGE_HEX} 91 95 01 02 00 c2 91 04",
    ),
    (Sent(5, 300, 1), "94 07 05 cd012c 01"),
    (Received(5, 300), "93 08 05 cd012c"),
    (Done(5, 300), "93 09 05 cd012c"),
    (InboundTaken(1, 65535), "93 0a 01 cdffff"),
    (InboundReleased(1, 65535), "93 0b 01 cdffff"),
    (Retained("U1", b"a/b", MESSAGE), f"94 0c a25531 c403612f62 {MESSAGE_HEX}"),
    (Retained("U1", b"a/b", None), "94 0c a25531 c403612f62 c0"),
    (WillSet(1, MESSAGE, 30), f"94 0d 01 {MESSAGE_HEX} 1e"),
    (WillCleared(1), "92 0e 01"),
    (UserForgotten("U1"), "92 0f a25531"),
    (Written("U1", 3, "k", b"\x01", 2, 300, 9), "98 10 a25531 03 a16b c40101 02 cd012c 09"),
]


@pytest.mark.parametrize(("note", "data"), BYTES, ids=[type(note).__name__ for note, _ in BYTES])
def test_the_bytes_of_a_note_never_change(note: Note, data: str) -> None:
    record = bytes.fromhex("92 cd0100" + data)
    assert encode_note(256, note) == record
    assert decode_note(record) == (256, note)


def test_every_sort_of_note_has_its_bytes_written_down() -> None:
    assert {type(note) for note, _ in BYTES} == set(get_args(Note))


@given(number=st.integers(1, 2**63 - 1), note=NOTES)
def test_any_note_comes_back(number: int, note: Note) -> None:
    assert decode_note(encode_note(number, note)) == (number, note)


NUMBERS = st.integers(0, 2**63 - 1) | st.sampled_from(
    [2**bits - less for bits in (7, 8, 16, 32) for less in (0, 1)]
)
SIZES = st.binary(max_size=300) | st.sampled_from([b"x" * 255, b"x" * 256, b"x" * 65_535, b"x" * 65_536])
IDENTIFIERS = st.lists(st.integers(1, 268_435_455), max_size=20).map(tuple)
CONTENTS = st.builds(
    Message,
    SIZES,
    SIZES,
    st.integers(0, 2),
    st.booleans(),
    SIZES,
    NUMBERS,
    NUMBERS | NUMBERS.map(lambda at: -at),
)
OF_A_MESSAGE = st.one_of(
    st.builds(
        Queued,
        NUMBERS,
        CONTENTS,
        st.lists(
            st.builds(
                Delivery, NUMBERS, st.integers(1, 2), st.integers(0, 65_535), st.booleans(), IDENTIFIERS
            ),
            max_size=20,
        ).map(tuple),
    ),
    st.builds(Sent, NUMBERS, NUMBERS, st.integers(1, 65_535)),
    st.builds(Received, NUMBERS, NUMBERS),
    st.builds(Done, NUMBERS, NUMBERS),
    st.builds(InboundTaken, NUMBERS, st.integers(1, 65_535)),
    st.builds(InboundReleased, NUMBERS, st.integers(1, 65_535)),
)


@given(number=st.integers(1, 2**63 - 1) | NUMBERS, note=OF_A_MESSAGE)
def test_the_notes_of_a_message_are_written_alike_by_compiled_code(number: int, note: Note) -> None:
    assert encode(number, note) == encode_note(number, note)


def test_a_note_for_very_many_sessions_is_written_alike() -> None:
    for count in (15, 16, 65_535, 65_536):
        deliveries = tuple(Delivery(session, 1, 0, False, ()) for session in range(1, count + 1))
        note = Queued(7, MESSAGE, deliveries)
        assert encode(1, note) == encode_note(1, note)


@given(data=st.binary(max_size=40))
def test_other_bytes_are_refused_as_such(data: bytes) -> None:
    try:
        number, note = decode_note(data)
    except NoteFormatError:
        return
    assert decode_note(encode_note(number, note)) == (number, note)


@pytest.mark.parametrize(
    "data", ["", "92 01", "92 01 92 63 05", "92 01 92 03 a15f", "92 01 92 03 05 00", "91 01"]
)
def test_what_is_no_note_is_refused(data: str) -> None:
    with pytest.raises(NoteFormatError, match="cannot be read"):
        decode_note(bytes.fromhex(data))


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert decode_note(bytes.fromhex("92 01 93 03 05 a3646179")) == (1, SessionEnded(5))


def test_the_page_tells_tags_and_fields() -> None:
    page = PAGE.read_text()
    told = {
        name: (int(tag), re.findall(r"`(\w+)`", fields))
        for tag, name, fields in re.findall(r"^\| (\d+) \| `(\w+)` \|(.*?)\|", page, re.MULTILINE)
    }
    assert told == {
        each.__name__: (each.__struct_config__.tag, list(each.__struct_fields__)) for each in get_args(Note)
    }
    for part in (Message, Delivery):
        fields = [field.name for field in msgspec.structs.fields(part)]
        assert re.search(
            rf"^\| `{part.__name__}`.*\| {', '.join(f'`{name}`' for name in fields)} \|$", page, re.MULTILINE
        )


def test_the_pages_examples_are_read_as_it_says() -> None:
    examples = re.findall(r"^((?:[0-9a-f]{2} )+) +number", PAGE.read_text(), re.MULTILINE)
    notes = [decode_note(bytes.fromhex(each)) for each in examples]
    assert notes == [(7, SessionEnded(5)), (8, Sent(5, 300, 1))]


def test_a_text_that_is_not_utf_8_makes_no_note() -> None:
    with pytest.raises(NoteFormatError, match="utf-8"):
        decode_note(bytes.fromhex("92 01 92 0f a2 d6 fa"))
