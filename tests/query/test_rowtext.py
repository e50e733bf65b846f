"""query/rowtext.pyx against json and a plain model of a stream entry (contract 3.3)."""

import csv
import datetime
import io
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query.formats.texts import cells_of, names_of
from query.rowtext import FIELDS, LINES, Names, RowEncoder, csv_field, json_string
from query.times import DAY_US, zone_offsets
from storage.kinds import Kind
from storage.wide import TYPES

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
NOON_US = 19_845 * DAY_US + DAY_US // 2
SPRING_US = 1_711_846_800_000_000  # 2024-03-31T01:00:00Z, when Berlin's clocks go from 2 to 3
AUTUMN_US = 1_729_990_800_000_000  # 2024-10-27T01:00:00Z, when they go from 3 to 2

Column = tuple[str | None, Kind]
Row = dict[Column, Any]


def encode(
    columns: Sequence[Column],
    rows: Sequence[Row],
    at_us: Sequence[int],
    *,
    tags: Sequence[str | None] | None = None,
    seq: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
    zone: ZoneInfo = UTC,
    is_first: bool = True,
    arrays: Sequence[pa.Array] | None = None,
) -> bytes:
    """The encoder's text of rows that are given as Python values."""
    if arrays is None:
        arrays = [pa.array([row.get(column) for row in rows], TYPES[column[1]]) for column in columns]
    starts, offsets = zone_offsets(zone, min(at_us), max(at_us))
    return RowEncoder(columns).encode(
        np.array(range(len(rows)) if order is None else order, np.int64),
        np.array(range(len(rows)) if seq is None else seq, np.int64),
        np.array(at_us, np.int64),
        None,
        tag_names(tags or [None] * len(rows)),
        [cells_of(array, column[1]) for array, column in zip(arrays, columns, strict=True)],
        starts,
        offsets,
        is_first,
    )


def tag_names(tags: Sequence[str | None]) -> Names:
    column = pa.chunked_array([pa.array(tags, pa.string()).dictionary_encode()])
    return names_of(column, json_string, b"null")


def entry(row: Row, at_us: int, seq: int, tag: str | None = None, zone: ZoneInfo = UTC) -> dict[str, Any]:
    """What the contract wants to see."""
    values = {name: json.loads(cell) if kind is Kind.JSON else cell for (name, kind), cell in row.items()}
    second = at_us // 1_000_000
    local = (
        datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=second)
    ).astimezone(zone)
    return {
        "_id": f"{second & 0xFFFFFFFF:08x}{seq:016x}",
        "tag": tag,
        "value": values.get(None, values),
        "at": local.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def read(text: bytes) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(b"[" + text + b"]")
    return entries


# ---- values


def test_an_entry_is_written_as_the_contract_shows_it() -> None:
    row = {("temp", Kind.NUMBER): 61.5, ("psi", Kind.NUMBER): 12.0}
    text = encode(list(row), [row], [0x664360C0 * 1_000_000], tags=["north"], seq=[258])
    assert text == (
        b'{"_id":"664360c00000000000000102","tag":"north","value":{"temp":61.5,"psi":12},'
        b'"at":"2024-05-14T13:01:52+0000"}'
    )


@pytest.mark.parametrize("name", [None, "v", "", "two words", 'quo"te', "back\\slash", "ä€😀", "\x00\x1f\n"])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Kind.NUMBER, [0.0, 1.0, -1.5, 0.1, 1e300, 5e-324, -1e-7, 123456.75, 1e16]),
        (Kind.INTEGER, [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 0, 9, 10, -10]),
        (Kind.TEXT, ["", "x", "ä€😀", 'a"b\\c/d', "\x00\x01\x08\x09\x0a\x0b\x0c\x0d\x1f\x7f\x80", "\u2028", "y" * 3_000]),
        (Kind.BOOLEAN, [True, False, True, True, False, True, True, True, False]),
        (Kind.JSON, ["null", "{}", "[]", '{"a":[1,2.5,null,"\\u0000"]}', "123456789012345678901234567890"]),
    ],
)  # fmt: skip
def test_every_kind_comes_back_as_it_was(kind: Kind, values: list[Any], name: str | None) -> None:
    rows: list[Row] = [{(name, kind): value} for value in values]
    at_us = [NOON_US + i for i in range(len(rows))]
    assert read(encode([(name, kind)], rows, at_us)) == [
        entry(row, at, seq) for seq, (row, at) in enumerate(zip(rows, at_us, strict=True))
    ]


