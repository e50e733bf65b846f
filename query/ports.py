"""What the REST side needs of the daemon around it; the front door passes it in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from query.engine import Engine
from query.newest import Newest
from storage.store import Store


class QueryCounts:
    """How many queries of each kind there were, and the time until their answers began, in seconds."""

    def __init__(self) -> None:
        self.queries = {"newest": 0, "range": 0, "aggregate": 0}
        self.seconds = dict.fromkeys(self.queries, 0.0)

    def add(self, kind: str, seconds: float) -> None:
        self.queries[kind] += 1
        self.seconds[kind] += seconds


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything a service may use. The main thread's, except where an attribute says otherwise.

    Attributes:
        store: what is remembered.
        engine: any thread.
        newest: the newest rows of channels.
        data: the data directory.
        now: monotonic seconds, and UTC microseconds.
        allow: the rate limit, by API token; None is no limit.
        on_registry_change: routes and tokens may be different now.
        is_ready: recovered and taking traffic.
        render_metrics: the Prometheus text; runs in a worker thread.
        queries: how many range queries run at a time.
        page_rows_max: what X-PAGELIMIT may ask for.
        counts: what the queries took.
    """

    store: Store
    engine: Engine
    newest: Newest
    data: Path
    now: Callable[[], tuple[float, int]]
    allow: Callable[[str, float], bool] | None
    on_registry_change: Callable[[], None]
    is_ready: Callable[[], bool]
    render_metrics: Callable[[], bytes]
    queries: trio.CapacityLimiter
    page_rows_max: int
    counts: QueryCounts
