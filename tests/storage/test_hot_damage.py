"""Hot files on disks that fail and after bytes have changed: nothing half there, nothing silently wrong."""

import errno
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.block import Block
from storage.cells import FIELDS
from storage.cover import DAY_US, TEMPORARY, HotFile
from storage.disk import DiskFullError, RealDisk
from storage.hot import DamagedFileError, footer_crc, hot_path, write_hot
from tests.storage.hot_files import NAMES, FaultyDisk, read_back, write
from tests.storage.rows import NOON_US, Filled, message


@pytest.mark.parametrize(("number", "raised"), [(errno.ENOSPC, DiskFullError), (errno.EIO, OSError)])
def test_a_disk_error_leaves_nothing_behind(tmp_path: Path, number: int, raised: type[OSError]) -> None:
    filled = Filled([message(i) for i in range(9)])
    for fail_at in range(1, 4):  # the file's sync, the rename, the directory's sync
        with pytest.raises(OSError) as caught:
            write(filled, tmp_path, disk=FaultyDisk(fail_at, number))
        assert (type(caught.value), caught.value.errno) == (raised, number)
        assert list(tmp_path.iterdir()) == []
    file = write(filled, tmp_path, disk=FaultyDisk(4, number))
    assert read_back(filled, file) == filled.in_order()


def test_a_disk_that_is_full_while_rows_are_written_leaves_nothing_behind(tmp_path: Path) -> None:
    filled = Filled([message("x" * 900, device=i) for i in range(100)])
    temporary = hot_path(tmp_path, 0, 100).with_suffix(TEMPORARY)
    temporary.symlink_to("/dev/full")
    with pytest.raises(DiskFullError):
        write(filled, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert read_back(filled, write(filled, tmp_path)) == filled.in_order()


def test_a_block_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    filled = Filled([message(i, at_us=NOON_US + i) for i in range(9)])

    def blocks() -> Iterator[Block]:
        yield filled.block(filled.rows[:4])
        raise LookupError

    with pytest.raises(LookupError):
        write_hot(hot_path(tmp_path, 0, 9), blocks(), filled.schema, NAMES, RealDisk())
    assert list(tmp_path.iterdir()) == []


def moved(file: HotFile, path: Path) -> HotFile:
    """What the catalog says of the file, in another place."""
    return replace(file, path=path, segments=tuple(replace(segment, path=path) for segment in file.segments))


def foreign(file: HotFile, schema: pa.Schema) -> HotFile:
    """An empty table of that schema, under a name that fits it, in the file's place."""
    pq.write_table(schema.empty_table(), file.path)
    path = hot_path(file.path.parent, 0, 60, footer_crc(file.path))
    file.path.rename(path)
    return moved(file, path)


class Damaged:
    """A good file, its rows, and room for bad copies of it."""

    def __init__(self, directory: Path) -> None:
        sent = [
            message(
                {"a": i, "b": f"text {i}", "c": i % 2 == 0, "d": {"e": i}},
                channel=1 + i % 3,
                at_us=NOON_US + i % 2 * DAY_US,
                tag=["north", None][i % 2],
            )
            for i in range(60)
        ]
        self.filled = Filled(sent)
        self.file = write(self.filled, directory, group_cells=32)
        self.good = self.file.path.read_bytes()
        self.rows = self.filled.in_order()

    def read(self, data: bytes) -> str:
        """What reading these bytes gives."""
        self.file.path.write_bytes(data)
        try:
            rows = read_back(self.filled, self.file)
        except DamagedFileError as error:
            return "damaged" if error.path == self.file.path and error.reason else "wrong"
        return "right" if rows == self.rows else "wrong"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(tmp_path_factory.mktemp("hot"))


def test_a_file_that_ends_early_is_damaged(damaged: Damaged) -> None:
    assert damaged.read(damaged.good) == "right"
    for size in (0, 1, 4, 8, 100, len(damaged.good) // 2, len(damaged.good) - 8, len(damaged.good) - 1):
        assert damaged.read(damaged.good[:size]) == "damaged"


@settings(max_examples=300)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_does_not_matter(damaged: Damaged, place: float, flip: int) -> None:
    data = bytearray(damaged.good)
    data[int(place * len(data))] ^= flip
    assert damaged.read(bytes(data)) in ("damaged", "right")


def test_zeros_in_the_pages_are_noticed(damaged: Damaged) -> None:
    chance = random.Random(1)
    first_pages = len(damaged.good) // 4
    outcomes = set()
    for _ in range(50):
        at = chance.randrange(4, first_pages)
        outcomes.add(damaged.read(damaged.good[:at] + bytes(64) + damaged.good[at + 64 :]))
    assert "wrong" not in outcomes
    assert "damaged" in outcomes


def test_rows_that_are_not_those_of_the_catalog_are_damage(damaged: Damaged) -> None:
    damaged.read(damaged.good)
    other = Filled([message({"a": i}, channel=1 + i % 3, at_us=NOON_US + 7) for i in range(60)])
    path = write(other, damaged.file.path.parent).path
    with pytest.raises(DamagedFileError, match="other rows"):
        read_back(damaged.filled, moved(damaged.file, path))
    assert damaged.read(damaged.good) == "right"


def test_a_parquet_file_of_somebody_else_is_damage(damaged: Damaged) -> None:
    narrow = pa.schema([field.with_type(pa.int32()) if field.name == "seq" else field for field in FIELDS])
    for schema in (pa.schema([("a", pa.int64())]), narrow):
        with pytest.raises(DamagedFileError, match="no column"):
            read_back(damaged.filled, foreign(damaged.file, schema))
    with pytest.raises(DamagedFileError, match="0 cells"):
        read_back(damaged.filled, foreign(damaged.file, pa.schema(FIELDS)))


def test_a_file_that_is_gone_is_not_damage(tmp_path: Path) -> None:
    filled = Filled([message(1)])
    file = write(filled, tmp_path)
    file.path.unlink()
    with pytest.raises(FileNotFoundError):
        read_back(filled, file)
