"""Where the REST side meets the rest of the daemon: what query's services are given."""

from collections.abc import Callable

import trio
from starlette.types import ASGIApp

from ingest.pace import RateLimiter
from query.app import make_app as make_rest_app
from query.engine import Engine
from query.live import Hub
from query.newest import Newest
from query.ports import Backend, PrometheusOptions, Publisher, Sessions, WriteLimits, Writer
from query.readers import Readers
from query.sql.workers import SqlWorkers
from query.work.workers import Workers
from storage.store import Store
from thingscale.clocks import now
from thingscale.config import Config
from thingscale.metrics import Metrics, render


def make_app(
    config: Config,
    store: Store,
    engine: Engine,
    metrics: Metrics,
    on_registry_change: Callable[[], None],
    is_ready: Callable[[], bool],
    sessions: Sessions,
    publisher: Publisher,
    readers: Readers,
    workers: Workers,
    sql: SqlWorkers,
    writer: Writer,
    live: Hub,
) -> ASGIApp:
    """The REST application of this daemon."""
    return make_rest_app(
        Backend(
            store=store,
            engine=engine,
            newest=Newest(store, engine),
            data=config.data,
            now=now,
            limiter=RateLimiter(config["limits.rest_per_s"]),
            storage_bytes_max=config["limits.storage_bytes_per_user_max"],
            on_registry_change=on_registry_change,
            is_ready=is_ready,
            render_metrics=lambda: render(trio.from_thread.run_sync(metrics.take)),
            queries=metrics.queries,
            readers=readers,
            workers=workers,
            page_rows_max=config["query.page_rows_max"],
            buckets_max=config["query.buckets_max"],
            exact_values_max=config["query.exact_values_max"],
            counts=metrics.query_counts,
            sessions=sessions,
            publisher=publisher,
            sql=sql,
            writer=writer,
            live=live,
            write_limits=WriteLimits(
                rows_max=config["limits.write_rows_max"],
                bytes_max=config["limits.http_body_bytes_max"],
                bodies_bytes_max=config["limits.write_bodies_bytes_max"],
                future_s=config["limits.write_future_s"],
            ),
            prometheus=PrometheusOptions(
                round(config["query.lookback_s"] * 1_000_000), config["query.prometheus_samples_max"]
            ),
        )
    )
