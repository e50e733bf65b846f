"""The worker: one query of one user, in a process of its own that ends with it.

DuckDB is told to open nothing but the user's published files, to load nothing, and to let nobody change that; then
the jail closes, and only then the SQL is parsed. It must be one SELECT. The rows that are not published yet come from
the daemon in memory, because hot files hold everybody's.
"""

import mmap
import os
import re
import socket
from array import array
from pathlib import Path
from typing import Any, Final, NoReturn

import duckdb
import msgspec
import pyarrow as pa

from query.engine import quoted, text
from query.sql import jail
from query.sql.answers import writer_of
from query.sql.wire import DATA_BYTES, HEADER, Frame, WireError, told

# The user's directory under a name that says nothing about where it lies; files' names are relative to it.
HERE: Final = "/proc/self/cwd/"
# DuckDB gives up politely before the process hits its wall.
POLITE_SHARE: Final = 0.75
# DuckDB does not start where it cannot read how much memory it may use.
CGROUP: Final = (Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
# Descriptors that one message can carry (SCM_MAX_FD is 253).
DESCRIPTORS_MAX: Final = 253
NAME: Final = re.compile(r"(?<![a-z0-9_])(?:channel_[0-9]+|channels|streams|devices)(?![a-z0-9_])")
# Beside DuckDB's memory: the stacks of its threads, pyarrow, Python.
OWN_BYTES: Final = 160 << 20
# Address space that allocators reserve and do not use.
RESERVED_BYTES: Final = 512 << 20


class RefusedError(Exception):
    """The query is refused, or failed: a token of query/errors.py and words."""

    def __init__(self, token: str, detail: str) -> None:
        super().__init__(detail)
        self.token, self.detail = token, detail


class Port:
    """The worker's end of the wire. Blocks."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def receive(self, kind: Frame) -> tuple[dict[str, Any], list[int]]:
        """The next frame, which must be of this kind, and the descriptors that came with it."""
        descriptors: list[int] = []
        found, length = HEADER.unpack(self._exactly(HEADER.size, descriptors))
        if found != kind.value:
            raise WireError(f"expected {kind.name}, not {found!r}")
        return msgspec.json.decode(self._exactly(length, descriptors), type=dict), descriptors

    def _exactly(self, count: int, descriptors: list[int]) -> bytes:
        received = bytearray()
        while len(received) < count:
            data, ancillary, _, _ = self._socket.recvmsg(
                count - len(received), socket.CMSG_SPACE(4 * DESCRIPTORS_MAX)
            )
            for level, kind, body in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors += array("i", body[: len(body) // 4 * 4])
            if not data:
                raise WireError("the daemon has gone")
            received += data
        return bytes(received)

    def say(self, kind: Frame, **values: Any) -> None:
        self._socket.sendall(told(kind, **values))

    def data(self, body: bytes | memoryview) -> None:
        view = memoryview(body)
        for first in range(0, len(view), DATA_BYTES):
            part = view[first : first + DATA_BYTES]
            self._socket.sendall(HEADER.pack(Frame.DATA.value, len(part)))
            self._socket.sendall(part)


def run(sock: socket.socket) -> NoReturn:
    """The life of the process."""
    port = Port(sock)
    try:
        _answer(port)
        code = 0
    except RefusedError as refused:
        port.say(Frame.ERROR, token=refused.token, detail=refused.detail)
        code = 0
    except (MemoryError, pa.ArrowMemoryError):
        port.say(
            Frame.ERROR,
            token="QUERY_MEMORY",  # noqa: S106
            detail="the query needs more memory than [sql] memory_bytes_max",
        )
        code = 0
    except duckdb.Error as error:  # ours: what was typed is refused where it is run
        port.say(Frame.ERROR, token="SQL_UNAVAILABLE", detail=f"the worker cannot begin: {error}")  # noqa: S106
        code = 1
    except (WireError, OSError):
        code = 1  # nobody listens
    except Exception as error:  # whatever it is, it is this query's, and the client is to hear of it
        port.say(Frame.ERROR, token="BAD_SQL", detail=f"the query failed: {type(error).__name__}")  # noqa: S106
        code = 1
    os._exit(code)


def read_zone(name: str) -> None:
    """Python's and pyarrow's idea of it, and the modules that they need for it."""
    pa.array([0], pa.timestamp("us", name)).to_pylist()


def _answer(port: Port) -> None:
    setup, _ = port.receive(Frame.SETUP)
    read_zone(setup["zone"])  # later no file can be
    directory = Path(setup["directory"])
    has_files = directory.is_dir()
    os.chdir(directory if has_files else "/")
    memory = setup["memory_bytes_max"]
    limits = jail.Limits(
        setup["seconds"], memory + OWN_BYTES, setup["unpublished_bytes_max"] + RESERVED_BYTES
    )
    jail.limit(limits)
    if setup["is_jailed"]:
        jail.enter([directory, *CGROUP] if has_files else CGROUP)
    connection = open_database(setup["threads"], int(memory * POLITE_SHARE))
    query, _ = port.receive(Frame.QUERY)
    statement = the_select(connection, query["sql"])
    port.say(Frame.TABLES, names=names_in(query["sql"]))
    views, descriptors = port.receive(Frame.VIEWS)
    make_views(connection, views["views"], descriptors)
    lock(connection, setup["zone"], has_files=has_files)
    rows_max = query["rows_max"]
    try:
        relation = connection.sql(statement.query, params=query["parameters"] or None)
        if relation is None:
            raise RefusedError("BAD_SQL", "this statement has no rows to give")
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
        raise RefusedError("BAD_SQL", f"the result cannot be written as {query['format']}: {error}") from None
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
    """The one statement. Raises RefusedError."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise refusal_of(error) from None
    except ValueError as error:  # a kind of statement that duckdb's own enumeration lacks
        raise RefusedError("SQL_FORBIDDEN", f"only SELECT can be run here: {error}") from None
    if len(statements) != 1:
        raise RefusedError("BAD_SQL", f"expected one statement, not {len(statements)}")
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2]
        raise RefusedError("SQL_FORBIDDEN", f"only SELECT can be run here, and this is {kind}")
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


def refusal_of(error: duckdb.Error) -> RefusedError:
    """DuckDB's words, which name line and column; they hold nothing that was not typed or is not the user's own."""
    words = str(error).strip()
    match error:
        case duckdb.PermissionException():
            return RefusedError("SQL_FORBIDDEN", words)
        case duckdb.OutOfMemoryException():
            return RefusedError("QUERY_MEMORY", "the query needs more memory than [sql] memory_bytes_max")
        case duckdb.InternalException() | duckdb.FatalException():
            return RefusedError("BAD_SQL", "DuckDB failed on this query: " + words.partition("\n")[0])
        case _:
            return RefusedError("BAD_SQL", words)
