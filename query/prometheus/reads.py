"""What Prometheus' API reads, as works (query/written.py): everything that was looked up is in them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from query.prometheus.answers import instant, matrix
from query.prometheus.errors import PrometheusError
from query.prometheus.evaluate import Evaluation, selectors_in, signature
from query.prometheus.labels import Labels, Stream
from query.prometheus.language import Node, Selector
from query.prometheus.samples import Collector, Deadline, Times, labels_in
from query.rows import ChannelRows
from query.written import Written


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selector finds in one channel.

    Attributes:
        streams: those that the selector does not exclude.
        rows: None if there can be none.
    """

    selector: Selector
    streams: Sequence[Stream]
    rows: ChannelRows | None


def written(make: Callable[[], bytes]) -> Written:
    """What is made, or why it cannot be."""
    try:
        return Written(iter([make()]))
    except PrometheusError as error:
        return Written(iter([error_body(error.error_type, str(error))]), status=error.status)


def error_body(error_type: str, words: str) -> bytes:
    value = {"status": "error", "errorType": error_type, "error": words}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Query:
    """An expression at some times.

    Attributes:
        is_instant: there is one time, and the answer is a vector.
        lookback_us, samples_max: the configuration's.
    """

    node: Node
    steps_us: Times
    is_instant: bool
    selected: Sequence[Selected]
    lookback_us: int
    samples_max: int
    deadline: Deadline

    def __call__(self) -> Written:
        return written(self._answer)

    def _answer(self) -> bytes:
        collectors = {
            selector: Collector(selector, self.steps_us - selector.offset_us, self.samples_max, self.deadline)
            for selector in selectors_in(self.node)
        }
        for each in self.selected:
            if each.rows is not None:
                collectors[each.selector].add(each.rows, each.streams)
        series = {selector: collector.series for selector, collector in collectors.items()}
        evaluation = Evaluation(series, self.steps_us, self.lookback_us, self.samples_max)
        value = evaluation.run(self.node)
        return instant(value, int(self.steps_us[0])) if self.is_instant else matrix(value, self.steps_us)


@dataclass(frozen=True, slots=True)
class SeriesList:
    """The series that have samples.

    Attributes:
        answer: what is said of them, of each once and in order; a function of a module, or a partial one.
    """

    selected: Sequence[Selected]
    deadline: Deadline
    answer: Callable[[list[Labels]], bytes]

    def __call__(self) -> Written:
        return written(self._answer)

    def _answer(self) -> bytes:
        found: dict[Any, Labels] = {}
        for each in self.selected:
            if each.rows is not None:
                rows = each.rows
                listed = labels_in(
                    rows, rows.engine, rows.published, each.streams, each.selector, self.deadline
                )
                found.update((signature(labels), labels) for labels in listed)
        return self.answer([found[key] for key in sorted(found)])
