"""A store with made-up readings, asked through the REST application, and what plain Python remembers of them.

Readings go the way that real ones go (journal, ring, log, seal, publish); only their times are made up. The ring is
small, so that rows are sealed and overwritten while a test runs.
"""

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import trio

from ingest.durability import Durability
from ingest.mqtt.notebook import Notebook
from ingest.pace import RateLimiter
from ingest.writer import Writer, WriterOptions
from query.app import make_app
from query.engine import Engine, EngineOptions
from query.live import Hub, LiveOptions
from query.newest import Newest
from query.ports import Backend, PrometheusOptions, QueryCounts, WriteLimits
from query.readers import ReaderOptions, Readers
from query.sql.workers import SqlOptions, SqlWorkers
from storage.catalog_change import Cursor
from storage.cover import DAY_US
from storage.journal import FULL, Limits
from storage.kinds import PayloadKind
from storage.registry import RegistryLimits
from storage.store import Store, StoreOptions
from storage.wal import WalOptions
from tests.query.fake_clients import FakeClients
from tests.query.warm_workers import WarmWorkers

LOCALE: Final = "Europe/Berlin"
EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# Nobody serves them here: SQL is tested with a daemon.
SQL = SqlOptions(1, 1 << 28, 1 << 28, 1_000, 1 << 20, 1, 1, 0, without_jail=False)
PAGE_ROWS_MAX: Final = 1_000
BUCKETS_MAX: Final = 20_000
EXACT_VALUES_MAX: Final = 1_000_000
MIB: Final = 1 << 20
LIVE: Final = LiveOptions(
    viewers_max=20, viewers_per_user_max=10, buffer_bytes_max=20_000, resume_rows_max=60, heartbeat_s=15.0
)
WRITE_BATCH_BYTES: Final = 2_000
WRITE_ROWS_MAX: Final = 500
WRITE_FUTURE_S: Final = 86_400.0


def options(ring_rows: int) -> StoreOptions:
    wal = WalOptions(4 * MIB, 1, MIB, "os")
    return StoreOptions(ring_rows, 8 * ring_rows, MIB, MIB // 2, 1_000_000, RegistryLimits(), Limits(), wal)


@dataclass(frozen=True)
class Reading:
    """One datapoint, as it was sent."""

    seq: int
    at_us: int
    device: str
    tag: str | None
    value: Any

    @property
    def order(self) -> tuple[int, int]:
        return self.at_us, self.seq

    @property
    def entry(self) -> dict[str, Any]:
        """As the contract shows it (3.3)."""
        second = self.at_us // 1_000_000
        local = (EPOCH + datetime.timedelta(seconds=second)).astimezone(ZoneInfo(LOCALE))
        return {
            "_id": f"{second & 0xFFFFFFFF:08x}{self.seq:016x}",
            "tag": self.tag,
            "value": plain(self.value),
            "at": local.isoformat()[:22] + local.isoformat()[23:25],
        }


def plain(value: Any) -> Any:
    """Numbers as JSON sees them: 12.0 is 12, and true is not 1."""
    match value:
        case bool():
            return ("boolean", value)
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: plain(inner) for key, inner in value.items()}
        case list():
            return [plain(inner) for inner in value]
        case _:
            return value


def moment(at_us: int) -> str:
    """A time for a header, to the microsecond."""
    return f"{(EPOCH + datetime.timedelta(microseconds=at_us)).isoformat()[:19]}.{at_us % 1_000_000:06}Z"


