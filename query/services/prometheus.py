"""The HTTP API of Prometheus (beyond the contract), as far as Grafana's data source needs it; docs/grafana.md.

Requests, replies and errors are Prometheus', so that its clients understand them; who asks and how often is as
everywhere.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import numpy as np
from fastapi import APIRouter, Request, Response

from query.background import in_background
from query.errors import ApiError
from query.models import prometheus as about
from query.models.prometheus import FORM
from query.plan import Selection
from query.ports import Backend
from query.prometheus.answers import duration_us, instant, matrix, steps_between, success, time_us
from query.prometheus.errors import BadDataError, PrometheusError
from query.prometheus.evaluate import Evaluation, selectors_in, signature
from query.prometheus.labels import DATA_LABELS, Labels, Stream, streams_matching, streams_of
from query.prometheus.language import NAME_LABEL, Node, Selector, parse, parse_selector
from query.prometheus.samples import Collector, Deadline, Series, Times, labels_in
from query.requests import reply, user_of
from query.rows import ChannelRows
from storage.cover import TIME_MAX_US, TIME_MIN_US
from storage.registry import Channel, User
from storage.snapshot import Snapshot
from storage.wide import physical_columns

Made = TypeVar("Made")

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


def error_reply(status: int, error_type: str, words: str) -> Response:
    return reply({"status": "error", "errorType": error_type, "error": words}, status)


def limited(found: list[Any], parameters: Parameters) -> list[Any]:
    """The first ``limit`` of them; 0 is no limit. Raises BadDataError."""
    text = parameters.one("limit") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadDataError(f"limit: expected a number, not {text!r}")
    return found[: int(text) or None]


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

    async def each_channel(
        user: User,
        selector: Selector,
        span: tuple[int, int],
        use: Callable[[Snapshot, ChannelRows, list[Stream]], None],
    ) -> None:
        """Call ``use`` in a worker thread for each channel that the selector does not exclude.

        The span's end is exclusive.
        """
        for channel, streams in list(candidates(user, selector)):
            selection = selection_of(user, channel, streams, selector, span)
            if selection.start_us >= selection.end_us:
                continue
            with store.snapshot(channel, selection.start_us, selection.end_us) as snapshot:
                rows = await in_background(ChannelRows, snapshot, selection, backend.engine)
                snapshot.let_go_of_ring()
                await in_background(use, snapshot, rows, streams)

    def deadline_of(parameters: Parameters) -> Deadline:
        text = parameters.one("timeout")
        asked = TIMEOUT_MAX_S if text is None else duration_us("timeout", text) / 1e6
        return Deadline(min(asked, TIMEOUT_MAX_S), lambda: backend.now()[0])

    # ---- queries

    async def fetched(user: User, selector: Selector, steps_us: Times, deadline: Deadline) -> list[Series]:
        steps_us = steps_us - selector.offset_us
        before_us = selector.range_us or backend.prometheus.lookback_us
        span = int(steps_us[0]) - before_us + 1, int(steps_us[-1]) + 1
        collector = Collector(selector, steps_us, backend.prometheus.samples_max, deadline)
        await each_channel(user, selector, span, lambda _, rows, streams: collector.add(rows, streams))
        return collector.series

    async def evaluated(
        user: User, node: Node, steps_us: Times, deadline: Deadline, answer: Callable[[Any], bytes]
    ) -> bytes:
        began, _ = backend.now()
        async with backend.queries:
            series = {
                selector: await fetched(user, selector, steps_us, deadline) for selector in selectors_in(node)
            }
            evaluation = Evaluation(
                series, steps_us, backend.prometheus.lookback_us, backend.prometheus.samples_max
            )
            made = await in_background(lambda: answer(evaluation.run(node)))
        backend.counts.add("prometheus", backend.now()[0] - began)
        return made

    async def query(user: User, parameters: Parameters) -> bytes:
        node = parse(parameters.required("query"))
        text = parameters.one("time")
        at_us = backend.now()[1] // 1_000 * 1_000 if text is None else time_us("time", text)
        steps_us = np.array([at_us], np.int64)
        deadline = deadline_of(parameters)
        return await evaluated(user, node, steps_us, deadline, lambda value: instant(value, at_us))

    async def query_range(user: User, parameters: Parameters) -> bytes:
        node = parse(parameters.required("query"))
        steps_us = steps_between(
            time_us("start", parameters.required("start")),
            time_us("end", parameters.required("end")),
            duration_us("step", parameters.required("step")),
        )
        deadline = deadline_of(parameters)
        return await evaluated(user, node, steps_us, deadline, lambda value: matrix(value, steps_us))

    # ---- labels

    def selectors_of(parameters: Parameters) -> list[Selector]:
        return [parse_selector(text) for text in parameters.all("match[]")] or [ANY]

    def span_of(parameters: Parameters) -> tuple[int, int]:
        """From start to end, end exclusive; all of time without. Raises BadDataError."""
        start, end = parameters.one("start"), parameters.one("end")
        return (
            TIME_MIN_US if start is None else time_us("start", start),
            TIME_MAX_US if end is None else time_us("end", end) + 1,
        )

    async def series_of(
        user: User, parameters: Parameters, selectors: list[Selector], span: tuple[int, int]
    ) -> list[Labels]:
        """The series of these selectors that have samples in the span, in order, each once."""
        deadline = deadline_of(parameters)
        found: dict[Any, Labels] = {}

        async def add(selector: Selector) -> None:
            def use(snapshot: Snapshot, rows: ChannelRows, streams: list[Stream]) -> None:
                listed = labels_in(rows, backend.engine, snapshot.published, streams, selector, deadline)
                found.update((signature(labels), labels) for labels in listed)

            await each_channel(user, selector, span, use)

        async with backend.queries:
            for selector in selectors:
                await add(selector)
        return [found[key] for key in sorted(found)]

    def needs_readings(selectors: list[Selector]) -> bool:
        return any(matcher.name in DATA_LABELS for each in selectors for matcher in each.matchers)

    async def labels(user: User, parameters: Parameters) -> bytes:
        selectors, span = selectors_of(parameters), span_of(parameters)
        names: set[str] = set()
        if needs_readings(selectors):
            names.update(*await series_of(user, parameters, selectors, span))
        else:
            for selector in selectors:
                for channel, streams in candidates(user, selector):
                    names.update(*(stream.labels for stream in streams), ["device"])
                    if any(store.has_entries(channel, tag.name) for tag in store.schema.tags_of(channel.id)):
                        names.add("tag")
        return success(limited(sorted(names), parameters))

    async def label_values(user: User, parameters: Parameters, name: str) -> bytes:
        selectors, span = selectors_of(parameters), span_of(parameters)
        if name in DATA_LABELS or needs_readings(selectors):
            listed = await series_of(user, parameters, selectors, span)
        else:
            listed = [
                stream.labels
                for selector in selectors
                for _, streams in candidates(user, selector)
                for stream in streams
            ]
        return success(limited(sorted({each[name] for each in listed if name in each}), parameters))

    async def series(user: User, parameters: Parameters) -> bytes:
        if not parameters.all("match[]"):
            raise BadDataError("match[]: missing")
        found = await series_of(user, parameters, selectors_of(parameters), span_of(parameters))
        return success(limited(found, parameters))

    async def metadata(user: User, parameters: Parameters) -> bytes:
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
        names = limited([name for name in sorted(found) if wanted in (None, name)], parameters)
        return success({name: found[name] for name in names})

    async def buildinfo(_user: User, _parameters: Parameters) -> bytes:
        nothing = dict.fromkeys(("branch", "buildUser", "buildDate", "goVersion"), "")
        return success({"version": EMULATED, "revision": "thingscale", **nothing})

    # ---- routes

    async def answer(request: Request, make: Callable[[User, Parameters], Awaitable[bytes]]) -> Response:
        try:
            user = user_of(request, backend)
            return Response(await make(user, await parameters_of(request)), media_type="application/json")
        except PrometheusError as error:
            return error_reply(error.status, error.error_type, str(error))
        except ApiError as error:
            kind = ERROR_TYPES.get(error.status, error.token.lower())
            response = error_reply(error.status, kind, error.detail)
            response.headers.update(error.headers)
            if error.status == 401:
                response.headers["www-authenticate"] = "X-APITOKEN"
            return response

    def serve(
        path: str, make: Callable[[User, Parameters], Awaitable[bytes]], *, takes_forms: bool = False
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
        return await answer(request, lambda user, parameters: label_values(user, parameters, name))

    return router
