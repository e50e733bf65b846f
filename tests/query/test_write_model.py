"""What is written over REST, in every format and with times in any order, against a plain Python model.

The model knows the rows that each request had. Readings of devices come between them, and everything is sealed and
published now and then, so late rows of closed days meet files that are there already.
"""

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from query import plan
from query.formats import texts
from storage.cover import DAY_US
from storage.journal import Limits
from tests.query.filled_store import WRITE_FUTURE_S, WRITE_ROWS_MAX, FilledStore, Reading, moment, plain
from tests.query.test_range_model import MONDAY_US, check_ranges, payload, times

DEVICES = ("a", "b/2", "süd 3")
TAGS = (None, None, "north", "süd")
PATH = "/v2/stream/1"
NOW_US = MONDAY_US + 30 * DAY_US
YEAR_1_US = -62_135_596_800_000_000


class Row:
    """What a request says of a datapoint; None is not said."""

    def __init__(self, source: random.Random, value: Any) -> None:
        self.value = value
        self.tag = source.choice(TAGS)
        self.device = source.choice([None, *DEVICES])
        self.at_us = None if source.random() < 0.2 else any_time(source)


def any_time(source: random.Random) -> int:
    """Mostly of the last days, some of other centuries, some ahead of the clock."""
    choice = source.random()
    if choice < 0.6:
        return MONDAY_US + source.randrange(5 * DAY_US)
    if choice < 0.8:
        return MONDAY_US + source.choice([-1, 0, 1]) + source.randrange(3) * DAY_US
    if choice < 0.9:
        return source.randrange(YEAR_1_US + 2 * DAY_US, MONDAY_US)
    return NOW_US + source.randrange(-DAY_US, int(WRITE_FUTURE_S) * 1_000_000)


def at_text(source: random.Random, at_us: int) -> str:
    return moment(at_us) if source.random() < 0.5 else moment(at_us).replace("Z", "+00:00")


def keyed(source: random.Random, row: Row) -> dict[str, Any]:
    """The row as an object; what is not said may be null."""
    said = {
        "at": None if row.at_us is None else at_text(source, row.at_us), "tag": row.tag, "device": row.device,
    }  # fmt: skip
    found = {name: word for name, word in said.items() if word is not None or source.random() < 0.3}
    if source.random() < 0.2:
        found["_id"] = "6632e5a0000000000000002a"
    return {**found, "value": row.value} if source.random() < 0.5 else {"value": row.value, **found}


Body = tuple[bytes, str]


def as_json(source: random.Random, sent: list[Row]) -> Body:
    text = json.dumps([keyed(source, row) for row in sent], ensure_ascii=source.random() < 0.5)
    return text.encode(), source.choice(["application/json", "application/x-www-form-urlencoded", ""])


def as_ndjson(source: random.Random, sent: list[Row]) -> Body:
    lines = [json.dumps(keyed(source, row)) + source.choice(["\n", "\r\n", "\n\n"]) for row in sent]
    return "".join(lines).rstrip("\n").encode(), "application/x-ndjson"


def columns(source: random.Random, sent: list[Row]) -> tuple[list[str], list[list[Any]]]:
    """The same as columns: fixed ones where somebody says something, and the streams."""
    streams = sorted({name for row in sent for name in row.value})
    names = ["at", "device", "tag", *streams]
    table: list[list[Any]] = [
        [row.at_us for row in sent], [row.device for row in sent], [row.tag for row in sent],
        *([row.value.get(name) for row in sent] for name in streams),
    ]  # fmt: skip
    kept = [i for i, column in enumerate(table) if i > 2 or any(each is not None for each in column)]
    source.shuffle(kept)
    return [names[i] for i in kept], [table[i] for i in kept]


def as_csv(source: random.Random, sent: list[Row]) -> Body:
    names, table = columns(source, sent)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=source.choice(["\n", "\r\n"]))
    writer.writerow(names)
    for fields in zip(*table, strict=True):
        cells = [
            "" if each is None else at_text(source, each) if name == "at" else json.dumps(each)
            if isinstance(each, bool | int | float) else each
            for name, each in zip(names, fields, strict=True)
        ]  # fmt: skip
        writer.writerow(cells)
    return text.getvalue().encode(), "text/csv; charset=utf-8"


