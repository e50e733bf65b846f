"""What the REST side needs of the daemon around it; the front door passes it in."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from query.engine import Engine
from query.newest import Newest
from query.sql.workers import SqlWorkers
from query.work.workers import Workers
from storage.store import Store
from storage.writes import Entry, WriteOutcome

if TYPE_CHECKING:  # the hub and the readers write replies, and those know the backend
    from query.live import Hub
    from query.readers import Readers


class QueryCounts:
    """How many queries of each kind there were, and the time until their answers began, in seconds."""

    def __init__(self) -> None:
        self.queries = {"newest": 0, "range": 0, "aggregate": 0, "prometheus": 0}
        self.seconds = dict.fromkeys(self.queries, 0.0)

        self.sql: Counter[str] = Counter(answered=0)  # by outcome: answered, or the token of the refusal
        self.rows_written = self.writes_repeated = 0
        self.rows_refused: Counter[str] = Counter()  # by token

    def add(self, kind: str, seconds: float) -> None:
        self.queries[kind] += 1
        self.seconds[kind] += seconds

    def refuse_rows(self, token: str, rows: int) -> None:
        """Rows of a write that were not stored; of a body that could not be read it is one."""
        self.rows_refused[token] += rows


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A connected MQTT client, over whatever transport; names as the contract has them (3.7).

    Attributes:
        clean_sess: it asked for a clean session (5.0: a clean start).
        proto_ver: 3 for MQTT 3.1, 4 for 3.1.1, 5 for 5.0.
        keepalive: seconds; 0 is none.
    """

    client_id: str
    ipaddress: str
    clean_sess: bool
    proto_ver: int
    keepalive: int
    connected_at_us: int


class Sessions(Protocol):
    """Who is connected over MQTT. The main thread's."""

    def live(self, user_id: str) -> list[LiveSession]:
        """The user's connected clients, in any order; the list is the caller's."""

    def kick(self, user_id: str, client_id: str) -> bool:
        """Disconnect a client; False if it is not connected."""


class Pace(Protocol):
    """Where somebody stands with a rate limit; ingest/pace.py says what the numbers are."""

    @property
    def allowed(self) -> bool: ...
    @property
    def limit(self) -> int: ...
    @property
    def remaining(self) -> int: ...
    @property
    def reset_s(self) -> int: ...
    @property
    def retry_s(self) -> int: ...


class Limiter(Protocol):
    """The rate limit of REST."""

    def take(self, key: object, now: float, per_s: float | None = None) -> Pace | None:
        """One request of this key; ``per_s`` is its own rate, None everybody's. None: there is no limit."""


class Publisher(Protocol):
    """The way of a message to the user's own subscribers.

    Attributes:
        message_bytes_max: of topic and payload together.
    """

    @property
    def message_bytes_max(self) -> int: ...

    async def publish(self, user_id: str, topic: bytes, payload: bytes, qos: int) -> bool:
        """Publish, not retained; True when it is durable for the sessions that it is queued for, False without room."""


class Writer(Protocol):
    """The way of people's datapoints into the log."""

    async def write(
        self, user_id: str, channel: int, entries: Sequence[Entry], key: str | None, digest: bytes
    ) -> WriteOutcome:
        """Store rows of a channel (registry id), at least one; returns when they are durable, or why they are not.

        Args:
            user_id: whose channel it is.
            channel: registry id.
            entries: the rows.
            key: with the same key and digest the same rows are stored once; None: every write is new.
            digest: of all that decides what is stored.
        """


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """What may be written.

    Attributes:
        rows_max: of one request.
        bytes_max: of one request's body, and of its values when they are decompressed.
        bodies_bytes_max: bodies of all requests together.
        future_s: how far ahead of the clock a row's time may be.
    """

    rows_max: int
    bytes_max: int
    bodies_bytes_max: int
    future_s: float


@dataclass(frozen=True, slots=True)
class PrometheusOptions:
    """Bounds of Prometheus' API.

    Attributes:
        lookback_us: how old the last sample may be that an instant selector shows.
        samples_max: samples that a selector may keep in memory, and points of a vector: 16 bytes each.
    """

    lookback_us: int
    samples_max: int


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything a service may use. The main thread's, except where an attribute says otherwise.

    Attributes:
        store: what is remembered.
        engine: any thread.
        newest: the newest rows of channels.
        data: the data directory.
        now: monotonic seconds, and UTC microseconds.
        limiter: the rate limit, by account.
        storage_bytes_max: what an account without a quota of its own may store; 0 is no limit but the disk.
        on_registry_change: routes, tokens and users may be different now; looks by itself what is.
        is_ready: recovered and taking traffic.
        render_metrics: the Prometheus text; runs in a worker thread.
        queries: how many small range queries run at a time.
        readers: heavy ones.
        workers: where others' bytes are read that could end a process.
        page_rows_max: what X-PAGELIMIT may ask for.
        buckets_max: buckets x groups x streams of an answer.
        exact_values_max: values of a stream that are sorted at once for percentiles.
        counts: what the queries took.
        sessions: the connected MQTT clients.
        publisher: messages for devices.
        sql: the processes that run SQL.
        writer: stores what people write.
        write_limits: how much of it.
        live: what viewers see.
        prometheus: bounds of the queries in PromQL.
    """

    store: Store
    engine: Engine
    newest: Newest
    data: Path
    now: Callable[[], tuple[float, int]]
    limiter: Limiter
    storage_bytes_max: int
    on_registry_change: Callable[[], None]
    is_ready: Callable[[], bool]
    render_metrics: Callable[[], bytes]
    queries: trio.CapacityLimiter
    readers: "Readers"
    workers: Workers
    page_rows_max: int
    buckets_max: int
    exact_values_max: int
    counts: QueryCounts
    sessions: Sessions
    publisher: Publisher
    sql: SqlWorkers
    writer: Writer
    write_limits: WriteLimits
    live: "Hub"
    prometheus: PrometheusOptions
