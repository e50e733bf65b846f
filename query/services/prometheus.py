"""The HTTP API of Prometheus (beyond the contract), as far as Grafana's data source needs it; docs/grafana.md.

Requests, replies and errors are Prometheus', so that its clients understand them; who asks and how often is as
everywhere.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

import numpy as np
from fastapi import APIRouter, Request, Response

from query.errors import ApiError
from query.models import prometheus as about
from query.models.prometheus import FORM
from query.plan import Selection
from query.ports import Backend
from query.prometheus.answers import (
    duration_us,
    names_in,
    series_in,
    steps_between,
    success,
    time_us,
    values_in,
)
from query.prometheus.errors import BadDataError, PrometheusError
from query.prometheus.evaluate import selectors_in
from query.prometheus.labels import DATA_LABELS, Labels, Stream, streams_matching, streams_of
from query.prometheus.language import NAME_LABEL, Node, Selector, parse, parse_selector
from query.prometheus.reads import Query, Selected, SeriesList, error_body
from query.prometheus.samples import Deadline, Times
from query.requests import user_of
from query.services.reading import Found, Reading
from query.written import Work
from storage.cover import TIME_MAX_US, TIME_MIN_US
from storage.registry import Channel, User
from storage.wide import physical_columns

# Selectors, and the times that each is about.
Spans = list[tuple[Selector, tuple[int, int]]]

PREFIX: Final = "/prometheus/api/v1"
# What a client may ask for with timeout=, and what it gets without.
TIMEOUT_MAX_S: Final = 120.0
ANY: Final = Selector(())
# The version of Prometheus whose API this is; Grafana asks for it to know what it may use.
EMULATED: Final = "2.42.0"
ERROR_TYPES: Final = {400: "bad_data", 422: "execution", 503: "unavailable"}


class Parameters:
    """A request's parameters: of the URL, and of a form in the body."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def one(self, name: str) -> str | None:
        """The first that is not empty."""
        return next((value for value in self.all(name) if value), None)

    def required(self, name: str) -> str:
        """Raises BadDataError."""
        value = self.one(name)
        if value is None:
            raise BadDataError(f"{name}: missing")
        return value


async def parameters_of(request: Request) -> Parameters:
    """Raises BadDataError."""
    pairs: list[tuple[str, str]] = []
    if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0].strip() == FORM:
        try:
            pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, errors="strict")
        except ValueError:
            raise BadDataError("the form is not UTF-8") from None
    return Parameters([*pairs, *request.query_params.multi_items()])


