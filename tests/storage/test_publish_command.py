"""``thingscale publish --now``: the same files and the same answers, whether the daemon runs or not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.daemon import Daemon
from tests.storage.published_files import description

SMALL = {"THINGSCALE_STORAGE_SEGMENT_BYTES": str(4 << 20), "THINGSCALE_STORAGE_RING_ROWS": str(1 << 16)}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data", **SMALL) as daemon:
        daemon.add_user()
        for channel in (1, 2):
            daemon.add_device(f"pump-{channel}", channel)
        yield daemon


def send(daemon: Daemon, values: range, channel: int = 1) -> None:
    for value in values:
        assert daemon.post(f"pump-{channel}", json.dumps({"n": value, "text": f"<{value}>"}))[0] == 200


def publish(daemon: Daemon, *arguments: str) -> int:
    reply = json.loads(daemon.run("publish", "--now", *arguments))
    assert reply["ok"] is True
    return int(reply["files"])


def published(daemon: Daemon, channel: int = 1) -> list[dict[str, Any]]:
    """Every row of the channel's files, in order of seq."""
    directory = daemon.data / "data" / f"user={daemon.user['user_id']}" / f"channel={channel}"
    rows: list[dict[str, Any]] = []
    for path in directory.rglob("*.parquet"):
        assert description(path)["user"] == daemon.user["user_id"]
        rows += pq.ParquetFile(path).read().to_pylist()
    return sorted(rows, key=lambda row: row["seq"])


def test_with_the_daemon_on(daemon: Daemon) -> None:
    send(daemon, range(5))
    send(daemon, range(3), channel=2)
    before = daemon.stream(1), daemon.stream(2)
    user = daemon.user["user_id"]
    assert publish(daemon, "--channel", "1", "--user", user) == 1
    assert (len(published(daemon)), len(published(daemon, 2))) == (5, 0)
    assert publish(daemon, "--user", "U999999") == 0
    assert publish(daemon) == 1
    assert [(row["device"], row["n"], row["text"]) for row in published(daemon)] == [
        ("pump-1", float(n), f"<{n}>") for n in range(5)
    ]
    assert (daemon.stream(1), daemon.stream(2)) == before
    assert publish(daemon) == 0


def test_with_the_daemon_off(daemon: Daemon) -> None:
    send(daemon, range(5))
    assert publish(daemon) == 1
    send(daemon, range(5, 8))
    before = daemon.stream(1)
    assert len(before) == 8
    daemon.kill()
    assert publish(daemon, "--channel", "1") == 1
    assert publish(daemon) == 0
    assert [row["n"] for row in published(daemon)] == list(range(8))
    assert list((daemon.data / "hot").iterdir()) == []
    daemon.start()
    assert daemon.stream(1) == before
    send(daemon, range(8, 10))
    assert [row["n"] for row in published(daemon)] == list(range(8))
    assert len(daemon.stream(1)) == 10
