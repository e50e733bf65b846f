"""Nobody gets out: every attempt of sql_escapes.py against a running daemon, with a canary where nobody may read."""

import concurrent.futures
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from query.sql import jail
from tests.daemon import Daemon
from tests.live.sql_escapes import attempts
from tests.live.test_sql import workers

if jail.missing() is not None:
    pytest.skip(f"no jail on this system: {jail.missing()}", allow_module_level=True)

CANARY = "canary-5b1f0c"
SECONDS_MAX = 1.0
# Until an answer that is over has arrived, on a busy machine.
GRACE_S = 20.0
MEMORY_BYTES_MAX = 128 << 20
# What a worker has of the process that it came from, and pyarrow's and Python's own.
OWN_BYTES = 320 << 20


class Watch:
    """The most memory that any worker had."""

    def __init__(self, daemon: Daemon) -> None:
        self.peak_bytes = 0
        self.seen: set[int] = set()
        self._daemon = daemon
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.1):
            for pid in workers(self._daemon):
                try:
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                except OSError:
                    continue
                self.seen.add(pid)
                for line in lines:
                    if line.startswith("VmHWM:"):
                        self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) << 10)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A strict daemon, on data of two users; one has the canary, and can read it over the same way."""
    data = tmp_path_factory.mktemp("escapes") / "data"
    with Daemon(data) as daemon:
        for value in (CANARY, "mine"):
            daemon.add_user()
            daemon.add_device("d", 1)
            assert daemon.post("d", json.dumps({"temp": 1, "text": value})) == (200, "OK")
            status, reply, _ = daemon.request("POST", "/v2/sql", {"sql": "SELECT text FROM channel_1"})
            assert (status, reply["rows"]) == (200, [[value]])
        daemon.run("publish", "--now")
        assert daemon.post("d", json.dumps({"temp": 2, "text": "mine"})) == (200, "OK")
        user = daemon.user
    with Daemon(
        data,
        THINGSCALE_SQL_SECONDS_MAX=str(SECONDS_MAX),
        THINGSCALE_SQL_MEMORY_BYTES_MAX=str(MEMORY_BYTES_MAX),
        THINGSCALE_SQL_ROWS_MAX="100000",
    ) as daemon:
        daemon.user = user
        yield daemon


def files_of(daemon: Daemon) -> set[Path]:
    return {path for path in daemon.data.parent.rglob("*") if not path.name.endswith(("-wal", "-shm"))}


def test_no_attempt_succeeds(daemon: Daemon) -> None:
    secret = daemon.data.parent / "secret.txt"
    secret.write_text(CANARY)
    (other,) = (
        path
        for path in daemon.data.rglob("part-*.parquet")
        if CANARY in str(duckdb.sql(f"FROM '{path}'").fetchall())
    )
    before = files_of(daemon)

    def attempt(named: tuple[str, str]) -> tuple[str, int, str, float]:
        name, sql = named
        for place, path in {
            "$SECRET": secret, "$OTHERS": other.parent.parent.parent, "$OTHER": other, "$DATA": daemon.data,
        }.items():  # fmt: skip
            sql = sql.replace(place, str(path))
        began = time.monotonic()
        status, reply, _ = daemon.request("POST", "/v2/sql", {"sql": sql})
        return name, status, json.dumps(reply), time.monotonic() - began

    listed = list(attempts())
    assert len(listed) >= 300
    with Watch(daemon) as watch, concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(attempt, listed))
    for name, status, text, seconds in found:
        assert status in (200, 400, 403, 422), (name, status, text)
        assert CANARY not in text, name
        assert seconds < SECONDS_MAX + GRACE_S, (name, seconds)
        if name.startswith("statement "):
            assert status != 200, (name, text)
    assert files_of(daemon) == before
    assert secret.read_text() == CANARY
    assert len(watch.seen) > 10
    assert watch.peak_bytes < MEMORY_BYTES_MAX + OWN_BYTES
    daemon.wait_until(lambda: not workers(daemon))
    asked = {"sql": "SELECT temp, text FROM channel_1 ORDER BY 1"}
    daemon.wait_until(lambda: daemon.request("POST", "/v2/sql", asked)[0] == 200)
    assert daemon.request("POST", "/v2/sql", asked)[1]["rows"] == [[1, "mine"], [2, "mine"]]