def answered(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def limit_of(parameters: Parameters) -> int | None:
    """How many of a list; 0 is no limit. Raises BadDataError."""
    text = parameters.one("limit") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadDataError(f"limit: expected a number, not {text!r}")
    return int(text) or None


def routes(backend: Backend) -> APIRouter:
    router = APIRouter(tags=["Prometheus"])
    store = backend.store

    # ---- what there is

    def candidates(user: User, selector: Selector) -> Iterator[tuple[Channel, list[Stream]]]:
        """The channels and numeric streams that the selector does not exclude, whatever readings they have."""
        for channel in store.registry.channels(user.user_id):
            columns = physical_columns(store.schema.columns_of(channel.id))
            described = store.registry.stream_descriptions(channel.id)
            streams = streams_matching(streams_of(channel, columns, described), selector.matchers)
            if streams:
                yield channel, streams

    def selection_of(
        user: User, channel: Channel, streams: list[Stream], selector: Selector, span: tuple[int, int]
    ) -> Selection:
        """What is read of a channel; devices and tags only where one is named, for the rest are looked at later."""
        tags = devices = None
        for matcher in selector.matchers:
            if matcher.operator == "=" and matcher.value:
                if matcher.name == "device":
                    device = store.registry.device_by_name(user.user_id, matcher.value)
                    devices = None if device is None else ((matcher.value, device),)
                elif matcher.name == "tag":
                    tag = store.schema.tag_id(channel.id, matcher.value)
                    tags = ((matcher.value, tag),) if tag > 0 else None
        start_us, end_us = max(span[0], TIME_MIN_US), min(span[1], TIME_MAX_US)
        return Selection(start_us, end_us, tags, devices, tuple(stream.name for stream in streams))

    reading = Reading(backend)

    async def read(
        request: Request,
        user: User,
        asked: Spans,
        work_of: Callable[[list[Selected]], Work],
    ) -> Response:
        """The reply of the work with what each selector finds in its span, whose end is exclusive."""
        wanted: list[tuple[Channel, Selection | None]] = []
        by: list[tuple[Selector, list[Stream]]] = []
        for selector, span in asked:
            for channel, streams in candidates(user, selector):
                selection = selection_of(user, channel, streams, selector, span)
                is_empty = selection.start_us >= selection.end_us
                wanted.append((channel, None if is_empty else selection))
                by.append((selector, streams))

        def work(found: Found) -> Work:
            return work_of([Selected(*each, rows) for each, rows in zip(by, found, strict=True)])

        return await reading.answer(request, wanted, "application/json", work)

    def deadline_of(parameters: Parameters) -> Deadline:
        text = parameters.one("timeout")
        asked = TIMEOUT_MAX_S if text is None else duration_us("timeout", text) / 1e6
        return Deadline(min(asked, TIMEOUT_MAX_S))

    # ---- queries

    async def evaluated(
        request: Request, user: User, node: Node, steps_us: Times, deadline: Deadline, *, is_instant: bool
    ) -> Response:
        began, _ = backend.now()
        bounds = backend.prometheus

        def span_of(selector: Selector) -> tuple[int, int]:
            before_us = selector.range_us or bounds.lookback_us
            shifted = steps_us - selector.offset_us
            return int(shifted[0]) - before_us + 1, int(shifted[-1]) + 1

        def work_of(selected: list[Selected]) -> Work:
            return Query(
                node, steps_us, is_instant, selected, bounds.lookback_us, bounds.samples_max, deadline
            )

        spans = [(selector, span_of(selector)) for selector in selectors_in(node)]
        response = await read(request, user, spans, work_of)
        backend.counts.add("prometheus", backend.now()[0] - began)
        return response

    async def query(request: Request, user: User, parameters: Parameters) -> Response:
        node = parse(parameters.required("query"))
        text = parameters.one("time")
        at_us = backend.now()[1] // 1_000 * 1_000 if text is None else time_us("time", text)
        steps_us = np.array([at_us], np.int64)
        return await evaluated(request, user, node, steps_us, deadline_of(parameters), is_instant=True)

    async def query_range(request: Request, user: User, parameters: Parameters) -> Response:
        node = parse(parameters.required("query"))
        steps_us = steps_between(
            time_us("start", parameters.required("start")),
            time_us("end", parameters.required("end")),
            duration_us("step", parameters.required("step")),
        )
        return await evaluated(request, user, node, steps_us, deadline_of(parameters), is_instant=False)

    # ---- labels

    def asked_of(parameters: Parameters) -> Spans:
        """Selectors, and from start to end, end exclusive; all of time without. Raises BadDataError."""
        selectors = [parse_selector(text) for text in parameters.all("match[]")] or [ANY]
        start, end = parameters.one("start"), parameters.one("end")
        span = (
            TIME_MIN_US if start is None else time_us("start", start),
            TIME_MAX_US if end is None else time_us("end", end) + 1,
        )
        return [(selector, span) for selector in selectors]

    async def series_of(
        request: Request,
        user: User,
        parameters: Parameters,
        asked: Spans,
        answer: Callable[[list[Labels]], bytes],
    ) -> Response:
        """What is said of the series that have samples."""
        deadline = deadline_of(parameters)
        return await read(request, user, asked, lambda selected: SeriesList(selected, deadline, answer))

    def needs_readings(asked: Spans) -> bool:
        return any(matcher.name in DATA_LABELS for selector, _ in asked for matcher in selector.matchers)

    async def labels(request: Request, user: User, parameters: Parameters) -> Response:
        asked, limit = asked_of(parameters), limit_of(parameters)
        if needs_readings(asked):
            return await series_of(request, user, parameters, asked, partial(names_in, limit))
        names: set[str] = set()
        for selector, _ in asked:
            for channel, streams in candidates(user, selector):
                names.update(*(stream.labels for stream in streams), ["device"])
                if any(store.has_entries(channel, tag.name) for tag in store.schema.tags_of(channel.id)):
                    names.add("tag")
        return answered(success(sorted(names)[:limit]))

    async def label_values(request: Request, user: User, parameters: Parameters, name: str) -> Response:
        asked, limit = asked_of(parameters), limit_of(parameters)
        if name in DATA_LABELS or needs_readings(asked):
            return await series_of(request, user, parameters, asked, partial(values_in, name, limit))
        listed = [
            stream.labels
            for selector, _ in asked
            for _, streams in candidates(user, selector)
            for stream in streams
        ]
        return answered(values_in(name, limit, listed))

    async def series(request: Request, user: User, parameters: Parameters) -> Response:
        if not parameters.all("match[]"):
            raise BadDataError("match[]: missing")
        asked, limit = asked_of(parameters), limit_of(parameters)
        return await series_of(request, user, parameters, asked, partial(series_in, limit))

    async def metadata(_request: Request, user: User, parameters: Parameters) -> Response:
        wanted = parameters.one("metric")
        found: dict[str, list[dict[str, str]]] = {}
        for channel, streams in candidates(user, ANY):
            described = store.registry.stream_descriptions(channel.id)
            for stream in streams:
                words = described.get(stream.name)
                text = "" if words is None else words.description or words.label
                entry = {"type": "gauge", "help": text, "unit": stream.labels.get("unit", "")}
                entries = found.setdefault(stream.labels[NAME_LABEL], [])
                if entry not in entries:
                    entries.append(entry)
        names = [name for name in sorted(found) if wanted in (None, name)][: limit_of(parameters)]
        return answered(success({name: found[name] for name in names}))

    async def buildinfo(_request: Request, _user: User, _parameters: Parameters) -> Response:
        nothing = dict.fromkeys(("branch", "buildUser", "buildDate", "goVersion"), "")
        return answered(success({"version": EMULATED, "revision": "thingscale", **nothing}))

    # ---- routes

    async def answer(
        request: Request, make: Callable[[Request, User, Parameters], Awaitable[Response]]
    ) -> Response:
        try:
            user = user_of(request, backend)
            return await make(request, user, await parameters_of(request))
        except PrometheusError as error:
            return answered(error_body(error.error_type, str(error)), error.status)
        except ApiError as error:
            kind = ERROR_TYPES.get(error.status, error.token.lower())
            response = answered(error_body(kind, error.detail), error.status)
            response.headers.update(error.headers)
            if error.status == 401:
                response.headers["www-authenticate"] = "X-APITOKEN"
            return response

    def serve(
        path: str,
        make: Callable[[Request, User, Parameters], Awaitable[Response]],
        *,
        takes_forms: bool = False,
    ) -> None:
        async def handler(request: Request) -> Response:
            return await answer(request, make)

        for method in ("GET", "POST") if takes_forms else ("GET",):
            name = f"prometheus_{path.strip('/').replace('/', '_')}_{method.lower()}"
            described = about.arguments(*about.ROUTES[path], method)
            router.add_api_route(PREFIX + path, handler, methods=[method], name=name, **described)

    serve("/query", query, takes_forms=True)
    serve("/query_range", query_range, takes_forms=True)
    serve("/labels", labels, takes_forms=True)
    serve("/series", series, takes_forms=True)
    serve("/metadata", metadata)
    serve("/status/buildinfo", buildinfo)

    path = "/label/{name}/values"

    @router.get(PREFIX + path, **about.arguments(*about.ROUTES[path], "GET"))
    async def prometheus_label_values(request: Request, name: str) -> Response:
        return await answer(request, partial(label_values, name=name))

    return router
