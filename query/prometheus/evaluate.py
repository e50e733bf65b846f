"""PromQL over series in memory: each expression at all steps at once, in numpy.

A vector is a list of rows; a row has a value at each step where it is present. A scalar is one array.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

import numpy as np

from query.prometheus.errors import ExecutionError
from query.prometheus.labels import Labels
from query.prometheus.language import (
    COMPARISONS,
    NAME_LABEL,
    Aggregation,
    Binary,
    Call,
    Grouping,
    Negation,
    Node,
    Number,
    Selector,
)
from query.prometheus.samples import Floats, Series, Times
from query.prometheus.windows import Present, last_of, over_time

OPERATORS: Final[dict[str, Callable[..., Any]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
FOLDS: Final[dict[str, Any]] = {"sum": np.add, "avg": np.add, "min": np.fmin, "max": np.fmax, "count": np.add}
STARTS: Final = {"min": np.nan, "max": np.nan}


@dataclass(frozen=True, slots=True)
class Row:
    """One series of a result."""

    labels: Labels
    values: Floats
    present: Present


Value = Floats | list[Row]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Computes expressions; in a worker thread.

    Attributes:
        series: what each selector of the expression found.
        steps_us: the times to evaluate at, ascending.
        lookback_us: how old the last sample of an instant selector may be.
        points_max: rows times steps that a vector may have.
    """

    series: Mapping[Selector, Sequence[Series]]
    steps_us: Times
    lookback_us: int
    points_max: int

    def run(self, node: Node) -> Value:
        """The expression's value. Raises PrometheusError."""
        with np.errstate(all="ignore"):
            return self._value(node)

    def _value(self, node: Node) -> Value:
        match node:
            case Number():
                return np.full(len(self.steps_us), node.value)
            case Selector():
                return self._selected(node)
            case Call():
                return self._called(node)
            case Negation():
                inner = self._value(node.inner)
                if isinstance(inner, np.ndarray):
                    return -inner
                return [Row(nameless(row.labels), -row.values, row.present) for row in inner]
            case Aggregation():
                inner = self._value(node.inner)
                assert isinstance(inner, list), "the grammar lets vectors be aggregated only"
                return aggregated(node, inner)
            case Binary():
                return combined(node, self._value(node.left), self._value(node.right))
            case _:
                assert_never(node)

    def _checked(self, selector: Selector) -> Sequence[Series]:
        found = self.series[selector]
        if len(found) * len(self.steps_us) > self.points_max:
            raise ExecutionError(
                f"{len(found)} series at {len(self.steps_us)} steps are more than {self.points_max} points in memory "
                "(query.prometheus_samples_max); ask for a longer step or fewer series"
            )
        return found

    def _selected(self, selector: Selector) -> list[Row]:
        steps_us = self.steps_us - selector.offset_us
        return [
            Row(each.labels, *last_of(each, steps_us, self.lookback_us)) for each in self._checked(selector)
        ]

    def _called(self, call: Call) -> list[Row]:
        selector = call.selector
        steps_us = self.steps_us - selector.offset_us
        keeps_name = call.function == "last_over_time"
        rows = [
            Row(
                each.labels if keeps_name else nameless(each.labels),
                *over_time(call.function, each, steps_us, selector.range_us),
            )
            for each in self._checked(selector)
        ]
        return unique(rows)


def selectors_in(node: Node) -> list[Selector]:
    """Every selector of an expression, each once."""
    match node:
        case Selector():
            return [node]
        case Call():
            return [node.selector]
        case Negation() | Aggregation():
            return selectors_in(node.inner)
        case Binary():
            return list(dict.fromkeys(selectors_in(node.left) + selectors_in(node.right)))
        case Number():
            return []
        case _:
            assert_never(node)


def nameless(labels: Labels) -> Labels:
    """What is computed is no metric any more."""
    return {name: value for name, value in labels.items() if name != NAME_LABEL}


def signature(labels: Labels) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def unique(rows: list[Row]) -> list[Row]:
    """Raises ExecutionError: two rows cannot be told apart."""
    if len({signature(row.labels) for row in rows}) != len(rows):
        raise ExecutionError("the result has the same labels twice")
    return rows


def aggregated(node: Aggregation, rows: Sequence[Row]) -> list[Row]:
    """One row for each group."""
    groups: dict[tuple[tuple[str, str], ...], tuple[Labels, list[Row]]] = {}
    for row in rows:
        labels = node.grouping.of(row.labels)
        groups.setdefault(signature(labels), (labels, []))[1].append(row)
    made = []
    fold, start = FOLDS[node.operator], STARTS.get(node.operator, 0.0)
    for labels, members in groups.values():
        values = np.full(len(members[0].values), start)
        counts = np.zeros(len(values), np.int64)
        for row in members:
            one = np.ones(len(values)) if node.operator == "count" else row.values
            values = np.where(row.present, fold(values, one), values)
            counts += row.present
        if node.operator == "avg":
            values = values / np.maximum(counts, 1)
        made.append(Row(labels, values, counts > 0))
    return made


def combined(node: Binary, left: Value, right: Value) -> Value:
    """Arithmetic and comparisons. Raises ExecutionError: rows that do not match one to one."""
    operate, is_comparison = OPERATORS[node.operator], node.operator in COMPARISONS
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return np.asarray(operate(left, right), np.float64)
    filters = is_comparison and not node.is_bool
    filled: list[
        tuple[Labels, Floats, Floats, Present, Floats]
    ]  # name, both sides, where, and what a filter keeps
    if isinstance(left, list) and isinstance(right, list):
        pairs = matched(node.matching, left, right)
        filled = [
            (
                _labels_of(node.matching, a.labels, filters),
                a.values,
                b.values,
                a.present & b.present,
                a.values,
            )
            for a, b in pairs
        ]
    elif isinstance(left, list):
        assert isinstance(right, np.ndarray)
        filled = [(row.labels, row.values, right, row.present, row.values) for row in left]
    else:
        assert isinstance(right, list)
        filled = [(row.labels, left, row.values, row.present, row.values) for row in right]
    made = []
    for labels, first, second, present, kept in filled:
        found = operate(first, second)
        if filters:
            made.append(Row(labels, kept, present & found))
        else:
            made.append(Row(nameless(labels), np.asarray(found, np.float64), present))
    return unique(made)


def _labels_of(matching: Grouping, labels: Labels, keeps_name: bool) -> Labels:
    """What a matched pair is called: by the labels that matched; a filter lets the left side's name stand."""
    kept = matching.of(labels)
    if keeps_name and matching.is_without and NAME_LABEL in labels:
        return {NAME_LABEL: labels[NAME_LABEL], **kept}
    return kept


def matched(matching: Grouping, left: Sequence[Row], right: Sequence[Row]) -> list[tuple[Row, Row]]:
    """The pairs of rows whose labels are the same, as far as they count. Raises ExecutionError."""
    sides = []
    for side, rows in (("left", left), ("right", right)):
        found: dict[tuple[tuple[str, str], ...], Row] = {}
        for row in rows:
            key = signature(matching.of(row.labels))
            if key in found:
                raise ExecutionError(
                    f"several series on the {side} side have the labels {dict(key)}: only one to one can be matched"
                )
            found[key] = row
        sides.append(found)
    return [(row, sides[1][key]) for key, row in sides[0].items() if key in sides[1]]
