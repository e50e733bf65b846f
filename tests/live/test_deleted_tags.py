"""A deleted tag of a running daemon: gone from every answer at once, also after kill -9, and soon from the files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data") as daemon:
        daemon.add_user()
        yield daemon


def send(daemon: Daemon, tag: str, values: range) -> None:
    for value in values:
        assert daemon.post("probe", str(value), **{"X-TAGNAME": tag}) == (200, "OK")


def ask(daemon: Daemon, method: str, path: str, body: Any = None, **headers: str) -> Any:
    status, reply = call(daemon, method, path, body, **headers)
    assert status == 200, reply
    return reply


def values(daemon: Daemon) -> list[int]:
    """What every form of reading says, which is the same."""
    shown = [entry["value"] for entry in daemon.stream()]
    newest = ask(daemon, "GET", "/v2/stream/1?end=last&limit=50")["stream"]
    assert [entry["value"] for entry in newest] == shown
    sql = ask(daemon, "POST", "/v2/sql", {"sql": "SELECT value FROM channel_1 ORDER BY seq"})
    assert [value for (value,) in sql["rows"]] == shown
    result = ask(daemon, "GET", "/v2/stream/1?start=2000-01-01&end=2999-01-01&aggregate=count")["result"]
    assert (result[0]["value"] if result else 0) == len(shown)
    return shown


def in_files(daemon: Daemon) -> list[int]:
    paths = sorted((daemon.data / "data").rglob("*.parquet"))
    return sorted(
        int(value) for path in paths for value in pq.ParquetFile(path).read(["value"]).column(0).to_pylist()
    )


def test_a_deleted_tag_is_gone_at_once_after_a_kill_and_out_of_the_files(daemon: Daemon) -> None:
    daemon.add_device("probe")
    send(daemon, "north", range(3))
    send(daemon, "south", range(10, 13))
    daemon.run("publish", "--now")
    assert in_files(daemon) == [0, 1, 2, 10, 11, 12]
    send(daemon, "north", range(3, 6))
    send(daemon, "south", range(13, 15))
    assert ask(daemon, "DELETE", "/v2/channel/1", X_TAGNAME="north") == {}
    assert values(daemon) == [10, 11, 12, 13, 14]
    daemon.kill()
    daemon.start()
    assert values(daemon) == [10, 11, 12, 13, 14]
    send(daemon, "north", range(20, 22))
    assert values(daemon) == [10, 11, 12, 13, 14, 20, 21]
    daemon.run("publish", "--now")
    daemon.kill()
    assert in_files(daemon) == [10, 11, 12, 13, 14, 20, 21]
    daemon.start()
    assert values(daemon) == [10, 11, 12, 13, 14, 20, 21]
    (user,) = ask(daemon, "GET", "/v2/user")
    assert user["storage"]["count"] == 7
