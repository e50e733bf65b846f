"""``thingscale publish --now``: the same files and the same answers, whether the daemon runs or not."""

import json
import os
import subprocess
import sys
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


def refused(data: Path, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "thingscale", "publish", "--now", "--data", str(data), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **SMALL})
    return done.returncode, done.stdout, done.stderr


def check_refusals(daemon: Daemon) -> None:
    """What is not there is not published, and the command says so."""
    for arguments, words in (
        (("--channel", "99"), "there is no channel 99"),
        (("--user", "U999999"), "there is no user U999999"),
        (("--user", "U000001", "--channel", "2"), "there is no channel 2"),  # another user's
    ):
        assert refused(daemon.data, *arguments) == (1, "", f"thingscale: {words}\n")


def test_a_directory_that_is_none_is_told_and_left_alone(tmp_path: Path) -> None:
    for directory in (tmp_path / "never", tmp_path):
        words = f"thingscale: {directory} is no data directory: it has no registry.sqlite3\n"
        assert refused(directory) == (2, "", words)
    assert list(tmp_path.iterdir()) == []


def test_with_the_daemon_on(daemon: Daemon) -> None:
    send(daemon, range(5))
    send(daemon, range(3), channel=2)
    before = daemon.stream(1), daemon.stream(2)
    user = daemon.user["user_id"]
    assert publish(daemon, "--channel", "1", "--user", user) == 1
    assert (len(published(daemon)), len(published(daemon, 2))) == (5, 0)
    check_refusals(daemon)
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
    check_refusals(daemon)
    assert publish(daemon, "--channel", "1") == 1
    assert publish(daemon) == 0
    assert [row["n"] for row in published(daemon)] == list(range(8))
    assert list((daemon.data / "hot").iterdir()) == []
    daemon.start()
    assert daemon.stream(1) == before
    send(daemon, range(8, 10))
    assert [row["n"] for row in published(daemon)] == list(range(8))
    assert len(daemon.stream(1)) == 10
