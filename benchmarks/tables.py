"""Tables, ratios and promises, as every bench of this directory shows them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

# Width of the tables in a file or a pipe.
PLAIN_COLUMNS = 110


@dataclass(frozen=True, slots=True)
class Target:
    """A promise and what was measured; `kept` is None where something needed was not measured."""

    promise: str
    limit: float
    measured: float | None
    at_most: bool

    @property
    def kept(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


def open_console() -> Console:
    """Stdout, as wide as a terminal or wide enough for every table."""
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_COLUMNS
    return console


def ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def titled(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def target_table(promised: Sequence[Target]) -> Table:
    table = titled("Targets", "promise", numbers=("limit", "measured", "kept"))
    for target in promised:
        sign = "≤" if target.at_most else "≥"
        kept = {True: "yes", False: "NO", None: "not measured"}[target.kept]
        table.add_row(target.promise, f"{sign} {number(target.limit)}", number(target.measured), kept)
    return table
