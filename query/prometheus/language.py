"""PromQL: what is understood of it, as a small tree, and words for what is not.

The grammar is promql-parser's. It parses by recursion and in quadratic time: 16,000 brackets end the process, 4,000
take a second. Whatever nests has a mark of its own (a bracket, an operator), so text with more than MARKS_MAX of them
is refused before it is parsed. Strings may be long: a variable of a dashboard is a list of names in one expression.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import promql_parser as grammar

from query.prometheus.errors import BadDataError

# 256 nested operators parse in 30 ms.
MARKS_MAX: Final = 256
QUERY_CHARACTERS_MAX: Final = 16_384
DURATION_MAX: Final = timedelta(days=36_525)
MARKS: Final = re.compile(r"[-+*/%^<>=!()\[\]{}]|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)

FUNCTIONS: Final = (
    "rate", "increase", "delta",
    "avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "count_over_time", "last_over_time",
)  # fmt: skip
AGGREGATIONS: Final = ("sum", "avg", "min", "max", "count")
ARITHMETIC: Final = ("+", "-", "*", "/", "%", "^")
COMPARISONS: Final = ("==", "!=", ">", "<", ">=", "<=")
MATCH_OPERATORS: Final = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
NAME_LABEL: Final = "__name__"


@dataclass(frozen=True, slots=True)
class Matcher:
    """``name operator value``; the operator is one of ``=``, ``!=``, ``=~``, ``!~``."""

    name: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by their labels; ``range_us`` is 0 for an instant selector, which looks back as configured."""

    matchers: tuple[Matcher, ...]
    offset_us: int = 0
    range_us: int = 0


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar that does not change."""

    value: float


@dataclass(frozen=True, slots=True)
class Call:
    """One of FUNCTIONS of a range selector."""

    function: str
    selector: Selector


@dataclass(frozen=True, slots=True)
class Grouping:
    """Labels that count (``by``, ``on``), or that do not (``without``, ``ignoring``)."""

    labels: frozenset[str] = frozenset()
    is_without: bool = False

    def of(self, labels: dict[str, str]) -> dict[str, str]:
        """The labels that count. Without a name they never have one."""
        if self.is_without:
            dropped = self.labels | {NAME_LABEL}
            return {name: value for name, value in labels.items() if name not in dropped}
        return {name: value for name, value in labels.items() if name in self.labels}


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One of AGGREGATIONS over the groups of a vector."""

    operator: str
    inner: "Node"
    grouping: Grouping