def test_types_survive_too() -> None:
    columns: list[Column] = [("n", Kind.NUMBER), ("i", Kind.INTEGER), ("b", Kind.BOOLEAN), ("t", Kind.TEXT)]
    row: Row = dict(zip(columns, (-0.0, 2**62, True, "1"), strict=True))
    assert b'"value":{"n":-0.0,"i":4611686018427387904,"b":true,"t":"1"}' in encode(columns, [row], [NOON_US])


def test_what_json_does_not_have_becomes_null() -> None:
    rows: list[Row] = [{("x", Kind.NUMBER): value} for value in (float("nan"), float("inf"), float("-inf"))]
    assert [each["value"] for each in read(encode([("x", Kind.NUMBER)], rows, [NOON_US] * 3))] == [
        {"x": None}
    ] * 3


def test_a_row_without_values_is_an_empty_object() -> None:
    columns: list[Column] = [("a", Kind.NUMBER), (None, Kind.TEXT)]
    rows: list[Row] = [{}, {columns[0]: 1.0}, {}, {columns[1]: "x"}, {}]
    assert [each["value"] for each in read(encode(columns, rows, [NOON_US] * 5))] == [
        {},
        {"a": 1},
        {},
        "x",
        {},
    ]
    assert [each["value"] for each in read(encode([], [{}, {}], [NOON_US] * 2))] == [{}, {}]


def test_a_stream_of_several_kinds_shows_the_one_that_the_row_has() -> None:
    columns: list[Column] = [("a", kind) for kind in Kind]
    values = [1.5, 2**60, "x", False, "[1]"]
    rows: list[Row] = [{column: value} for column, value in zip(columns, values, strict=True)]
    found = [each["value"] for each in read(encode(columns, rows, [NOON_US] * 5))]
    assert found == [{"a": 1.5}, {"a": 2**60}, {"a": "x"}, {"a": False}, {"a": [1]}]


@pytest.mark.parametrize("character", range(0x90))
def test_every_control_character_is_escaped(character: int) -> None:
    text = f"a{chr(character)}b"
    written = json_string(text.encode())
    assert json.loads(written) == text
    assert min(written) >= 32


@given(st.text())
def test_any_text_is_a_json_string(text: str) -> None:
    assert json.loads(json_string(text.encode())) == text


# ---- tags, order, pieces


def test_each_row_has_its_tag() -> None:
    tags = ["north", None, "süd", 'q"', "north", None]
    found = read(encode([], [{}] * 6, [NOON_US] * 6, tags=tags))
    assert [each["tag"] for each in found] == tags


def test_rows_come_in_the_order_that_is_asked_for() -> None:
    rows: list[Row] = [{(None, Kind.NUMBER): float(i)} for i in range(5)]
    at_us = [NOON_US + 1_000_000 * i for i in range(5)]
    text = encode([(None, Kind.NUMBER)], rows, at_us, order=[4, 0, 2], seq=[10, 11, 12, 13, 2**62])
    assert read(text) == [entry(rows[i], at_us[i], seq) for i, seq in ((4, 2**62), (0, 10), (2, 12))]


def test_only_the_first_row_of_a_reply_has_no_comma_before_it() -> None:
    assert encode([], [{}, {}], [NOON_US] * 2, is_first=False).startswith(b',{"_id"')
    assert encode([], [{}], [NOON_US], order=[]) == b""


def test_an_encoder_may_be_used_again() -> None:
    encoder = RowEncoder([(None, Kind.TEXT)])
    one, zero = np.zeros(1, np.int64), np.zeros(1, np.int32)
    for text in ("short", "long" * 100_000, "short"):
        cells = [cells_of(pa.array([text]), Kind.TEXT)]
        written = encoder.encode(one, one, one, None, Names(zero, [b"null"]), cells, one, one, True)
        assert read(written)[0]["value"] == text


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_there_is_not_is_an_error(row: int) -> None:
    with pytest.raises(IndexError, match="no such row"):
        encode([], [{}] * 3, [NOON_US] * 3, order=[0, row])


def test_a_tag_that_there_is_not_is_an_error() -> None:
    one, index = np.zeros(1, np.int64), np.ones(1, np.int32)
    with pytest.raises(IndexError, match="tag"):
        RowEncoder([]).encode(one, one, one, None, Names(index, [b"null"]), [], one, one, True)


# ---- Arrow's layouts


