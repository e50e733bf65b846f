"""What a worker answers is what a thread of the daemon answers, byte by byte; and what becomes of workers that fail."""

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from query.errors import ApiError
from query.readers import Readers
from query.work.limits import NICENESS
from query.work.workers import FailedError
from query.written import Written
from storage.cover import DAY_US
from tests.query.filled_store import FilledStore, moment

DEVICES = ("a", "b/2", "süd 3")
START_US = 19_843 * DAY_US
LIGHT = 1 << 62
AUTOGROUP = Path("/proc/self/autogroup")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledStore]:
    """Two channels: published, sealed and fresh readings, of a deleted device and a deleted tag, too."""
    source = random.Random("heavy")
    house = FilledStore(tmp_path_factory.mktemp("heavy") / "data", DEVICES, 1_024)
    at_us = START_US
    for number in range(1_500):
        at_us += source.randrange(400 * 1_000_000)
        value = {
            "temp": round(source.gauss(20, 5), 2),
            "note": source.choice(["x", "ü" * 200, None]),
            "deep": {"x": number, "y": 2**60 + number},
        }
        tag = source.choice([None, "north", "gone"])
        house.append(value, at_us, source.choice(DEVICES), tag, channel=source.choice([1, 1, 2]))
        if number in (400, 1_000):
            house.seal()
            house.publish(at_us)
        elif number in (600, 1_300):
            house.seal()
    house.commit()
    house.now_us = at_us
    registry = house.store.registry
    registry.describe_stream(house.channels[0].id, "temp", unit="°C")
    assert house.send("DELETE", "/v2/channel/1", X_TAGNAME="gone") == (200, {})
    assert house.send("DELETE", "/v2/device/a")[0] == 200
    house.commit()
    yield house
    house.close()


RANGE = f"start=2020-01-01&end={moment(START_US + 400 * DAY_US)}"
SPAN = f"start={START_US // 10**6}&end={START_US // 10**6 + 600_000}"
QUERIES = (
    *(f"/v2/stream/1?{RANGE}&format={name}" for name in ("json", "ndjson", "csv", "arrow", "parquet")),
    f"/v2/stream?channel=1,2&{RANGE}&format=csv&meta=true",
    f"/v2/stream/1?{RANGE}&sort=desc&device=a,b/2&tag=north&streams=temp,note",
    f"/v2/stream/1?{RANGE}&sort=none&format=arrow&compression=zstd",
    f"/v2/stream/1?{RANGE}&device=nobody",
    f"/v2/stream?channel=1,2&{RANGE}&aggregate=avg,count,p90,stddev&interval=1d&fill=linear&by=device",
    f"/v2/stream/1?{RANGE}&aggregate=p50&by=tag&format=parquet",
    f"/v2/stream/1?{RANGE}&aggregate=count&interval=1s&fill=null",
    f"/v2/stream/1?{RANGE}&points=10&by=device&format=csv",
    f"/v2/stream?channel=1,2&{RANGE}&points=20&method=minmax",
    f"/v2/stream/1?{RANGE}&points=900&by=device,tag",
    f"/prometheus/api/v1/query_range?query=avg(temp)%20by%20(device)&{SPAN}&step=3600",
    f"/prometheus/api/v1/query?query=max_over_time(temp[10d])&time={START_US // 10**6 + 600_000}",
    f"/prometheus/api/v1/series?match[]=temp&{SPAN}",
    f"/prometheus/api/v1/label/device/values?{SPAN}",
    f"/prometheus/api/v1/labels?{SPAN}&match[]=temp%7Btag=%22north%22%7D&limit=3",
    f"/prometheus/api/v1/query?query=temp%7Bdevice=~%22(%22%7D&time={START_US // 10**6}",
)


@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
@pytest.mark.parametrize("query", QUERIES)
def test_a_worker_answers_as_a_thread_does(house: FilledStore, query: str, coding: str) -> None:
    path, _, text = query.partition("?")
    answers = []
    for heavy_rows in (LIGHT, 0):
        house.weigh(heavy_rows)
        answers.append(house.fetch(path, text, ACCEPT_ENCODING=coding))
    assert answers[0] == answers[1]
    assert answers[0][2]


class Strange:
    """A work that goes wrong. Its text says how."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self) -> Written:
        match self.how:
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crashed":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "greedy":
                return Written(iter([b"x" * (1 << 30)]))
            case "wrong":
                json.loads("{")
            case "sleepy":
                signal.pause()
            case "late":
                return Written(self._late(), is_whole=False)
        raise AssertionError

    def _late(self) -> Iterator[bytes]:
        yield b"x" * 3_000_000
        yield b"x" * 2_000_000
        os.kill(os.getpid(), signal.SIGKILL)


async def served(house: FilledStore, use: Any) -> Any:
    """What ``use`` returns, given readers whose workers are served."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.workers.serve)
        try:
            return await use(house.backend.readers)
        finally:
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("how", "token", "words"),
    [
        ("killed", "QUERY_MEMORY", "SIGKILL"),
        ("crashed", "QUERY_MEMORY", "SIGSEGV"),
        ("greedy", "QUERY_MEMORY", "[query] worker_memory_bytes_max"),
    ],
)
def test_a_worker_that_dies_is_an_error_by_name(house: FilledStore, how: str, token: str, words: str) -> None:
    async def use(readers: Readers) -> ApiError:
        with pytest.raises(ApiError) as failed:
            await readers.begin(Strange(how))
        return failed.value

    error = trio.run(served, house, use)
    assert error.token == token
    assert words in error.detail


def test_a_fault_of_ours_comes_with_its_traceback(house: FilledStore) -> None:
    async def use(readers: Readers) -> str:
        with pytest.raises(FailedError) as failed:
            await readers.begin(Strange("wrong"))
        return str(failed.value)

    assert "JSONDecodeError" in trio.run(served, house, use)


def test_a_worker_that_dies_on_the_way_ends_the_reply(house: FilledStore) -> None:
    async def use(readers: Readers) -> int:
        reading = await readers.begin(Strange("late"))
        try:
            size = sum(map(len, reading.begun.first))
            while step := await reading.step():
                size += sum(map(len, step))
        except ApiError:
            return size
        finally:
            await reading.aclose()
        raise AssertionError("it came to an end")

    assert 0 < trio.run(served, house, use) <= 5_000_000


def test_nobody_waits_any_more_and_the_worker_ends(house: FilledStore) -> None:
    async def use(readers: Readers) -> int:
        with trio.move_on_after(0.5) as scope:
            await readers.begin(Strange("sleepy"))
        assert scope.cancelled_caught
        return house.workers.running

    assert trio.run(served, house, use) == 0


@dataclass(frozen=True)
class Apart:
    """A work whose reply is where the worker stands."""

    def __call__(self) -> Written:
        group = AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else None
        return Written(iter([json.dumps([os.getsid(0), group]).encode()]), is_whole=True)


def test_workers_share_the_processor_as_a_group_behind_the_daemon(house: FilledStore) -> None:
    async def use(readers: Readers) -> tuple[int, str | None]:
        reading = await readers.begin(Apart())
        try:
            session, group = json.loads(b"".join(map(bytes, reading.begun.first)))
            return session, group
        finally:
            await reading.aclose()

    session, group = trio.run(served, house, use)
    assert session != os.getsid(0)
    if AUTOGROUP.exists():
        assert group == str(NICENESS)
