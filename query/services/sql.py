"""SQL (beyond the contract): one SELECT over the user's own channels, in a jailed process."""

from collections import Counter
from typing import Any, Final

import trio
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from query.errors import ApiError
from query.models import sql as about
from query.models.sql import PARAMETERS_MAX, SQL_BYTES_MAX
from query.ports import Backend
from query.replies import cancel_when_gone
from query.requests import object_of, user_of
from query.sql.answers import FORMATS
from query.sql.views import directory_of, views_of
from query.sql.workers import Answer, Query, SqlWorkers
from query.stream_request import FORMATS as STREAM_FORMATS
from query.stream_request import Format
from storage.registry import User

# An answer up to this long is sent whole, with its length; an error in it still has its own status.
WHOLE_BYTES_MAX: Final = 1 << 20
KEYS: Final = ("sql", "parameters", "format", "limit")
MEDIA_TYPES: Final = {each.value: name for name, each in STREAM_FORMATS.items() if each is not Format.JSON}


def format_of(request: Request, body: dict[str, Any]) -> str:
    """From the body, the URL or Accept. Raises ApiError: BAD_PARAMETER."""
    given = [each for each in (body.get("format"), request.query_params.get("format")) if each is not None]
    if not all(each in FORMATS for each in given):
        raise ApiError("BAD_PARAMETER", f"format: expected one of {', '.join(FORMATS)}")
    if not given:
        accepted = [each.partition(";")[0].strip() for each in request.headers.get("accept", "").split(",")]
        return next((MEDIA_TYPES[each] for each in accepted if each in MEDIA_TYPES), "json")
    return str(given[0])


def parameters_of(body: dict[str, Any]) -> list[Any] | dict[str, Any]:
    """Values for ``?`` and ``$1``, or by name for ``$name``. Raises ApiError: BAD_PARAMETER."""
    parameters = body.get("parameters", [])
    if not isinstance(parameters, list | dict) or len(parameters) > PARAMETERS_MAX:
        raise ApiError("BAD_PARAMETER", f"parameters: expected a list or an object, up to {PARAMETERS_MAX}")
    values = parameters.values() if isinstance(parameters, dict) else parameters
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        raise ApiError("BAD_PARAMETER", "parameters: each is a string, a number, true, false or null")
    return parameters


def query_of(request: Request, body: dict[str, Any], backend: Backend, user: User) -> Query:
    """Raises ApiError: BAD_JSON_FORMAT, BAD_PARAMETER, BAD_SQL."""
    for key in body:
        if key not in KEYS:
            raise ApiError("BAD_PARAMETER", f"{key}: no such key; there are {', '.join(KEYS)}")
    sql = body.get("sql")
    if not isinstance(sql, str):
        raise ApiError("BAD_JSON_FORMAT", "sql: expected a string")
    try:
        size = len(sql.encode())
    except UnicodeEncodeError:
        raise ApiError("BAD_SQL", "sql: not Unicode text") from None
    if size > SQL_BYTES_MAX or "\0" in sql:
        raise ApiError("BAD_SQL", f"sql: expected text without NUL, at most {SQL_BYTES_MAX} bytes")
    rows_max = backend.sql.options.rows_max
    limit = body.get("limit", rows_max)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= rows_max:
        raise ApiError("BAD_PARAMETER", f"limit: expected 1 .. {rows_max} ([sql] rows_max)")
    return Query(
        sql=sql,
        parameters=parameters_of(body),
        format=format_of(request, body),
        rows_max=limit,
        directory=str(directory_of(backend.store, user)),
        zone=user.locale,
        views=lambda names: views_of(backend.store, user, names),
    )


class SqlReply(Response):
    """Runs the query while the client is there to take its answer."""

    def __init__(self, workers: SqlWorkers, query: Query, outcomes: Counter[str]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._workers, self._query, self._outcomes = workers, query, outcomes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: ApiError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_gone, receive, nursery.cancel_scope)
            try:
                async with self._workers.run(self._query) as answer:
                    await self._send(answer, send)
                self._outcomes["answered"] += 1
            except ApiError as error:
                self._outcomes[error.token] += 1
                failure = error  # not out of the nursery, which would put it into a group
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _send(self, answer: Answer, send: Send) -> None:
        self.headers["content-type"] = answer.media_type
        chunks = answer.chunks()
        waiting, is_whole = bytearray(), True
        async for chunk in chunks:
            waiting += chunk
            if len(waiting) > WHOLE_BYTES_MAX:
                is_whole = False
                break
        if is_whole:
            self.headers["content-length"] = str(len(waiting))
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(waiting), "more_body": not is_whole})
        if not is_whole:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["SQL"])

    @router.post("/v2/sql", **about.RUN)
    async def run_sql(request: Request) -> Response:
        user = user_of(request, backend)
        query = query_of(request, await object_of(request, required=True), backend, user)
        return SqlReply(backend.sql, query, backend.counts.sql)

    return router