@dataclass(frozen=True, slots=True)
class Negation:
    """The minus sign before an expression."""

    inner: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic or a comparison; ``is_bool``: the comparison gives 0 or 1 instead of filtering."""

    operator: str
    left: "Node"
    right: "Node"
    is_bool: bool
    matching: Grouping


Node = Number | Selector | Call | Aggregation | Negation | Binary


def parse(text: str) -> Node:
    """Raises BadDataError: it is not PromQL, or more of it than is supported."""
    return _node(_parsed(text))


def parse_selector(text: str) -> Selector:
    """What ``match[]`` says: an instant selector. Raises BadDataError."""
    node = parse(text)
    if not isinstance(node, Selector) or node.offset_us:
        raise BadDataError(f"match[]: expected a selector without an offset, not {_shown(text)}")
    return node


def parse_duration_us(text: str) -> int:
    """``15s``, ``1h30m``. Raises ValueError."""
    return _us(grammar.parse_duration(text))


def _parsed(text: str) -> Any:
    if len(text) > QUERY_CHARACTERS_MAX:
        raise BadDataError(
            f"the query has {len(text)} characters, of {QUERY_CHARACTERS_MAX} that it may have"
        )
    if len(MARKS.findall(text)) > MARKS_MAX:
        raise BadDataError(f"the query has more than {MARKS_MAX} operators and brackets")
    try:
        return grammar.parse(text)
    except (ValueError, OverflowError) as error:
        raise BadDataError(f"{_shown(text)} is not PromQL: {error}") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")


def _us(duration: timedelta) -> int:
    """Raises BadDataError: longer than all of time."""
    if abs(duration) > DURATION_MAX:
        raise BadDataError(f"a duration of {abs(duration).days} days is longer than {DURATION_MAX.days}")
    return duration // timedelta(microseconds=1)


def _unsupported(what: str) -> BadDataError:
    return BadDataError(f"{what}: not supported")


def _node(parsed: Any) -> Node:
    match parsed:
        case grammar.ParenExpr():
            return _node(parsed.expr)
        case grammar.NumberLiteral():
            return Number(parsed.val)
        case grammar.VectorSelector():
            return _selector(parsed)
        case grammar.UnaryExpr():
            return Negation(_node(parsed.expr))
        case grammar.BinaryExpr():
            return _binary(parsed)
        case grammar.AggregateExpr():
            return _aggregation(parsed)
        case grammar.Call():
            return _call(parsed)
        case grammar.MatrixSelector():
            raise BadDataError("a range selector stands in a function, as in rate(temp[5m])")
        case grammar.SubqueryExpr():
            raise _unsupported("a subquery, as in temp[1h:5m]")
        case grammar.StringLiteral():
            raise _unsupported("a string as an expression")
        case _:
            raise _unsupported(type(parsed).__name__)


def _selector(parsed: Any, range_us: int = 0) -> Selector:
    if parsed.at is not None:
        raise _unsupported("the modifier @")
    if parsed.matchers.or_matchers:
        raise _unsupported("'or' between matchers")
    matchers = [
        Matcher(each.name, MATCH_OPERATORS[str(each.op).rpartition(".")[2]], each.value)
        for each in parsed.matchers.matchers
    ]
    if parsed.name is not None:
        matchers.insert(0, Matcher(NAME_LABEL, "=", parsed.name))
    return Selector(tuple(matchers), 0 if parsed.offset is None else _us(parsed.offset), range_us)


def _call(parsed: Any) -> Call:
    name = parsed.func.name
    if name not in FUNCTIONS:
        raise _unsupported(f"the function {name} (there are {', '.join(FUNCTIONS)})")
    argument = parsed.args[0]
    while isinstance(argument, grammar.ParenExpr):
        argument = argument.expr
    if not isinstance(argument, grammar.MatrixSelector):
        raise _unsupported(f"{name} of anything but a range selector, as in {name}(temp[5m])")
    return Call(name, _selector(argument.vector_selector, _us(argument.range)))


def _aggregation(parsed: Any) -> Aggregation:
    operator = str(parsed.op)
    if operator not in AGGREGATIONS:
        raise _unsupported(f"the aggregation {operator} (there are {', '.join(AGGREGATIONS)})")
    grouping = Grouping()
    if parsed.modifier is not None:
        is_without = parsed.modifier.type == grammar.AggModifierType.Without
        grouping = Grouping(frozenset(parsed.modifier.labels), is_without)
    return Aggregation(operator, _node(parsed.expr), grouping)


def _binary(parsed: Any) -> Binary:
    operator = str(parsed.op)
    if operator not in (*ARITHMETIC, *COMPARISONS):
        raise _unsupported(f"the operator {operator}")
    is_bool, matching = False, Grouping(is_without=True)
    modifier = parsed.modifier
    if modifier is not None:
        is_bool = modifier.return_bool
        if modifier.card != grammar.VectorMatchCardinality.OneToOne:
            raise _unsupported("group_left and group_right")
        if modifier.fill_values.lhs is not None or modifier.fill_values.rhs is not None:
            raise _unsupported("fill")
        if modifier.matching is not None:
            is_without = modifier.matching.type == grammar.LabelModifierType.Exclude
            matching = Grouping(frozenset(modifier.matching.labels), is_without)
    return Binary(operator, _node(parsed.lhs), _node(parsed.rhs), is_bool, matching)
