"""Small Parquet bodies that would take very much when they are read: refused, and the process does not grow."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query.writing.columnar import parse_parquet
from query.writing.rows import BadBodyError, Reading, Rows

ROOT = Path(__file__).parents[2]
# What a bomb may cost in a process of its own; each would take gigabytes, or hundreds of megabytes.
GROWTH_KIB_MAX = 120 << 10
CHILD = """
import sys
from pathlib import Path
from zoneinfo import ZoneInfo
import pyarrow.parquet as pq
from query.writing.columnar import parse_parquet
from query.writing.rows import BadBodyError, Reading, Rows
def peak_kib():  # getrusage's begins with the parent's
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
small, bomb = (Path(path).read_bytes() for path in sys.argv[1:])
reading = Reading(ZoneInfo("UTC"), "", "", 2**60, 10_000, 8 << 20)
parse_parquet(small, Rows(reading))
before = peak_kib()
try:
    parse_parquet(bomb, Rows(reading))
    print("read")
except BadBodyError as error:
    print(error.token)
print(peak_kib() - before)
"""


def written(column: pa.Array, name: str = "v", **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({name: column}), sink, compression="zstd", **{"store_schema": False, **options})
    return bytes(sink.getvalue().to_pybytes())


def named(times: int, text: str) -> pa.Array:
    """The same long text again and again, which a file has once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), [text])


def bombs() -> dict[str, bytes]:
    rows, text = 4_000, "x" * (1 << 20)
    names = named(rows, text)
    lists = pa.ListArray.from_arrays(pa.array(range(rows + 1), pa.int32()), names)
    return {
        "a text that many rows name": written(names),
        "a tag that many rows name": written(names, "tag"),
        "a text that many lists name": written(lists),
    }


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return bombs()


@pytest.mark.parametrize(
    "which",
    ["a text that many rows name", "a tag that many rows name", "a text that many lists name"],
)
def test_a_bomb_is_refused_and_takes_no_memory(made: dict[str, bytes], tmp_path: Path, which: str) -> None:
    small, bomb = tmp_path / "small", tmp_path / "bomb"
    small.write_bytes(written(pa.array(["x", "y"])))
    bomb.write_bytes(made[which])
    assert bomb.stat().st_size < 4 << 20
    done = subprocess.run(
        [sys.executable, "-c", CHILD, small, bomb], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    token, growth_kib = done.stdout.split()
    assert token != "read"
    assert int(growth_kib) < GROWTH_KIB_MAX


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 2_000), value=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_read_and_nothing_else(place: int, value: int) -> None:
    body = bytearray(written(pa.array([["x"], ["y", None]])))
    body[place % len(body)] = value
    with suppress(BadBodyError):
        parse_parquet(bytes(body), Rows(Reading(ZoneInfo("UTC"), "", "", 2**60, 10, 1 << 20)))