@pytest.mark.parametrize("first", [0, 1, 7, 8, 9, 63])
@pytest.mark.parametrize("kind", Kind)
def test_slices_with_an_offset_are_read_where_they_begin(kind: Kind, first: int) -> None:
    made: dict[Kind, list[Any]] = {
        Kind.NUMBER: [i / 4 for i in range(100)],
        Kind.INTEGER: [2**60 + i for i in range(100)],
        Kind.TEXT: ["x" * i for i in range(100)],
        Kind.BOOLEAN: [i % 3 == 0 for i in range(100)],
        Kind.JSON: [f"[{i}]" for i in range(100)],
    }
    for with_nulls in (False, True):
        values = [None if with_nulls and i % 5 == 2 else value for i, value in enumerate(made[kind])]
        array = pa.array(values, TYPES[kind]).slice(first, 20)
        rows: list[Row] = [
            {} if value is None else {("v", kind): value} for value in values[first : first + 20]
        ]
        found = read(encode([("v", kind)], rows, [NOON_US] * 20, arrays=[array]))
        assert found == [entry(row, NOON_US, seq) for seq, row in enumerate(rows)]


@pytest.mark.parametrize("kind", Kind)
def test_a_column_of_nulls_adds_nothing(kind: Kind) -> None:
    for array in (
        pa.nulls(9, TYPES[kind]),
        pa.array([None] * 9, TYPES[kind]),
        pa.nulls(12, TYPES[kind]).slice(3),
    ):
        found = read(encode([("v", kind)], [{}] * 9, [NOON_US] * 9, arrays=[array]))
        assert [each["value"] for each in found] == [{}] * 9


def test_texts_of_other_arrow_types_are_taken_too() -> None:
    for array in (
        pa.array(["a", None, "b"], pa.large_string()),
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array(["a", None, "b"], pa.string_view()),
    ):
        found = read(encode([(None, Kind.TEXT)], [{}] * 3, [NOON_US] * 3, arrays=[array]))
        assert [each["value"] for each in found] == ["a", {}, "b"]


# ---- times


@pytest.mark.parametrize("change_us", [SPRING_US, AUTUMN_US])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_batch_may_have_a_change_of_the_clocks_inside(change_us: int, reverse: bool) -> None:
    at_us = [change_us + i * 600_000_000 + j for i in range(-20, 20) for j in (-1, 0)]
    order = list(range(len(at_us)))[:: -1 if reverse else 1]
    found = read(encode([], [{}] * len(at_us), at_us, order=order, zone=BERLIN))
    assert found == [entry({}, at_us[i], i, zone=BERLIN) for i in order]
    assert {each["at"][-5:] for each in found} == {"+0100", "+0200"}


def test_times_in_no_order_find_their_offsets() -> None:
    at_us = [SPRING_US + (i * 7_919 % 400 - 200) * DAY_US for i in range(400)]
    found = read(encode([], [{}] * 400, at_us, zone=BERLIN))
    assert found == [entry({}, at, seq, zone=BERLIN) for seq, at in enumerate(at_us)]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"])
def test_times_before_1970(zone: str) -> None:
    at_us = [0, -1, -999_999, -1_000_000, -1_000_001, -DAY_US, -DAY_US - 1, -20_000 * DAY_US + 1, 1, 999_999]
    found = read(encode([], [{}] * len(at_us), at_us, zone=ZoneInfo(zone)))
    wanted = [entry({}, at, seq, zone=ZoneInfo(zone)) for seq, at in enumerate(at_us)]
    for each in wanted:
        each["at"] = each["at"][:24]  # old offsets have seconds
    assert found == wanted


@given(st.integers(-50_000 * DAY_US, 100_000 * DAY_US))
def test_dates_are_those_of_the_calendar(at_us: int) -> None:
    assert read(encode([], [{}], [at_us])) == [entry({}, at_us, 0)]


# ---- everything together

CELLS = {
    Kind.NUMBER: st.floats(allow_nan=False, allow_infinity=False),
    Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
    Kind.TEXT: st.text(max_size=20),
    Kind.BOOLEAN: st.booleans(),
    Kind.JSON: st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5).map(json.dumps),
}  # fmt: skip


@given(st.data())
def test_any_rows_come_back_as_they_were(data: st.DataObject) -> None:
    columns: list[Column] = data.draw(
        st.lists(st.tuples(st.text(max_size=5), st.sampled_from(Kind)), max_size=6, unique_by=lambda each: each[0])
    )  # fmt: skip
    rows: list[Row] = data.draw(
        st.lists(
            st.fixed_dictionaries({}, optional={column: CELLS[column[1]] for column in columns}), min_size=1, max_size=8
        )
    )  # fmt: skip
    at_us = data.draw(st.lists(st.integers(0, 2**51), min_size=len(rows), max_size=len(rows)))
    tags = data.draw(st.lists(st.none() | st.text(), min_size=len(rows), max_size=len(rows)))
    order = data.draw(st.permutations(range(len(rows))))
    found = read(encode(columns, rows, at_us, tags=tags, order=order, zone=BERLIN))
    wanted = [entry(rows[i], at_us[i], i, tags[i], BERLIN) for i in order]
    assert found == wanted
    for each, i in zip(found, order, strict=True):
        for (name, kind), cell in rows[i].items():
            if kind is Kind.NUMBER:
                assert struct.pack("<d", each["value"][name]) == struct.pack("<d", cell)


