"""The job of a worker for SQL: one query of one user.

DuckDB is told to open nothing but the user's published files, to load nothing, and to let nobody change that; then
the jail closes, and only then the SQL is parsed. It must be one SELECT. The rows that are not published yet come from
the daemon in memory, because hot files hold everybody's.
"""

import mmap
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from query.engine import quoted, text
from query.errors import ApiError
from query.sql import jail
from query.sql.answers import writer_of
from query.work.wire import Frame, WireError
from query.work.worker import Port, read_zone

# The user's directory under a name that says nothing about where it lies; files' names are relative to it.
HERE: Final = "/proc/self/cwd/"
# DuckDB gives up politely before the process hits its wall.
POLITE_SHARE: Final = 0.75
# DuckDB does not start where it cannot read how much memory it may use.
CGROUP: Final = (Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
NAME: Final = re.compile(r"(?<![a-z0-9_])(?:channel_[0-9]+|channels|streams|devices)(?![a-z0-9_])")


@dataclass(frozen=True, slots=True)
class Setup:
    """What the daemon says of a query before it says the query.

    Attributes:
        zone: the user's.
        directory: of the user's published files.
        memory_bytes_max, threads: DuckDB's.
        is_jailed: the system can build the jail.
    """

    zone: str
    directory: str
    memory_bytes_max: int
    threads: int
    is_jailed: bool


def answer(port: Port, setup: Setup) -> None:
    """The job. Raises ApiError: the query is refused, or failed."""
    try:
        _answer(port, setup)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:  # ours: what was typed is refused where it is run
        raise ApiError("SQL_UNAVAILABLE", f"the worker cannot begin: {error}") from None
    except (ApiError, MemoryError, WireError):
        raise
    except Exception as error:  # whatever it is, it is this query's, and the client is to hear of it
        raise ApiError("BAD_SQL", f"the query failed: {type(error).__name__}") from None


def _answer(port: Port, setup: Setup) -> None:
    read_zone(setup.zone)  # later no file can be
    directory = Path(setup.directory)
    has_files = directory.is_dir()
    os.chdir(directory if has_files else "/")
    if setup.is_jailed:
        jail.enter([directory, *CGROUP] if has_files else CGROUP)
    connection = open_database(setup.threads, int(setup.memory_bytes_max * POLITE_SHARE))
    query, _ = port.receive(Frame.QUERY)
    statement = the_select(connection, query["sql"])
    port.say(Frame.TABLES, names=names_in(query["sql"]))
    views, descriptors = port.receive(Frame.VIEWS)
    make_views(connection, views["views"], descriptors)
    lock(connection, setup.zone, has_files=has_files)
    rows_max = query["rows_max"]
    try:
        relation = connection.sql(statement.query, params=query["parameters"] or None)
        if relation is None:
            raise ApiError("BAD_SQL", "this statement has no rows to give")
        types = [str(each) for each in relation.types]
        reader = relation.to_arrow_reader(16_384)
        writer = writer_of(query["format"], reader.schema, types)
        port.say(Frame.HEAD, media_type=writer.media_type)
        port.data(writer.begin())
        rows, is_cut = 0, False
        for batch in reader:
            part = batch.slice(0, rows_max - rows) if rows + batch.num_rows > rows_max else batch
            rows, is_cut = rows + part.num_rows, part.num_rows < batch.num_rows
            port.data(writer.rows(part))
            if is_cut:
                break
        port.data(writer.end(rows, is_cut))
    except duckdb.Error as error:
        raise refusal_of(error) from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ApiError("BAD_SQL", f"the result cannot be written as {query['format']}: {error}") from None
    port.say(Frame.END)


def open_database(threads: int, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """An empty database in memory that loads nothing and writes nothing."""
    return duckdb.connect(
        config={
            "threads": threads,
            "memory_limit": f"{memory_bytes}B",
            "temp_directory": "",
            "secret_directory": "/nowhere",
            "extension_directory": "/nowhere",
            "home_directory": "/nowhere",
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "max_expression_depth": 250,
        }
    )


def the_select(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The one statement. Raises ApiError."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise refusal_of(error) from None
    except ValueError as error:  # a kind of statement that duckdb's own enumeration lacks
        raise ApiError("SQL_FORBIDDEN", f"only SELECT can be run here: {error}") from None
    if len(statements) != 1:
        raise ApiError("BAD_SQL", f"expected one statement, not {len(statements)}")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2]
        raise ApiError("SQL_FORBIDDEN", f"only SELECT can be run here, and this is {kind}")
    return statements[0]


def names_in(sql: str) -> list[str]:
    """What may be the name of a view. A name too many, in a text or a comment, only costs its rows' way."""
    return sorted(set(NAME.findall(sql.lower())))


def make_views(
    connection: duckdb.DuckDBPyConnection, views: list[dict[str, Any]], descriptors: list[int]
) -> None:
    """Each view is its published files and its rows in memory, which are in the descriptor of the same place."""
    for view, descriptor in zip(views, descriptors, strict=True):
        name = view["name"]
        mapped = mmap.mmap(descriptor, os.fstat(descriptor).st_size, access=mmap.ACCESS_READ)
        os.close(descriptor)
        table = pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()
        if not view["files"]:
            connection.register(name, table)
            continue
        connection.register(f"unpublished_{name}", table)
        columns = ", ".join(quoted(column) for column in table.column_names)
        files = ", ".join(text(HERE + file) for file in view["files"])
        where = f" WHERE {view['condition']}" if view["condition"] else ""
        connection.execute(
            f"CREATE VIEW {name} AS SELECT {columns} FROM ("  # noqa: S608
            f"FROM read_parquet([{files}], hive_partitioning = false, union_by_name = true){where}"
            f" UNION ALL BY NAME FROM unpublished_{name})"
        )


def lock(connection: duckdb.DuckDBPyConnection, zone: str, *, has_files: bool) -> None:
    """What the SQL finds is what it keeps."""
    connection.execute(f"SET TimeZone = {text(zone)}")
    if has_files:
        connection.execute(f"SET allowed_directories = [{text(HERE)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def refusal_of(error: duckdb.Error) -> ApiError:
    """DuckDB's words, which name line and column; they hold nothing that was not typed or is not the user's own."""
    words = str(error).strip()
    match error:
        case duckdb.PermissionException():
            return ApiError("SQL_FORBIDDEN", words)
        case duckdb.OutOfMemoryException():
            return ApiError("QUERY_MEMORY", "the query needs more memory than [sql] memory_bytes_max")
        case duckdb.InternalException() | duckdb.FatalException():
            return ApiError("BAD_SQL", "DuckDB failed on this query: " + words.partition("\n")[0])
        case _:
            return ApiError("BAD_SQL", words)
