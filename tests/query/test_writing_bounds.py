"""A small body that would decompress to very much is refused before it does; a damaged one is refused or read."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query.writing.columnar import parse_arrow
from query.writing.ipc_sizes import decompressed_bytes
from query.writing.rows import BadBodyError, Reading, Rows
from tests.query.filled_store import FilledStore


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", ("a",))
    yield house
    house.close()


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("is_dictionary", [False, True])
def test_a_stream_that_decompresses_to_very_much_is_refused_before_it_does(
    house: FilledStore, codec: str, is_dictionary: bool
) -> None:
    column = pa.array(["x" * (64 << 20)])
    if is_dictionary:
        column = column.dictionary_encode()
    sink = pa.BufferOutputStream()
    table = pa.table({"text": column})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    del table, column, sink
    assert len(body) < 1 << 20
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    status, reply = house.send(
        "POST", "/v2/stream/1", body, Content_Type="application/vnd.apache.arrow.stream"
    )
    assert (status, reply["error"]) == (413, "BODY_TOO_LARGE")
    assert pool.bytes_allocated() <= before
    with pytest.raises(BadBodyError, match="when it is decompressed"):
        parse_arrow(body, Rows(Reading(ZoneInfo("UTC"), "", "", 2**60, 10, 1 << 20)))


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 2_000), value=st.integers(0, 255))
def test_a_damaged_stream_is_refused_or_read_and_nothing_else(place: int, value: int) -> None:
    sink = pa.BufferOutputStream()
    table = pa.table({"a": [1.5, 2.0], "b": pa.array(["x", "y"]).dictionary_encode()})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    body = bytearray(sink.getvalue().to_pybytes())
    body[place % len(body)] = value
    with suppress(ValueError, struct.error, pa.ArrowException, OSError):
        assert decompressed_bytes(bytes(body)) >= 0


def test_a_dictionary_names_its_texts_as_often_as_it_likes(house: FilledStore) -> None:
    table = pa.table({"text": pa.DictionaryArray.from_arrays([0, 1, None, 0], ["a", "b"])})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    status, _ = house.send("POST", "/v2/stream/1", body, Content_Type="application/vnd.apache.arrow.stream")
    assert status == 201
    house.commit()
    found = [entry["value"] for entry in house.stream(X_ENDTIME="2999-01-01")["stream"]]
    assert found == [{"text": "a"}, {"text": "b"}, {}, {"text": "a"}]
