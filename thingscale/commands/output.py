"""How results are shown: tables for people, one JSON object a line for programs, progress only on a terminal."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

# What is not a terminal gets whole lines: whoever cuts them wants their words.
PIPE_COLUMNS: Final = 100_000


def line(value: Mapping[str, Any]) -> str:
    """One JSON object, without a line break in it."""
    return json.dumps(value, ensure_ascii=False)


def cell(value: Any) -> Text:
    """A value in a table; what devices sent cannot give orders to a terminal."""
    match value:
        case None:
            return Text("-")
        case bool():
            text = "yes" if value else "no"
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    return Text("".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text))


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console().print(table)


def print_objects(
    objects: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, page_rows: int = 1_000
) -> None:
    """A list of things.

    Args:
        objects: as the API shows them; read as they are printed.
        columns: heading -> key, of the table.
        as_json: one object a line instead.
        page_rows: a table begins anew after so many.
    """
    if as_json:
        for each in objects:
            print(line(each))
        return
    rest = iter(objects)
    page = list(islice(rest, page_rows))
    while True:
        print_table(list(columns), ([each.get(key) for key in columns.values()] for each in page))
        page = list(islice(rest, page_rows))
        if not page:
            return


def print_object(value: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing, a line for each of its keys."""
    if as_json:
        print(line(value))
        return
    table = Table.grid(padding=(0, 2))
    for key, each in value.items():
        table.add_row(key, cell(each))
    console().print(table)


class Course:
    """How far long work has come, on stderr; silent unless that is a terminal.

    Attributes:
        is_shown: whether somebody sees it.
    """

    def __init__(self, progress: Progress, what: str) -> None:
        self.is_shown = not progress.disable
        self._progress = progress
        self._what = what
        self._task = progress.add_task(what, total=None, size="")
        self._bytes = 0

    def move(self, size: int, share: float | None = None, rows: int | None = None) -> None:
        """So many bytes more have gone over the line.

        Args:
            size: bytes.
            share: of the whole that is done, 0 to 1; None if nobody knows.
            rows: that have come until now; None if nobody knows.
        """
        self._bytes += size
        total = None if share is None else 1.0
        done = 0 if share is None else min(share, 1.0)
        self._progress.update(self._task, completed=done, total=total, size=self._sizes(rows))

    def end(self, rows: int | None) -> None:
        """The work is done: what stays on the terminal."""
        self._progress.console.print(f"{self._what}: {self._sizes(rows)}", markup=False, highlight=False)

    def _sizes(self, rows: int | None) -> str:
        return decimal(self._bytes) if rows is None else f"{rows:,} rows, {decimal(self._bytes)}"


@contextmanager
def course(what: str) -> Iterator[Course]:
    """A line with a bar, the percentage where it is known, bytes and times; it goes when the work is done."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[size]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with progress:
        yield Course(progress, what)
