"""A page's cursor is a text that only we read: what we did not write is refused, never an error of ours."""

import base64
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.cursors import place_of, text_of
from query.errors import ApiError
from query.fleet import decode_cursor, encode_cursor
from query.pages import Cursor

texts = st.text(st.characters(exclude_categories=("Cs",)))
integers = st.integers(-(2**63) + 1, 2**63 - 1)


@given(key=texts, value=texts | integers, device_id=texts)
def test_a_fleets_cursor_is_read_back_under_its_sort_alone(
    key: str, value: str | int, device_id: str
) -> None:
    cursor = encode_cursor(key, value, device_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(cursor, key) == (value, device_id)
    with pytest.raises(ApiError, match="sorted like this"):
        decode_cursor(cursor, f"{key}x")


@given(st.binary(max_size=8), integers, st.none() | integers)
def test_a_ranges_cursor_is_read_back(digest: bytes, below_seq: int, at_us: int | None) -> None:
    cursor = Cursor(digest, below_seq, 3, at_us, at_us)
    assert place_of(text_of(cursor), Cursor) == cursor


@given(
    st.text(max_size=60) | st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(data).decode())
)
def test_what_nobody_gave_is_refused(text: str) -> None:
    for read in (lambda: place_of(text, Cursor), lambda: decode_cursor(text, "device_id")):
        with suppress(ApiError):  # and nothing else
            read()


@pytest.mark.parametrize(
    "place", [["device_id", True, "d"], ["device_id", 2**63, "d"], ["device_id", 1.5, "d"], [], "x"]
)
def test_a_fleets_cursor_holds_what_a_device_has(place: object) -> None:
    text = base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode().rstrip("=")
    with pytest.raises(ApiError):
        decode_cursor(text, "device_id")
