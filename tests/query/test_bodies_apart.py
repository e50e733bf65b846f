"""Bodies of columns that are made to hurt their reader: it is a process of its own, and only the body is refused."""

import ctypes
import io
import os
import random
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio

from query.work.worker import Port
from query.writing import COLUMNS, BadBodyError, Reading, apart, parse_apart
from tests.query.warm_workers import WarmWorkers

ARROW, PARQUET = COLUMNS
MIB = 1 << 20
REFUSALS = ("BAD_BODY_FORMAT", "BODY_TOO_LARGE", "BAD_TIME_FORMAT", "TAG_INVALID", "NUMBER_OUT_OF_RANGE")
READING = Reading(ZoneInfo("UTC"), "", "", 1 << 60, rows_max=10_000, bytes_max=MIB)


@asynccontextmanager
async def workers() -> AsyncIterator[WarmWorkers]:
    async with trio.open_nursery() as nursery:
        made = WarmWorkers()
        nursery.start_soon(made.serve)
        yield made
        nursery.cancel_scope.cancel()


def as_arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


TABLE = pa.table(
    {
        "at": pa.array([1_700_000_000_000_000 + i for i in range(40)], pa.timestamp("us", "UTC")),
        "device": pa.array(["a", "b"] * 20).dictionary_encode(),
        "tag": pa.array(["north", None] * 20),
        "temp": pa.array([20.5 + i for i in range(40)]),
        "words": pa.array([f"word {i}" for i in range(40)]),
        "list": pa.array([[1, 2], [], None, [3]] * 10),
    }
)


@pytest.mark.parametrize(("label", "body"), [(ARROW, as_arrow(TABLE)), (PARQUET, as_parquet(TABLE))])
async def test_a_body_comes_back_as_its_rows(label: str, body: bytes) -> None:
    async with workers() as made:
        rows = await parse_apart(made, body, label, Reading(ZoneInfo("UTC"), "t", "d", 1 << 60, 100, MIB))
    assert len(rows) == 40
    assert dict(rows.devices) == {"a": 0, "b": 1}
    assert rows.entries({"a": 7, "b": 8})[:2] == [
        (1_700_000_000_000_000, 7, b"north", b'{"temp":20.5,"words":"word 0","list":[1,2]}'),
        (1_700_000_000_000_001, 8, b"t", b'{"temp":21.5,"words":"word 1","list":[]}'),
    ]


async def test_offsets_beyond_their_texts_show_nothing_of_the_memory_behind() -> None:
    told, said = (struct.pack("<3i", 0, 2, end) for end in (4, 1_000_000))
    body = as_arrow(pa.table({"words": ["aa", "bb"]}))
    assert body.count(told) == 1
    async with workers() as made:
        with pytest.raises(BadBodyError, match="not an Arrow IPC stream") as refused:
            await parse_apart(made, body.replace(told, said), ARROW, READING)
    assert refused.value.token == "BAD_BODY_FORMAT"


async def refusal(made: WarmWorkers, body: bytes, label: str) -> BadBodyError | None:
    try:
        await parse_apart(made, body, label, READING)
    except BadBodyError as error:
        return error
    return None


@pytest.mark.parametrize("label", [ARROW, PARQUET])
async def test_damaged_bodies_are_refused_or_read(label: str) -> None:
    """Any byte may be anything: the answer is rows or a refusal, never an exception of ours."""
    source = random.Random(f"damage {label}")
    whole = as_arrow(TABLE) if label == ARROW else as_parquet(TABLE)
    refused = 0
    async with workers() as made:
        for _ in range(60):
            body = bytearray(whole)
            for _ in range(source.randrange(1, 4)):
                body[source.randrange(len(body))] = source.randrange(256)
            error = await refusal(made, bytes(body), label)
            assert error is None or error.token in REFUSALS, error
            refused += error is not None
    assert refused


async def test_values_that_expand_end_their_reader_and_nobody_else() -> None:
    """Lists whose values a dictionary names: some kilobytes of Parquet, gigabytes of rows."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 400_000, pa.int32()), pa.array(["x" * 8_000]))
    lists = pa.ListArray.from_arrays(pa.array(range(0, 400_001, 4_000), pa.int32()), text)
    async with workers() as made:
        with pytest.raises(BadBodyError) as refused:
            await parse_apart(made, as_parquet(pa.table({"list": lists})), PARQUET, READING)
        assert refused.value.token == "BODY_TOO_LARGE"
        assert len(await parse_apart(made, as_parquet(TABLE), PARQUET, READING)) == 40


def fall(port: Port, _body: bytes, _media_type: str, _reading: Reading) -> None:
    ctypes.string_at(8)


def take_all(port: Port, _body: bytes, _media_type: str, _reading: Reading) -> None:
    bytearray(8 << 30)


def sleep(port: Port, _body: bytes, _media_type: str, _reading: Reading) -> None:
    os.kill(os.getpid(), signal.SIGALRM)


@pytest.mark.parametrize(
    ("job", "token", "words"),
    [
        (fall, "BAD_BODY_FORMAT", "its reader ended with SIGSEGV"),
        (take_all, "BODY_TOO_LARGE", "of memory to read"),
        (sleep, "BODY_TOO_LARGE", "more than 30 s to read"),
    ],
)
async def test_how_a_reader_ended_is_the_refusal(
    job: object, token: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "send_rows", job)
    async with workers() as made:
        with pytest.raises(BadBodyError, match=words) as refused:
            await parse_apart(made, b"", PARQUET, READING)
    assert refused.value.token == token
