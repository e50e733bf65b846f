"""DuckDB: scans and aggregates over published files, by explicit lists from the catalog.

One database in memory, one cursor per query out of a small pool: opening one costs 0.4 ms. Files are always given by
name, with hive partitioning off: a directory name can never replace a column (architecture 6). A file has the first n
columns of its channel, so what it lacks is known without opening it. Names and times stand in the SQL as literals that
we write ourselves; what people type (a tag, a device) is always bound.
"""

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import duckdb
import pyarrow as pa

from query.plan import Selection
from storage.cover import TIME_MAX_US, TIME_MIN_US, DeletedTag, PublishedFile
from storage.wide import FIXED_FIELDS, PhysicalColumn

EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
ARROW_ROWS: Final = 131_072


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What DuckDB may use.

    Attributes:
        threads: at most so many cores.
        memory_bytes_max: beyond it intermediate results go to ``spill``.
        spill: directory for them; each process has its own in it.
        worker_memory_bytes_max: as ``memory_bytes_max``, in a worker.
    """

    threads: int
    memory_bytes_max: int
    spill: Path
    worker_memory_bytes_max: int


class Engine:
    """Runs SQL. Any thread; each call is one query.

    The database is opened when it is needed. An engine that goes to a worker (query/work) has another one there.

    Attributes:
        ahead: threads that read what a query needs next.
    """

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._cursors: SimpleQueue[Any] = SimpleQueue()
        self.ahead = ThreadPoolExecutor(options.threads, "read-ahead")

    def __reduce__(self) -> tuple[type["Engine"], tuple[EngineOptions]]:
        there = replace(self._options, memory_bytes_max=self._options.worker_memory_bytes_max)
        return Engine, (there,)

    @cached_property
    def _database(self) -> Any:
        options = self._options
        config: dict[str, Any] = {
            "threads": options.threads,
            "memory_limit": f"{options.memory_bytes_max}B",
            "temp_directory": str(spill_of(options.spill, os.getpid())),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        database = duckdb.connect(config=config)
        database.execute("SET parquet_metadata_cache = true")
        return database

    def close(self) -> None:
        self.ahead.shutdown(cancel_futures=True)
        if "_database" in vars(self):
            self._database.close()

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        try:
            cursor = self._cursors.get_nowait()
        except Empty:
            cursor = self._database.cursor()
        try:
            yield cursor
        finally:
            self._cursors.put(cursor)

    def scan(
        self,
        files: Sequence[PublishedFile],
        columns: Sequence[PhysicalColumn],
        selection: Selection,
        newest: int | None = None,
        *,
        per_device: bool = False,
    ) -> pa.Table:
        """The rows of published files in the selection: the fixed columns, and those of the others that a file has.

        Args:
            files: at least one, all of one channel.
            columns: all of the channel's, in order of registration.
            selection: tags and devices by name.
            newest: only so many, those that came last.
            per_device: so many of each device.
        """
        known = columns[: max(file.columns for file in files)]
        wanted = [quoted(column.physical) for column in known if selection.wants(column)]
        names = ", ".join(["seq", '"at"', "device", "tag", *wanted])
        where, parameters = condition(selection, files)
        order = f" ORDER BY seq DESC LIMIT {newest}" if newest is not None and not per_device else ""
        sql = f"SELECT {names} FROM {source(files)}{where}{order}"  # noqa: S608
        if per_device:
            last = f"SELECT unnest(max(seq, {newest})) FROM {source(files)}{where} GROUP BY device"  # noqa: S608
            sql = f"SELECT {names} FROM {source(files)} WHERE seq IN ({last})"  # noqa: S608
        return self._run(sql, parameters)

    def fetch(
        self, sql: str, parameters: Sequence[str] = (), tables: Mapping[str, pa.Table] | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of a query, which may be about tables in memory, by these names."""
        with self._cursor() as cursor:
            given = tables or {}
            try:
                for name, table in given.items():
                    cursor.register(name, table)
                return list(cursor.execute(sql, list(parameters)).fetchall())
            finally:
                for name in given:
                    cursor.unregister(name)

    def batches(self, sql: str, parameters: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of a query, some at a time."""
        with self._cursor() as cursor:
            relation = cursor.sql(sql, params=list(parameters)) if parameters else cursor.sql(sql)
            yield from relation.to_arrow_reader(ARROW_ROWS)

    def _run(self, sql: str, parameters: list[str]) -> pa.Table:
        with self._cursor() as cursor:
            relation = cursor.sql(sql, params=parameters) if parameters else cursor.sql(sql)
            table = relation.to_arrow_table(ARROW_ROWS)
        # DuckDB labels times with the machine's zone; the label costs nothing to change.
        table = table.set_column(1, "at", table.column(1).cast(FIXED_FIELDS[1].type))
        for at in (2, 3):
            table = table.set_column(at, table.field(at).name, table.column(at).dictionary_encode())
        return table


def spill_of(directory: Path, pid: int) -> Path:
    """Where a process puts what does not fit into memory. It may not exist."""
    return directory / str(pid)


def quoted(name: str) -> str:
    """An identifier; ``at`` is a reserved word, and streams are called what devices like."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def source(files: Sequence[PublishedFile]) -> str:
    """The rows of these files but the deleted ones; files with fewer columns give nulls for the others."""
    union = ", union_by_name = true" if len({file.columns for file in files}) > 1 else ""
    names = ", ".join(text(str(file.path)) for file in files)
    found = f"read_parquet([{names}], hive_partitioning = false{union})"
    deleted = {each for file in files for each in file.deleted}
    return f"(FROM {found} WHERE {not_deleted(deleted)})" if deleted else found


def not_deleted(deleted: Iterable[DeletedTag]) -> str:
    """A condition that rows of published files meet if they are not deleted."""
    gone = (f"(tag = {text(name)} AND seq < {below_seq})" for name, _, below_seq in sorted(deleted))
    return f"({' OR '.join(gone)}) IS NOT TRUE"


def condition(selection: Selection, files: Sequence[PublishedFile]) -> tuple[str, list[str]]:
    """WHERE and its parameters; no more than what these files need."""
    parts = []
    parameters = []
    if selection.start_us > min(file.first_us for file in files):
        parts.append(f'"at" >= {timestamp(selection.start_us)}')
    if selection.end_us <= max(file.last_us for file in files):
        parts.append(f'"at" < {timestamp(selection.end_us)}')
    for column, names in (("device", selection.devices), ("tag", selection.tags)):
        if names is not None:
            parts.append(f"{column} IN ({', '.join('?' * len(names))})")
            parameters += [name for name, _ in names]
    return (" WHERE " + " AND ".join(parts) if parts else ""), parameters


def timestamp(at_us: int) -> str:
    """A TIMESTAMPTZ literal: a constant, so that row groups are skipped by their statistics."""
    moment = EPOCH + datetime.timedelta(microseconds=min(max(at_us, TIME_MIN_US), TIME_MAX_US - 1))
    return f"TIMESTAMPTZ '{moment:%Y-%m-%d %H:%M:%S.%f}+00'"
