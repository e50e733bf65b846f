"""Where the REST side meets the rest of the daemon: what query's services are given."""

from typing import TYPE_CHECKING

import trio
from starlette.types import ASGIApp

from ingest.admission import RateLimiter
from query.app import make_app as make_rest_app
from query.ports import Backend
from thingscale.clocks import now
from thingscale.metrics import Metrics, render

if TYPE_CHECKING:
    from thingscale.daemon import Daemon


def make_app(daemon: "Daemon") -> ASGIApp:
    """The REST application of this daemon."""
    per_s = daemon.config["limits.rest_per_s"]
    limiter = RateLimiter(per_s) if per_s else None
    metrics = Metrics(daemon)
    return make_rest_app(
        Backend(
            store=daemon.store,
            engine=daemon.engine,
            newest=daemon.newest,
            data=daemon.config.data,
            now=now,
            allow=None if limiter is None else limiter.allow,
            on_registry_change=daemon.reactor.invalidate_routes,
            is_ready=lambda: daemon.is_ready,
            render_metrics=lambda: render(trio.from_thread.run_sync(metrics.take)),
            queries=daemon.queries,
            page_rows_max=daemon.config["query.page_rows_max"],
        )
    )
