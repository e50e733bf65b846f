"""What watches over the daemon: /healthz, /readyz, /metrics. They need no token."""

from fastapi import APIRouter, Response

from query.background import in_background
from query.errors import ApiError
from query.models import health as about
from query.ports import Backend
from query.requests import reply

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Health"])

    @router.get("/healthz", **about.ALIVE)
    async def healthz() -> Response:
        return reply({"status": "alive"})

    @router.get("/readyz", **about.READY)
    async def readyz() -> Response:
        if not backend.is_ready():
            raise ApiError("NOT_READY", "starting or stopping", {"Retry-After": "1"})
        return reply({"status": "ready"})

    @router.get("/metrics", **about.METRICS)
    async def metrics() -> Response:
        text = await in_background(backend.render_metrics)
        return Response(text, media_type=METRICS_TYPE)

    return router
