"""The entries of a deleted tag are in no answer any more, wherever they are, against a plain Python model.

Tags are deleted and erased at random moments between readings, seals, publications and restarts; every form of reading
is asked then, and people's readers find no more in the directory than was there before or is left after.
"""

import csv
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.query import test_range_model
from tests.query.filled_store import FilledStore, Reading
from tests.query.test_aggregate_model import check
from tests.query.test_range_model import (
    DEVICES,
    SEEDS,
    TAGS,
    _small_windows,  # noqa: F401
    check_newest,
    check_ranges,
    fill,
    times,
)

NAMES = sorted({tag for tag in TAGS if tag})


@pytest.fixture
def source(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"deleted tags {getattr(request, 'param', 0)}")


@pytest.fixture(autouse=True)
def _plain_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that every aggregate of the model knows."""

    def payload(source: random.Random) -> Any:
        return {"t": source.randrange(-9, 9), source.choice("uv"): source.choice(["on", 0.5, 3])}

    monkeypatch.setattr(test_range_model, "payload", payload)


@pytest.fixture
def house(tmp_path: Path, source: random.Random) -> Iterator[FilledStore]:
    house = FilledStore(
        tmp_path / "data", DEVICES, source.choice([64, 256, 1024]), heavy_rows=source.choice([0, 1 << 62])
    )
    yield house
    house.close()


def delete(house: FilledStore, tag: str) -> int:
    """Over REST; how many readings went. What is not durable is no entry yet."""
    durable = house.store.ring.durable
    left = [each for each in house.readings if each.tag != tag or each.seq >= durable]
    known = len(left) < len(house.readings)
    status, reply = house.send("DELETE", "/v2/channel/1", X_TAGNAME=tag)
    assert (status, reply) == (200, {}) if known else status == 404, reply
    gone = len(house.readings) - len(left)
    house.readings = left
    return gone


def erase(house: FilledStore) -> None:
    """As the housekeeping does."""
    house.seal()
    for step in house.store.erasing():
        house.store.apply(step())


def files_of(house: FilledStore, channel: int = 1) -> dict[int, str | None]:
    """What people find below the directory: seq -> tag."""
    root = house.store.catalog.root / f"user={house.user.user_id}" / f"channel={channel}"
    found: dict[int, str | None] = {}
    for path in root.rglob("*.parquet"):
        table = pq.ParquetFile(path, page_checksum_verification=True).read(["seq", "tag"])
        for seq, tag in zip(*(column.to_pylist() for column in table.columns), strict=True):
            assert seq not in found, f"row {seq} is in two files"
            found[seq] = tag
    return found


def check_rest(house: FilledStore, source: random.Random) -> None:
    """Aggregates, flat formats, the newest of each device, tags, counts."""
    check(house, house.readings, source.choice(["sum", "min", "max", "avg"]), X_ENDTIME="2999-01-01")
    tag = source.choice(NAMES)
    tagged = [each for each in house.readings if each.tag == tag]
    check(house, tagged, "sum", X_ENDTIME="2999-01-01", X_TAGNAME=tag)
    status, _, content = house.fetch("/v2/stream/1", "end=2999-01-01&format=csv")
    assert status == 200
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert sorted(int(row["seq"]) for row in rows) == [each.seq for each in house.readings]
    status, reply = house.get("/v2/stream/1", {"end": "last", "limit": "2", "per": "device"})
    assert status == 200
    wanted: list[Reading] = []
    for device in DEVICES:
        wanted += [each for each in house.readings if each.device == device][-2:]
    assert {entry["_id"] for entry in reply["stream"]} == {each.entry["_id"] for each in wanted}
    status, found = house.get("/v2/channel/1", X_WITHTAG="1")
    assert {row["tag"] for row in found if row["tag"]} == {each.tag for each in house.readings if each.tag}
    for row in found[1:]:
        assert row["last_update"] is not None


def storage(house: FilledStore) -> dict[str, Any]:
    status, reply = house.get("/v2/user")
    assert status == 200
    found: dict[str, Any] = (reply[0] if isinstance(reply, list) else reply)["storage"]
    return found


def check_all(house: FilledStore, source: random.Random) -> None:
    check_ranges(house, source, 4)
    check_newest(house, source, 6)
    check_rest(house, source)


@pytest.mark.parametrize("source", SEEDS, indirect=True)
@pytest.mark.usefixtures("_small_windows")
def test_deleted_entries_are_in_no_answer_and_later_ones_are(
    house: FilledStore, source: random.Random
) -> None:
    clock = times(source)
    gone = 0
    for _ in range(5):
        fill(house, source, source.randrange(20, 100), clock)
        check_newest(house, source, 3)  # answers that are remembered
        gone += delete(house, source.choice(NAMES))
        check_all(house, source)
        for action in source.sample([house.seal, house.reopen, lambda: erase(house)], 2):
            action()
            check_all(house, source)
    assert gone > 0
    house.seal()
    house.publish(2**60)
    gone = delete(house, NAMES[0])
    check_all(house, source)
    erase(house)
    check_all(house, source)
    assert not house.store.catalog.deleted_tags
    everything = [*house.readings, *house.others]
    assert storage(house)["count"] == len(everything)
    assert {seq for seq, tag in files_of(house).items()} <= {each.seq for each in house.readings}
    house.reopen()
    check_all(house, source)
    assert storage(house)["count"] == len(everything)


def test_readers_of_the_directory_see_a_day_before_or_after(
    house: FilledStore, source: random.Random
) -> None:
    fill(house, source, 300, times(source))
    house.seal()
    house.publish(2**60)
    before = {each.seq: each.tag for each in house.readings}
    assert files_of(house) == before
    stranger = house.store.catalog.root / f"user={house.user.user_id}" / "channel=1" / "notes.txt"
    stranger.write_text("mine")
    beside = next(stranger.parent.glob("day=*")) / "notes.txt"
    beside.write_text("mine too")
    house.get("/v2/stream/1", {"end": "2999-01-01"})
    # A reader of ours that has begun: what it may open stays where it is.
    with house.store.snapshot(house.channels[0], 0, 2**60) as snapshot:
        assert delete(house, "north") > 0
        after = {each.seq: each.tag for each in house.readings}
        erase(house)
        assert files_of(house) == before
        assert all(file.path.exists() for file in snapshot.published)
        check_ranges(house, source, 2)
    for step in house.store.erasing():
        house.store.apply(step())
        assert before.items() >= files_of(house).items() >= after.items()
    assert files_of(house) == after
    assert (stranger.read_text(), beside.read_text()) == ("mine", "mine too")
    left = {path.suffix for path in house.store.catalog.root.rglob("*") if path.is_file()}
    assert left == {".parquet", ".txt"}
    assert not list(house.store.catalog.root.rglob("day=*.tmp"))
    check_ranges(house, source, 4)
    house.reopen()
    check_ranges(house, source, 4)


def test_a_tag_is_unknown_when_its_entries_are_deleted_and_comes_back(house: FilledStore) -> None:
    for i in range(3):
        house.append({"t": i}, 10**15 + i, "a", "north")
    house.commit()
    assert delete(house, "north") == 3
    status, reply = house.send("DELETE", "/v2/channel/1", X_TAGNAME="north")
    assert (status, reply["error"]) == (404, "NO_CHANNEL")
    assert house.get("/v2/channel/1", X_WITHTAG="1")[1][1:] == []
    house.append({"t": 9}, 10**15 - 5, "a", "north")
    house.commit()
    assert [entry["value"] for entry in house.stream(X_ENDTIME="2999-01-01")["stream"]] == [{"t": 9}]
    (row,) = house.get("/v2/channel/1", X_WITHTAG="1")[1][1:]
    assert row["tag"] == "north"
    assert row["last_update"] == house.readings[-1].entry["at"]
    for change in (house.reopen, house.seal, lambda: erase(house), house.reopen):
        change()
        assert [entry["value"] for entry in house.stream(X_ENDTIME="2999-01-01")["stream"]] == [{"t": 9}]
        assert house.get("/v2/channel/1", X_WITHTAG="1")[1][1:] == [row]


def test_what_is_not_durable_yet_comes_later(house: FilledStore) -> None:
    house.append({"t": 1}, 10**15, "a", "north")
    house.commit()
    house.append({"t": 2}, 10**15 + 1, "a", "north")
    assert house.send("DELETE", "/v2/channel/1", X_TAGNAME="north") == (200, {})
    house.commit()
    for change in (house.reopen, house.seal, house.reopen):
        assert [entry["value"] for entry in house.stream(X_ENDTIME="2999-01-01")["stream"]] == [{"t": 2}]
        change()