def as_table(source: random.Random, sent: list[Row]) -> pa.Table:
    names, table = columns(source, sent)
    arrays = []
    for name, column in zip(names, table, strict=True):
        array = pa.array(column, pa.timestamp("us", "UTC") if name == "at" else None)
        if pa.types.is_string(array.type) and source.random() < 0.5:
            array = array.dictionary_encode()
        arrays.append(array)
    return pa.table(dict(zip(names, arrays, strict=True)))


def as_arrow(source: random.Random, sent: list[Row]) -> Body:
    table = as_table(source, sent)
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=source.choice([None, "zstd", "lz4"]))
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, source.choice([1, 3, None]))
    return sink.getvalue(), "application/vnd.apache.arrow.stream"


def as_parquet(source: random.Random, sent: list[Row]) -> Body:
    sink = io.BytesIO()
    pq.write_table(as_table(source, sent), sink, row_group_size=source.choice([2, 1_000]))
    return sink.getvalue(), "application/vnd.apache.parquet"


def typed(source: random.Random) -> Callable[[], Any]:
    """Values of one stream that every format can hold; a text never looks like something else."""
    return source.choice(
        [
            lambda: round(source.gauss(20, 5), 2),
            lambda: source.randrange(-50, 50),
            lambda: source.choice([2**53 + 1, -(2**62)]),
            lambda: source.choice(["on", "ü€😀", 'q"\\,\n', "1 2", "null", "-", "nan"]),
            lambda: source.random() < 0.5,
        ]
    )


def sent_rows(source: random.Random, count: int, form: Callable[..., Body]) -> list[Row]:
    if form in (as_json, as_ndjson):
        return [Row(source, payload(source)) for _ in range(count)]
    makers = {
        name: typed(source) for name in source.sample(["temp", "hum", "a b", "ü"], source.randrange(1, 4))
    }
    return [
        Row(source, {name: make() for name, make in makers.items() if source.random() < 0.8} or {"n": 1})
        for _ in range(count)
    ]


FORMS = (as_json, as_ndjson, as_csv, as_arrow, as_parquet)


def write(house: FilledStore, source: random.Random, form: Callable[..., Body]) -> None:
    """One request, and what the model makes of it."""
    sent = sent_rows(source, source.choice([1, 2, 5, 40]), form)
    body, label = form(source, sent)
    headers = {"Content_Type": label} if label else {}
    tag, device = source.choice([None, "other"]), source.choice([None, "a"])
    headers |= {"X_TAGNAME": tag} if tag else {}
    headers |= {"X_DEVICEID": device} if device else {}
    first = house.store.ring.written
    assert house.send("POST", PATH, body, **headers) == (201, {"stored": len(sent)}), body
    for i, row in enumerate(sent):
        at_us = house.now_us if row.at_us is None else row.at_us
        house.readings.append(
            Reading(first + i, at_us, row.device or device or "", row.tag or tag, row.value)
        )


@pytest.fixture
def source(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"writes {getattr(request, 'param', 0)}")


@pytest.fixture
def house(tmp_path: Path, source: random.Random) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", DEVICES, ring_rows=source.choice([128, 1024]))
    house.now_us = NOW_US
    yield house
    house.close()