# ---- the other shapes


@given(st.text().filter(lambda text: "\x00" not in text))
def test_any_text_is_a_field(text: str) -> None:
    written = csv_field(text.encode()) + b",next\r\n"
    assert list(csv.reader(io.StringIO(written.decode(), newline=""), strict=True)) == [[text, "next"]]
    assert written != b",next\r\n"  # an empty text is not null


@given(st.data())
def test_any_rows_come_back_in_every_shape(data: st.DataObject) -> None:
    columns: list[Column] = data.draw(
        st.lists(st.tuples(st.text(max_size=5), st.sampled_from(Kind)), max_size=6, unique_by=lambda each: each[0])
    )  # fmt: skip
    rows: list[Row] = data.draw(
        st.lists(
            st.fixed_dictionaries({}, optional={column: CELLS[column[1]] for column in columns}), min_size=1, max_size=8
        )
    )  # fmt: skip
    count = len(rows)
    at_us = data.draw(st.lists(st.integers(-(2**50), 2**51), min_size=count, max_size=count))
    seq = data.draw(st.lists(st.integers(0, 2**62), min_size=count, max_size=count))
    devices = data.draw(st.lists(st.text(max_size=4), min_size=count, max_size=count))
    tags = data.draw(st.lists(st.none() | st.text(max_size=4), min_size=count, max_size=count))
    channel = data.draw(st.none() | st.integers(0, 2**31 - 1))
    starts, offsets = zone_offsets(ZoneInfo("Asia/Kathmandu"), min(at_us), max(at_us))
    arrays = [pa.array([row.get(column) for row in rows], TYPES[column[1]]) for column in columns]
    cells = [cells_of(array, column[1]) for array, column in zip(arrays, columns, strict=True)]

    def encoded(shape: int, quote: Callable[[bytes], bytes], null: bytes) -> str:
        names = [
            names_of(pa.chunked_array([pa.array(each, pa.string()).dictionary_encode()]), quote, null)
            for each in (devices, tags)
        ]
        encoder = RowEncoder(columns, shape, channel)
        text = encoder.encode(
            np.arange(count), np.array(seq), np.array(at_us), *names, cells, starts, offsets, True
        )
        return text.decode()

    def time_of(text: str) -> int:
        assert len(text) == 32
        return (datetime.datetime.fromisoformat(text) - EPOCH) // datetime.timedelta(microseconds=1)

    lines = [json.loads(line) for line in encoded(LINES, json_string, b"null").split("\n")[:-1]]
    for line, row, i in zip(lines, rows, range(count), strict=True):
        assert list(line) == ["channel"] * (channel is not None) + ["_id", "at", "device", "tag", "value"]
        wanted = entry(row, at_us[i], seq[i], tags[i])
        assert (line["_id"], line["tag"], line["value"]) == (wanted["_id"], wanted["tag"], wanted["value"])
        assert (line.get("channel"), time_of(line["at"]), line["device"]) == (channel, at_us[i], devices[i])
    fields = encoded(FIELDS, csv_field, b"").replace("\x00", "\ufffd")  # csv of this Python refuses NUL
    read_back = list(csv.reader(io.StringIO(fields, newline=""), strict=True))
    for record, row, i in zip(read_back, rows, range(count), strict=True):
        record = record if channel is None else record[1:]
        assert (int(record[0]), time_of(record[1])) == (seq[i], at_us[i])
        assert record[2:4] == [
            devices[i].replace("\x00", "\ufffd"),
            (tags[i] or "").replace("\x00", "\ufffd"),
        ]
        for column, cell in zip(columns, record[4:], strict=True):
            value = row.get(column)
            if column[1] is Kind.NUMBER and value is not None:
                assert struct.pack("<d", float(cell)) == struct.pack("<d", value)
            elif isinstance(value, bool):
                assert cell == json.dumps(value)
            else:
                assert cell == ("" if value is None else str(value).replace("\x00", "\ufffd"))


def test_what_is_not_a_number_is_an_empty_field() -> None:
    column = [("x", Kind.NUMBER)]
    cells = [cells_of(pa.array([float("nan"), 1.0, float("inf")]), Kind.NUMBER)]
    names = Names(np.zeros(3, np.int32), [b"a"])
    zeros = np.zeros(3, np.int64)
    text = RowEncoder(column, FIELDS).encode(
        np.arange(3), zeros, zeros, names, names, cells, zeros[:1], zeros[:1], True
    )
    assert [line.rpartition(b",")[2] for line in text.split(b"\r\n")[:-1]] == [b"", b"1", b""]
