"""Recovery: kill -9 after some million datapoints, then the time until the daemon takes traffic again.

Sealing is put off (interval of a day), so that the log holds as much as the ring permits and
replay has to decode it again. Two figures: the daemon's own (rows and seconds of the log
line that has both), and the one from outside: seconds from exec to the ready line, less
the same for the first start on an empty directory.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import servers
from benchmarks.servers import Place, Server, stored_datapoints
from benchmarks.traffic import load_command, run_load

CONNECTIONS = 200
FILL_LIMIT_S = 600.0

# `recovered 1,000,000 rows from 52 records in 0.31 s`, in whatever frame the log puts it.
ROWS = re.compile(r"([\d,]+) rows")
SECONDS = re.compile(r"([\d.]+) s\b")

SEAL_LATER = {"THINGSCALE_STORAGE_SEAL_INTERVAL_S": "86400"}


@dataclass(frozen=True, slots=True)
class RecoveryResult:
    """One kill -9.

    `replayed_rows` and `replay_s` are the daemon's own figures, None if its log does not have them.
    """

    acknowledged: int
    stored: int
    first_start_s: float
    restart_s: float
    replayed_rows: int | None
    replay_s: float | None

    @property
    def datapoints_per_second(self) -> float:
        if self.replayed_rows and self.replay_s:
            return self.replayed_rows / self.replay_s
        return self.acknowledged / max(self.restart_s - self.first_start_s, 1e-3)


@contextlib.contextmanager
def _timed_start(place: Place, user: dict[str, str]) -> Iterator[tuple[Server, float]]:
    began = time.perf_counter()
    with servers.serve_thingscale(place, user) as server:
        yield server, time.perf_counter() - began


def replay_figures(log: bytes) -> tuple[int | None, float | None]:
    """Rows and seconds from the log line of a recovery; (None, None) if no line has both."""
    for line in log.decode(errors="replace").splitlines():
        rows, seconds = ROWS.search(line), SECONDS.search(line)
        if "recover" in line and rows and seconds:
            return int(rows[1].replace(",", "")), float(seconds[1])
    return None, None


def measure_recovery(place: Place, load_core: int | None, datapoints: int) -> RecoveryResult:
    """Fill, kill, start again; says what the daemon has stored afterwards."""
    place = Place(place.core, place.directory, {**place.environment, **SEAL_LATER}, CONNECTIONS)
    user = servers.add_user(place)
    with _timed_start(place, user) as (server, first_start_s):
        servers.provision(server, CONNECTIONS)
        options = ["--connections", str(CONNECTIONS), "--window", "20", "--messages", str(datapoints)]
        filled = run_load(load_command(server, "mqtt", *options), load_core, FILL_LIMIT_S)
        server.process.kill()
        server.process.wait()
        offset = server.log.stat().st_size
    with _timed_start(place, user) as (server, restart_s):
        rows, replay_s = replay_figures(server.log.read_bytes()[offset:])
        stored = stored_datapoints(server)
    return RecoveryResult(filled.acknowledged, stored, first_start_s, restart_s, rows, replay_s)
