"""Clients that ask the most of the daemon: ranges, aggregates, percentiles, points and SQL, each in a thread.

Each asks one kind after the other, beginning with another one than its neighbours, and reads the answer away. They run
when nobody else wants to (SCHED_IDLE): that they are on the server's machine at all is the bench's doing.
"""

import contextlib
import http.client
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.processes import pinned
from benchmarks.servers import Server

LIMIT_S: Final = 120.0
READ_BYTES: Final = 1 << 18
# A client that was told to come later does so.
RETRY_S: Final = 0.2

EVERYTHING: Final = "/v2/stream/1?start=2020-01-01&end=2099-12-31"


@dataclass(frozen=True, slots=True)
class HeavyQuery:
    """A request; with ``sql`` it goes to POST /v2/sql."""

    name: str
    path: str = "/v2/sql"
    sql: str = ""


QUERIES: Final = (
    HeavyQuery("range-json", EVERYTHING),
    HeavyQuery("hourly", f"{EVERYTHING}&aggregate=avg,min,max&interval=1h"),
    HeavyQuery("sql-group", sql="SELECT device, avg(temp), stddev(humidity) FROM channel_1 GROUP BY device"),
    HeavyQuery("percentiles", f"{EVERYTHING}&aggregate=p95&interval=1d"),
    HeavyQuery("by-device", f"{EVERYTHING}&aggregate=avg,stddev&by=device"),
    HeavyQuery("range-csv-zstd", f"{EVERYTHING}&format=csv"),
    HeavyQuery("sql-sort", sql="SELECT * FROM channel_1 ORDER BY temp, seq LIMIT 1000"),
    HeavyQuery("points", f"{EVERYTHING}&points=500&streams=temp"),
    HeavyQuery("range-arrow", f"{EVERYTHING}&format=arrow"),
    HeavyQuery("one-device", f"{EVERYTHING}&device=sensor-007&format=ndjson"),
)
MANY: Final = "range(10000000000)"
BOMBS: Final = (
    HeavyQuery("bomb-time", sql="SELECT sum(hash(i) % 7) FROM range(1000000000000) numbers(i)"),
    HeavyQuery("bomb-memory", sql=f"SELECT list(a.range) FROM {MANY} a GROUP BY a.range % 3"),
)


@dataclass(slots=True)
class Asked:
    """What became of the queries.

    Attributes:
        done: answers that were read whole, by name.
        refused: others, by name and status.
        answer_bytes: of all answers.
    """

    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    answer_bytes: int = 0


class HeavyClients:
    """See the module. Counts are whole once ``asking`` is left.

    Args:
        server: whom they ask.
        core: where they run.
        count: of them; further ones send bombs.
        bombs: of those.
    """

    def __init__(self, server: Server, core: int | None, count: int, bombs: int) -> None:
        self.asked = Asked()
        self._server, self._core = server, core
        self._stopping, self._answered = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._sockets: dict[int, http.client.HTTPConnection] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(number, QUERIES, number)) for number in range(count)
        ]
        self._threads += [
            threading.Thread(target=self._run, args=(count + number, BOMBS, number))
            for number in range(bombs)
        ]

    @contextlib.contextmanager
    def asking(self) -> Iterator[Asked]:
        """They ask while the block runs, from the first answer on; what is under way at its end is called off."""
        with pinned(self._core):
            for thread in self._threads:
                thread.start()
        try:
            self._answered.wait(LIMIT_S)
            yield self.asked
        finally:
            self._stopping.set()
            with self._lock:
                for connection in self._sockets.values():
                    if connection.sock is not None:
                        with contextlib.suppress(OSError):
                            connection.sock.shutdown(2)
            for thread in self._threads:
                thread.join()

    def _run(self, number: int, queries: tuple[HeavyQuery, ...], first: int) -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        turn = first
        while not self._stopping.is_set():
            query = queries[turn % len(queries)]
            turn += 1
            connection = http.client.HTTPConnection("127.0.0.1", self._server.http_port, timeout=LIMIT_S)
            with self._lock:
                self._sockets[number] = connection
            try:
                status, size = self._ask(connection, query)
            except (OSError, http.client.HTTPException) as error:
                if self._stopping.is_set():
                    return
                status, size = 0, 0
                with self._lock:
                    self.asked.refused[f"{query.name} {type(error).__name__}"] += 1
            finally:
                connection.close()
            with self._lock:
                self.asked.answer_bytes += size
                if status == 200:
                    self.asked.done[query.name] += 1
                    self._answered.set()
                elif status:
                    self.asked.refused[f"{query.name} {status}"] += 1
            if status != 200:
                time.sleep(RETRY_S)

    def _ask(self, connection: http.client.HTTPConnection, query: HeavyQuery) -> tuple[int, int]:
        """Status, and bytes of the answer."""
        fields = {"X-APITOKEN": self._server.api_token}
        if query.name.endswith("-zstd"):
            fields["Accept-Encoding"] = "zstd"
        if query.sql:
            connection.request("POST", query.path, json.dumps({"sql": query.sql}).encode(), fields)
        else:
            connection.request("GET", query.path, headers=fields)
        response = connection.getresponse()
        buffer, size = bytearray(READ_BYTES), 0
        while count := response.readinto(buffer):
            size += count
        return response.status, size
