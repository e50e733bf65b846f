"""Channels that are deleted with their data kept: gone for everybody, all of it in files, restored or deleted for good."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call, refused

ARCHIVED = "/v2/channel?state=archived"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data") as daemon:
        daemon.add_user()
        daemon.add_device("probe")
        yield daemon


def send(daemon: Daemon, values: range) -> None:
    for value in values:
        assert daemon.post("probe", str(value)) == (200, "OK")


def archived(daemon: Daemon) -> list[dict[str, Any]]:
    status, rows = call(daemon, "GET", ARCHIVED)
    assert status == 200
    found: list[dict[str, Any]] = rows
    return found


def wait_for_files(daemon: Daemon) -> None:
    daemon.wait_until(lambda: [row["waiting_rows"] for row in archived(daemon)] == [0])


def directory(daemon: Daemon) -> str:
    return f"data/user={daemon.user['user_id']}/channel=1"


def in_files(daemon: Daemon) -> list[int]:
    paths = sorted((daemon.data / directory(daemon)).rglob("*.parquet"))
    return sorted(
        int(value) for path in paths for value in pq.ParquetFile(path).read(["value"]).column(0).to_pylist()
    )


def storage(daemon: Daemon) -> dict[str, int]:
    ((user,),) = (call(daemon, "GET", "/v2/user")[1],)
    found: dict[str, int] = user["storage"]
    return found


def test_an_archived_channel_is_gone_for_everybody_and_all_of_it_is_in_files(daemon: Daemon) -> None:
    send(daemon, range(3))
    daemon.run("publish", "--now")
    send(daemon, range(3, 6))
    call(daemon, "POST", "/v2/event", {"mapped_ch": 1})
    assert call(daemon, "DELETE", "/v2/channel/1?data=keep") == (200, {})

    for method, path, body in (
        ("GET", "/v2/channel/1", None), ("GET", "/v2/channel/1/stream", None), ("PUT", "/v2/channel/1", {}),
        ("DELETE", "/v2/channel/1", None), ("DELETE", "/v2/channel/1?data=keep", None),
        ("GET", "/v2/stream/1?end=last", None), ("POST", "/v2/stream/1", 1), ("GET", "/v2/live?channel=1", None),
        ("PUT", "/v2/device/probe", {"mapped_ch": 1}), ("PUT", "/v2/event/1", {"mapped_ch": 1}),
    ):  # fmt: skip
        assert refused(daemon, method, path, body) == (404, "NO_CHANNEL"), (method, path)
    assert refused(daemon, "POST", "/v2/sql", {"sql": "SELECT * FROM channel_1"})[0] in (400, 403)
    assert call(daemon, "GET", "/v2/channel") == (200, [])
    assert call(daemon, "GET", "/v2/device/probe")[1][0]["mapped_ch"] is None
    assert call(daemon, "GET", "/v2/event/1")[1][0]["mapped_ch"] is None
    assert daemon.post("probe", "9") == (403, "NO_MAPPED_CH")
    assert refused(daemon, "POST", "/v2/channel/1") == (403, "CHANNEL_INUSE")

    wait_for_files(daemon)
    assert in_files(daemon) == [0, 1, 2, 3, 4, 5]
    ((row,), (alone,)) = archived(daemon), call(daemon, "GET", "/v2/channel/1?state=archived")[1]
    assert row == alone
    assert (row["channel"], row["directory"]) == (1, directory(daemon))
    assert row["archived_at"] >= row["last_update"]
    assert storage(daemon)["count"] == 6
    entry = call(daemon, "GET", "/v2/user/audit")[1][0]
    assert (entry["action"], entry["subject"]) == ("channel.archive", "1")


def test_an_archived_channel_is_restored_with_all_it_had(daemon: Daemon) -> None:
    send(daemon, range(3))
    call(daemon, "PUT", "/v2/channel/1", {"channel_name": "Room"})
    call(daemon, "PUT", "/v2/channel/1/stream/value", {"unit": "K"})
    assert refused(daemon, "GET", "/v2/channel/1?state=archived") == (404, "NO_CHANNEL")
    assert call(daemon, "DELETE", "/v2/channel/1?data=keep") == (200, {})
    wait_for_files(daemon)
    assert refused(daemon, "PUT", "/v2/channel/1", {"state": "archived"}) == (400, "BAD_JSON_FORMAT")
    status, row = call(daemon, "PUT", "/v2/channel/1", {"state": "active"})
    assert (status, row["channel_name"]) == (200, "Room")
    assert archived(daemon) == []
    assert call(daemon, "PUT", "/v2/device/probe", {"mapped_ch": 1})[0] == 200
    send(daemon, range(3, 5))
    assert [entry["value"] for entry in daemon.stream()] == [0, 1, 2, 3, 4]
    assert call(daemon, "GET", "/v2/channel/1/stream")[1][0]["unit"] == "K"
    daemon.run("publish", "--now")
    assert in_files(daemon) == [0, 1, 2, 3, 4]


def test_an_archived_channel_is_deleted_for_good_only_when_that_is_said(daemon: Daemon) -> None:
    send(daemon, range(3))
    assert call(daemon, "DELETE", "/v2/channel/1?data=keep") == (200, {})
    wait_for_files(daemon)
    assert refused(daemon, "DELETE", "/v2/channel/1") == (404, "NO_CHANNEL")
    assert call(daemon, "DELETE", "/v2/channel/1?data=delete") == (200, {})
    assert archived(daemon) == []
    assert storage(daemon)["count"] == 0
    assert call(daemon, "POST", "/v2/channel/1")[0] == 201
    assert daemon.stream(1) == []
    daemon.environment["THINGSCALE_STORAGE_SEAL_INTERVAL_S"] = "1"
    daemon.restart()
    daemon.wait_until(lambda: in_files(daemon) == [])


@pytest.mark.parametrize("trial", range(6))
def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(daemon: Daemon, trial: int) -> None:
    acknowledged: list[int] = []

    def post() -> None:
        try:
            for value in range(100_000):
                if daemon.post("probe", str(value)) != (200, "OK"):
                    return  # it is not mapped any more
                acknowledged.append(value)
        except OSError:
            return  # killed

    sender = threading.Thread(target=post)
    sender.start()
    daemon.wait_until(lambda: len(acknowledged) >= 20)
    assert call(daemon, "DELETE", "/v2/channel/1?data=keep") == (200, {})
    time.sleep(0.12 * trial)  # what is interrupted: nothing yet, the seal, the files, or all is done
    daemon.kill()
    sender.join()
    daemon.start()
    wait_for_files(daemon)
    assert set(acknowledged) <= set(in_files(daemon)) <= {*acknowledged, len(acknowledged)}
    assert len(in_files(daemon)) == storage(daemon)["count"]


def test_the_command_archives_lists_restores_and_deletes(daemon: Daemon) -> None:
    where = "--url", f"http://{daemon.ready['http']}", "--token", daemon.user["api_token"]
    send(daemon, range(3))

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "thingscale", "channel", *arguments, "--json", *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert run("delete", "1", "--keep-data", "--yes") == [{"channel": 1, "archived": True}]
    assert in_files(daemon) == [0, 1, 2]
    assert [(row["channel"], row["waiting_rows"]) for row in run("list", "--archived")] == [(1, 0)]
    assert run("list") == []
    assert run("restore", "1")[0]["channel"] == 1
    assert run("delete", "1", "--keep-data", "--yes") == [{"channel": 1, "archived": True}]
    assert run("delete", "1", "--yes") == [{"channel": 1, "deleted": True}]
    assert run("list", "--archived") == []
