"""query/newest.py: what is kept is the answer as long as it is, while rows come, are sealed and leave the ring."""

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import trio

from query.formats import Layout, Part, pieces_of
from query.newest import EVERYTHING
from query.newest_rows import TEXT_BYTES_MAX, NewestRows
from query.plan import Selection
from query.rows import EMPTY, ChannelRows
from query.stream_request import Format
from storage.block import Block
from storage.snapshot import Snapshot
from tests.query.filled_store import FilledStore

RING_ROWS = 64
DEVICES = ("a", "b", "c")


@pytest.mark.parametrize("seed", range(4))
def test_the_newest_are_the_newest_whoever_asks_how_often(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    house = FilledStore(tmp_path / "data", DEVICES, RING_ROWS)
    channel = house.channels[0]
    device = house.store.registry.device_by_name(house.user.user_id, "b")
    assert device is not None
    one = Selection(EVERYTHING.start_us, EVERYTHING.end_us, devices=(("b", device),))
    answered = 0
    for _ in range(60):
        for _ in range(source.choice((0, 0, 1, 1, 2, 9, 70))):
            at_us = 1_700_000_000_000_000 + len(house.readings)
            house.append({"n": len(house.readings)}, at_us, source.choice(DEVICES))
        house.commit()
        if source.random() < 0.2:
            house.seal()
        for selection in (EVERYTHING, one):
            count = source.choice((1, 2, 5, 20))
            found = house.backend.newest.from_memory(channel, selection, count)
            if found is None:
                continue
            answered += 1
            of = [each for each in house.readings if selection is EVERYTHING or each.device == "b"]
            table = found[1].table()
            assert sorted(table.column("seq").to_pylist()) == [each.seq for each in of[-count:]]
            assert sorted(table.column("n").to_pylist()) == [each.value["n"] for each in of[-count:]]
    house.close()
    assert answered > 40


VALUES = (
    1.5, 7, 2**60, -3.25, True, False, None, "", "é\n", [1, "x"], {}, {"t": 1}, {"t": "x", "u": None, "v": 2.5},
    {"u": True, "v": 2**60}, {"t": {"deep": [1]}}, {"v": -0.0, "w": "long " * 40},
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_text_is_the_same_from_the_rings_rows_and_from_their_table(tmp_path: Path, seed: int) -> None:
    source = random.Random(f"text {seed}")
    house = FilledStore(tmp_path / "data", DEVICES, RING_ROWS)
    for _ in range(50):
        at_us = 1_711_846_000_000_000 + source.randrange(10**10)  # around a change of the clock
        house.append(source.choice(VALUES), at_us, source.choice(DEVICES), source.choice((None, "hall", "ä")))
    house.commit()
    channel = house.channels[0]
    for zone, descending, count in itertools.product(("Europe/Berlin", "UTC"), (False, True), (1, 2, 20, 50)):
        streams = source.choice((None, ("t",), ("v", "w")))
        found = house.backend.newest.from_memory(channel, replace(EVERYTHING, streams=streams), count)
        assert found is not None
        rows = found[1]
        assert isinstance(rows.source, Block)
        layout = Layout(zone=ZoneInfo(zone), descending=descending)
        part = Part(1, {"channel": 1}, rows.columns, {}, iter([rows.table()]))
        of_table = b"".join(pieces_of(Format.JSON, [part], layout))
        for _ in range(2):  # made, and remembered
            newest = replace(part, tables=iter(()), newest=rows)
            assert b"".join(pieces_of(Format.JSON, [newest], layout)) == of_table
        assert len(json.loads(of_table)["stream"]) == count
    house.close()


def test_text_is_remembered_with_the_rows_up_to_a_size() -> None:
    rows = NewestRows(EMPTY, (), (str, str))
    assert rows.text("short", lambda: b"x") == rows.text("short", lambda: b"y") == b"x"
    assert rows.text("other", lambda: b"z") == b"z"
    assert rows.text("short", lambda: b"y") == b"y"
    long = b"x" * (TEXT_BYTES_MAX + 1)
    assert (rows.text("long", lambda: long), rows.text("long", lambda: b"x")) == (long, b"x")


def test_who_asks_again_before_something_came_gets_the_same_rows(tmp_path: Path) -> None:
    house = FilledStore(tmp_path / "data", DEVICES, RING_ROWS)
    house.append({"n": 1}, 1_700_000_000_000_000, "a")
    house.commit()
    channel, newest = house.channels[0], house.backend.newest
    first = newest.from_memory(channel, EVERYTHING, 1)
    house.append({"n": 2}, 1_700_000_000_000_000, "a", channel=2)
    house.commit()
    assert first is not None
    assert newest.from_memory(channel, EVERYTHING, 1) == first
    house.append({"n": 3}, 1_700_000_000_000_000, "a")
    house.commit()
    found = newest.from_memory(channel, EVERYTHING, 1)
    assert found is not None
    assert found[1].table().column("n").to_pylist() == [3]
    house.close()


def test_the_ring_is_walked_back_to_the_first_that_counts(tmp_path: Path) -> None:
    house = FilledStore(tmp_path / "data", DEVICES, RING_ROWS)
    for number in range(9):
        house.append({"n": number}, 1_700_000_000_000_000 + number, DEVICES[number % 3])
    house.commit()
    channel, ring = house.channels[0].id, house.store.ring
    a = house.store.registry.device_by_name(house.user.user_id, "a")
    assert a is not None
    assert ring.newest(channel, 9, first=5).tolist() == [8, 7, 6, 5]
    assert ring.newest(channel, 9, device=a, first=3).tolist() == [6, 3]
    house.close()


async def test_files_are_searched_once_for_many_who_ask_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = FilledStore(tmp_path / "data", DEVICES, RING_ROWS)
    house.append({"n": 1}, 1_700_000_000_000_000, "a")
    house.seal()
    for number in range(2 * RING_ROWS):  # of the other channel: the one row leaves the ring
        house.append({"n": number}, 1_700_000_000_000_000, "a", channel=2)
    house.commit()
    searches: list[int] = []
    search = house.backend.newest.from_files

    def counted(snapshot: Snapshot, rows: ChannelRows, count: int, after_seq: int = -1) -> pa.Table:
        searches.append(count)
        return search(snapshot, rows, count, after_seq)

    monkeypatch.setattr(house.backend.newest, "from_files", counted)
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await house._send("GET", "/v2/stream/1", "end=last", {}, b""))

    async with trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(ask)
    assert answers == 16 * answers[:1]
    assert answers[0][1]["stream"][0]["value"] == {"n": 1}
    assert 1 <= len(searches) <= house.backend.queries.total_tokens
    house.close()


def test_a_channel_in_the_path_has_no_other_beside_it(tmp_path: Path) -> None:
    house = FilledStore(tmp_path / "data", DEVICES, RING_ROWS)
    for number, parameter, token in (
        (1, "2", "BAD_PARAMETER"),
        (1, "", "BAD_PARAMETER"),
        (9, "2", "NO_CHANNEL"),
    ):
        status, reply = house.get(f"/v2/stream/{number}", {"channel": parameter, "end": "last"})
        assert (400 <= status < 500, reply["error"]) == (True, token)
    house.close()