@pytest.mark.parametrize("source", range(4), indirect=True)
def test_what_is_written_in_any_format_is_read_back_in_the_order_of_its_times(
    house: FilledStore, source: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source.random() < 0.5:
        monkeypatch.setattr(plan, "WINDOW_ROWS", 11)
        monkeypatch.setattr(texts, "PIECE_ROWS", 7)
    clock = times(source)
    for _ in range(4):
        for form in source.sample(FORMS, len(FORMS)):
            write(house, source, form)
            for _ in range(source.randrange(4)):
                house.append(payload(source), next(clock), source.choice(DEVICES), source.choice(TAGS))
            action = source.random()
            if action < 0.3:
                house.seal()
            elif action < 0.4:
                house.seal()
                house.publish(NOW_US)
            house.now_us += source.randrange(10_000_000)
        house.commit()
        check_ranges(house, source, 4)
    house.reopen()
    check_ranges(house, source, 4)
    house.seal()
    house.publish(NOW_US + 5 * DAY_US)
    check_ranges(house, source, 6)


# ---- one value


@pytest.mark.parametrize(
    "value",
    [{"temp": 61.5, "psi": 12}, 7, "süd", None, True, {}, {"value": 1, "at": "2024-05-02"}, {"in": [1]}],
)
def test_any_other_json_is_one_datapoint_of_now(house: FilledStore, value: Any) -> None:
    assert house.send("POST", PATH, value) == (201, {"stored": 1})
    (entry,) = house.stream(X_ENDTIME="last")["stream"]
    assert plain(entry["value"]) == plain(value)
    assert entry["at"] == Reading(0, NOW_US, "", None, value).entry["at"]


def test_no_rows_are_no_error(house: FilledStore) -> None:
    for body, label in ((b"[]", ""), (b"", "application/x-ndjson"), (b"a,b\n", "text/csv")):
        assert house.send("POST", PATH, body, Content_Type=label) == (201, {"stored": 0})
    assert house.stream(X_ENDTIME="2999-01-01")["stream"] == []


def test_a_csv_of_value_alone_has_literals(house: FilledStore) -> None:
    body = b"seq,at,value\n17,2024-05-02T10:00:00Z,21.5\n18,2024-05-02T11:00:00Z,off\n"
    assert house.send("POST", PATH, body, Content_Type="text/csv") == (201, {"stored": 2})
    assert [entry["value"] for entry in house.stream(X_ENDTIME="2999-01-01")["stream"]] == [21.5, "off"]


def test_a_table_without_zones_is_local_and_not_a_number_is_no_value(house: FilledStore) -> None:
    sink = io.BytesIO()
    at = pa.array([1_714_600_800, 1_714_604_400], pa.timestamp("s"))
    temp = pa.array([float("nan"), 1.5], pa.float32())
    table = pa.table({"at": at, "temp": temp, "more": pa.array([[1.5, None], None])})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    label = "application/vnd.apache.arrow.stream"
    assert house.send("POST", PATH, sink.getvalue(), Content_Type=label) == (201, {"stored": 2})
    first, second = house.stream(X_ENDTIME="2999-01-01")["stream"]
    assert (first["value"], first["at"]) == ({"more": [1.5, None]}, "2024-05-01T22:00:00+0200")
    assert (second["value"], second["at"]) == ({"temp": 1.5}, "2024-05-01T23:00:00+0200")


# ---- refusals: nothing of the request is stored

GOOD = '{"value":1},'
JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"


@pytest.mark.parametrize(
    ("label", "body", "status", "token", "beginning"),
    [
        (JSON, "", 400, "BAD_JSON_FORMAT", "the body is empty"),
        (JSON, "{", 400, "BAD_JSON_FORMAT", "row 1: the value is not JSON"),
        (JSON, f"[{GOOD}", 400, "BAD_JSON_FORMAT", "the body is not an array"),
        (JSON, f"[{GOOD}1]", 400, "BAD_JSON_FORMAT", "row 2: "),
        (JSON, f'[{GOOD}{{"at":"2024-05-02"}}]', 400, "BAD_JSON_FORMAT", "row 2: "),
        (JSON, f'[{GOOD}{{"value":1,"att":""}}]', 400, "BAD_JSON_FORMAT", "row 2: "),
        (JSON, f'[{GOOD}{{"value":1,"at":5}}]', 400, "BAD_JSON_FORMAT", "row 2: at: "),
        (JSON, f'[{GOOD}{{"value":1,"at":"yesterday"}}]', 400, "BAD_TIME_FORMAT", "row 2: at: "),
        (JSON, f'[{GOOD}{{"value":1,"at":"2999-01-01"}}]', 400, "BAD_TIME_FORMAT", "row 2: at: further"),
        (JSON, f'[{GOOD}{{"value":1,"at":"0001-01-01T12:00Z"}}]', 400, "BAD_TIME_FORMAT", "row 2: at: not within"),
        (JSON, f'[{GOOD}{{"value":1,"device":"x"}}]', 404, "NO_DEVICE", "row 2: device: "),
        (JSON, f'[{GOOD}{{"value":1,"tag":"\\u0001"}}]', 400, "TAG_INVALID", "row 2: tag: "),
        (JSON, f'[{GOOD}{{"value":1,"tag":"{"t" * 129}"}}]', 400, "TAG_INVALID", "row 2: "),
        (JSON, f'[{GOOD}{{"value":1e999}}]', 400, "NUMBER_OUT_OF_RANGE", "row 2: "),
        (JSON, f'[{GOOD}{{"value":{"[" * 40}{"]" * 40}}}]', 400, "JSON_TOO_DEEP", "row 2: "),
        (JSON, f'[{GOOD}{{"value":{{"{"k" * 257}":1}}}}]', 400, "KEY_TOO_LONG", "row 2: "),
        (JSON, f'[{GOOD}{{"value":"{"x" * 65_536}"}}]', 413, "PAYLOAD_TOO_LARGE", "row 2: "),
        (JSON, f"[{GOOD * WRITE_ROWS_MAX}{GOOD[:-1]}]", 413, "BODY_TOO_LARGE", "more than 500 rows"),
        (NDJSON, '{"value":1}\n\n{"valu":1}', 400, "BAD_JSON_FORMAT", "line 3: "),
        (NDJSON, '{"value":1}\n\n{"value":"\\ud800"}', 400, "BAD_JSON_FORMAT", "line 3: "),
        (NDJSON, '{"value":1}\n\n{"value":1e999}', 400, "NUMBER_OUT_OF_RANGE", "line 3: "),
        (CSV, "a,b\n1,2\n3\n", 400, "BAD_BODY_FORMAT", "line 3: 1 fields"),
        (CSV, 'a,b\n1,"2\n\n3"\n3,4,5\n', 400, "BAD_BODY_FORMAT", "line 5: 3 fields"),
        (CSV, 'a,b\n1,2\n3,"4', 400, "BAD_BODY_FORMAT", "line 3: "),
        (CSV, "a,a\n1,2\n", 400, "BAD_BODY_FORMAT", "column 'a'"),
        (CSV, "at,tag\n2024-05-02,x\n", 400, "BAD_BODY_FORMAT", "there is no column"),
        (CSV, "", 400, "BAD_BODY_FORMAT", "there is no column"),
        (CSV, "at,a\n2024-05-02,1\n2024-13-02,1\n", 400, "BAD_TIME_FORMAT", "line 3: at: "),
        (CSV, b"a\n\xff\n", 400, "BAD_BODY_FORMAT", "the body is not UTF-8"),
        (ARROW, b"ARROW1", 400, "BAD_BODY_FORMAT", "the body is not an Arrow"),
        (PARQUET, b"PAR1PAR1", 400, "BAD_BODY_FORMAT", "the body is not a Parquet"),
    ],
)  # fmt: skip
def test_a_bad_row_refuses_all_of_them_by_its_number(
    house: FilledStore, label: str, body: str | bytes, status: int, token: str, beginning: str
) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    found, reply = house.send("POST", PATH, data, Content_Type=label)
    assert (found, reply["error"]) == (status, token)
    assert reply["detail"].startswith(beginning)
    assert house.store.ring.written == house.store.schema.column_count == house.store.schema.tag_count == 0


def test_columns_of_other_types_and_infinity_are_refused(house: FilledStore) -> None:
    for column, token in (
        (pa.array([1, 2], pa.date32()), "BAD_BODY_FORMAT"),
        (pa.array([b"x", b"y"]), "BAD_BODY_FORMAT"),
        (pa.array([1.0, float("inf")]), "NUMBER_OUT_OF_RANGE"),
        (pa.array([[1.0], [float("-inf")]]), "NUMBER_OUT_OF_RANGE"),
    ):
        sink = io.BytesIO()
        pq.write_table(pa.table({"a": column}), sink)
        status, reply = house.send("POST", PATH, sink.getvalue(), Content_Type=PARQUET)
        assert (status, reply["error"]) == (400, token)
    assert house.store.ring.written == 0


def test_a_small_file_of_very_many_rows_is_refused(house: FilledStore) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": pa.array([1.5] * 1_000_000)}), sink)
    assert len(sink.getvalue()) < 50_000
    status, reply = house.send("POST", PATH, sink.getvalue(), Content_Type=PARQUET)
    assert (status, reply["error"]) == (413, "BODY_TOO_LARGE")


def test_limits_of_a_channel_hold_over_all_rows_and_pieces(house: FilledStore) -> None:
    many = [{"value": {f"s{i}": i}} for i in range(400)]
    more = [{"value": {f"t{i}": i}} for i in range(400)]
    most = [{"value": {f"u{i}": i}} for i in range(Limits().streams_per_channel_max - 799)]
    assert house.send("POST", PATH, many) == (201, {"stored": 400})
    assert house.send("POST", PATH, more) == (201, {"stored": 400})
    status, reply = house.send("POST", PATH, most)
    assert (status, reply["error"]) == (400, "TOO_MANY_STREAMS")
    assert reply["detail"].startswith("row 225: ")
    assert house.store.ring.written == 800
    assert house.send("POST", PATH, most[1:]) == (201, {"stored": 224})


def test_who_writes_needs_a_token_and_a_channel(house: FilledStore) -> None:
    assert house.send("POST", PATH, 1, X_APITOKEN="no")[0] == 401
    assert house.send("POST", "/v2/stream/9", 1)[1]["error"] == "NO_CHANNEL"
    assert house.send("POST", PATH, 1, X_DEVICEID="nobody")[1]["error"] == "NO_DEVICE"


def test_rows_are_counted(house: FilledStore) -> None:
    house.send("POST", PATH, [{"value": 1}, {"value": 2}])
    house.send("POST", PATH, b'[{"value":1},{"value":1e400}]')
    house.send("POST", PATH, b"{")
    counts = house.backend.counts
    assert counts.rows_written == 2
    assert counts.rows_refused == {"NUMBER_OUT_OF_RANGE": 2, "BAD_JSON_FORMAT": 1}


# ---- keys


def test_a_key_stores_once_and_answers_the_same(house: FilledStore) -> None:
    body = [{"value": i} for i in range(300)]  # several batches
    for again in (lambda: None, house.commit, house.reopen, house.seal, house.reopen):
        again()
        assert house.send("POST", PATH, body, Idempotency_Key="k1") == (201, {"stored": 300})
        assert house.store.ring.written == 300
    assert house.send("POST", PATH, body, Idempotency_Key="k2") == (201, {"stored": 300})
    assert house.send("POST", "/v2/stream/2", body, Idempotency_Key="k1") == (201, {"stored": 300})
    assert house.store.ring.written == 900


def test_a_key_with_something_else_is_refused(house: FilledStore) -> None:
    assert house.send("POST", PATH, [{"value": 1}], Idempotency_Key="k")[0] == 201
    for headers in ({}, {"X_TAGNAME": "t"}, {"X_DEVICEID": "a"}, {"Content_Type": "application/x-ndjson"}):
        body = b'[{"value":1}]' if headers else b'[{"value":2}]'
        if "Content_Type" in headers:
            body = b'{"value":1}'
        status, reply = house.send("POST", PATH, body, Idempotency_Key="k", **headers)
        assert (status, reply["error"]) == (422, "IDEMPOTENCY_MISMATCH"), headers
    assert house.store.ring.written == 1


def test_a_refused_write_leaves_its_key_free(house: FilledStore) -> None:
    assert house.send("POST", PATH, b'[{"value":1e400}]', Idempotency_Key="k")[0] == 400
    assert house.send("POST", PATH, [{"value": 1}], Idempotency_Key="k") == (201, {"stored": 1})


def test_a_key_is_forgotten_after_its_time_and_keys_are_bounded(house: FilledStore) -> None:
    for i in range(50):
        assert house.send("POST", PATH, 1, Idempotency_Key=f"k{i}")[0] == 201
    status, reply = house.send("POST", PATH, 1, Idempotency_Key="one-more")
    assert (status, reply["error"]) == (429, "TOO_MANY_REQUESTS")
    assert house.send("POST", PATH, 1, Idempotency_Key="k7") == (201, {"stored": 1})
    house.reopen()
    assert house.send("POST", PATH, 1, Idempotency_Key="one-more")[0] == 429
    assert house.store.ring.written == 50
    house.now_us += DAY_US + 1
    house.store.writes.forget_old(house.now_us)
    assert house.send("POST", PATH, 2, Idempotency_Key="k7") == (201, {"stored": 1})
    assert house.store.ring.written == 51


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü"])
def test_a_key_is_visible_ascii(house: FilledStore, key: str) -> None:
    status, reply = house.send("POST", PATH, 1, Idempotency_Key=key.encode().decode("latin-1"))
    assert (status, reply["error"]) == (400, "BAD_PARAMETER")
    assert house.store.ring.written == 0