class FilledStore:
    """One user, some devices, channel 1 and another one; see the module.

    Attributes:
        readings, others: of channel 1 and of the other one, in order of arrival.
        clients: who is connected over MQTT, and what was published.
    """

    def __init__(
        self, data: Path, devices: Sequence[str], ring_rows: int = 256, heavy_rows: int = 1 << 62
    ) -> None:
        data.mkdir()
        self.workers = WarmWorkers()
        self._heavy_rows = heavy_rows
        self._data = data
        self.now_us = 0
        self._options = options(ring_rows)
        self.clients = FakeClients()
        self._open()
        registry = self.store.registry
        self.user = registry.add_user(0, locale=LOCALE)
        self.channels = [
            registry.add_channel(self.user.user_id, number, f"Room {number}") for number in (1, 2)
        ]
        self._devices = {
            name: registry.add_device(
                self.user.user_id, name, 0, enabled=True, channel=self.channels[0].id
            ).id
            for name in devices
        }
        self.readings: list[Reading] = []
        self.others: list[Reading] = []
        self._sealed_lsn = 0

    def _open(self) -> None:
        self.store = Store.open(self._data, self._options)
        self.durability = Durability(self.store.journal, self, lambda: (0.0, self.now_us))
        self._engine = Engine(EngineOptions(1, 256 * MIB, self._data / "spill", 128 * MIB))
        self.backend = Backend(
            store=self.store,
            engine=self._engine,
            newest=Newest(self.store, self._engine),
            data=self._data,
            now=lambda: (0.0, self.now_us),
            limiter=RateLimiter(0),
            storage_bytes_max=0,
            on_registry_change=lambda: None,
            is_ready=lambda: True,
            render_metrics=lambda: b"",
            queries=trio.CapacityLimiter(2),
            readers=Readers(
                ReaderOptions(self._heavy_rows, 2, 256 * MIB, self._data / "spill"), self.workers
            ),
            page_rows_max=PAGE_ROWS_MAX,
            buckets_max=BUCKETS_MAX,
            exact_values_max=EXACT_VALUES_MAX,
            counts=QueryCounts(),
            sessions=self.clients,
            publisher=self.clients,
            workers=self.workers,
            sql=SqlWorkers(SQL, self.workers),
            writer=Writer(
                self.store.journal,
                Notebook(self.store.journal, MIB // 4, self.store.sessions.load().next_number),
                self.durability,
                self.store.writes,
                lambda: (0.0, self.now_us),
                WriterOptions(
                    min(WRITE_BATCH_BYTES, 8 * self._options.ring_rows), wait_s=2.0, keys_per_user_max=50
                ),
            ),
            write_limits=WriteLimits(WRITE_ROWS_MAX, MIB, 4 * MIB, WRITE_FUTURE_S),
            live=Hub(self.store, LIVE),
            prometheus=PrometheusOptions(300_000_000, 1_000_000),
        )
        self.app = make_app(self.backend)

    def weigh(self, heavy_rows: int) -> None:
        """Queries that read more are heavy from now on."""
        self._heavy_rows = heavy_rows
        options = replace(self.backend.readers.options, heavy_rows=heavy_rows)
        self.backend = replace(self.backend, readers=Readers(options, self.workers))
        self.app = make_app(self.backend)

    def close(self) -> None:
        self._engine.close()
        self.store.close()

    def reopen(self) -> None:
        """As after a restart: the ring is what the log says."""
        self.commit()
        self.close()
        self._open()

    # ---- in

    def append(
        self,
        value: Any,
        at_us: int,
        device: str,
        tag: str | None = None,
        *,
        channel: int = 1,
        kind: PayloadKind = PayloadKind.JSON,
        payload: bytes | None = None,
    ) -> None:
        """One reading; it is durable after ``commit``."""
        sent = json.dumps(value, ensure_ascii=False).encode() if payload is None else payload
        arguments = (
            at_us,
            kind,
            self._devices[device],
            self.channels[channel - 1].id,
            (tag or "").encode(),
            sent,
        )
        seq = self.store.journal.append(*arguments)
        if seq == FULL:
            self.commit()
            seq = self.store.journal.append(*arguments)
        if seq == FULL:
            self.seal()
            seq = self.store.journal.append(*arguments)
        assert seq >= 0, (seq, value)
        (self.readings if channel == 1 else self.others).append(Reading(seq, at_us, device, tag, value))

    def commit(self) -> None:
        store = self.store
        while (batch := store.journal.take_batch()) is not None:
            store.wal.make_room()
            placement = store.wal.place(batch)
            assert os.pwrite(placement.file.fileno(), placement.data, placement.offset) == len(placement.data)
            store.notes.extend(store.journal.release(batch).notes)
        self.durability.on_durable(store.ring.durable)

    def kick(self, now_s: float, now_us: int) -> None:
        """As the reactor; what has no room finds some."""
        self.commit()
        if self.store.ring.durable - self.store.ring.sealed > self._options.ring_rows // 2:
            self.seal()
            self.durability.on_room()

    def seal(self) -> None:
        self.commit()
        self.store.flush_notes()
        store = self.store
        store.apply(store.seal(Cursor(store.wal.next_lsn - 1, store.ring.durable)))

    def publish(self, now_us: int) -> None:
        """The sealed rows of every day that has ended by then."""
        for channel, day in self.store.publisher.due(now_us // DAY_US * DAY_US, 0):
            self.store.apply(self.store.publisher.publish(channel, day))

    # ---- out

    def get(self, path: str, parameters: dict[str, str] | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a GET; headers as X_ENDTIME, parameters go into the URL."""
        return trio.run(self._send, "GET", path, urlencode(parameters or {}), headers, b"")

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of any request."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return trio.run(self._send, method, path, "", headers, data)

    def stream(self, **headers: str) -> dict[str, Any]:
        status, reply = self.get("/v2/stream/1", **headers)
        assert status == 200, reply
        assert isinstance(reply, dict)
        return reply

    def fetch(self, path: str, query: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of a GET, whatever its format; the query as it stands in the URL."""
        return trio.run(self._fetch, "GET", path, query, headers, b"")

    async def _send(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        status, _, content = await self._fetch(method, path, query, headers, body)
        return status, json.loads(content)

    async def _fetch(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        given = {"x-apitoken": self.user.api_token}
        given |= {name.lower().replace("_", "-"): value for name, value in headers.items()}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        sent: list[Any] = []

        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            for message in messages:
                return message
            await trio.sleep_forever()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)
            await trio.lowlevel.checkpoint()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.workers.serve)
                await self.app(scope, receive, send)
                nursery.cancel_scope.cancel()
        content = b"".join(message.get("body", b"") for message in sent[1:])
        fields = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return sent[0]["status"], fields, content
