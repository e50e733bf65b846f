"""Rows are counted as an answer comes in, however it is cut into pieces."""

import io
import itertools
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingscale.commands.rowcount import RowCounter, counter_of

ROWS = 700
CSV = b"at,tag\n" + b'1,"a ""quoted"" line\nand another"\n' * ROWS
NDJSON = b'{"_id":"1","value":"\\n"}\n' * ROWS
JSON = json.dumps({"stream": [{"_id": "1", "value": '"_id":'}] * ROWS}, separators=(",", ":")).encode()


def arrow() -> bytes:
    """Batches of different lengths, and one without rows; with a dictionary and a compressed body."""
    sink = io.BytesIO()
    schema = pa.schema([("seq", pa.int64()), ("tag", pa.dictionary(pa.int32(), pa.string()))])
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for first, last in ((0, 100), (100, 100), (100, ROWS)):
            seq = pa.array(range(first, last), pa.int64())
            tag = pa.array([str(number % 7) for number in range(first, last)], pa.string())
            writer.write_batch(pa.record_batch([seq, tag.dictionary_encode()], schema=schema))
    return sink.getvalue()


def counter(form: str) -> RowCounter:
    found = counter_of(form)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("form", "text", "wanted"),
    [("csv", CSV, ROWS), ("ndjson", NDJSON, ROWS), ("json", JSON, ROWS), ("arrow", arrow(), ROWS)],
)
def test_rows_of_a_whole_answer_are_counted(form: str, text: bytes, wanted: int) -> None:
    assert counter(form).count(text) == wanted


@pytest.mark.parametrize(("form", "text"), [("csv", CSV), ("ndjson", NDJSON), ("arrow", arrow())])
@given(cuts=st.lists(st.integers(0, 30_000), max_size=12))
def test_rows_are_counted_however_an_answer_is_cut(form: str, text: bytes, cuts: list[int]) -> None:
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    whole, cut = counter(form), counter(form)
    counts = [cut.count(text[first:last]) for first, last in itertools.pairwise(places)]
    assert counts == sorted(counts)
    assert counts[-1] == whole.count(text)


def test_rows_of_parquet_cannot_be_told_as_they_come() -> None:
    assert counter_of("parquet") is None
