"""Hot files of random rows, on a real disk that may fail."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

import storage.hot
from storage.cells import slice_rows
from storage.cover import HotFile
from storage.disk import RealDisk, RealFile
from storage.hot import hot_path, read_blocks, write_hot
from tests.storage.rows import Filled, PlainNames, Row
from tests.storage.simulated_disk import SimulatedDisk

NAMES = PlainNames()


def write(
    filled: Filled,
    directory: Path,
    *,
    group_cells: int = 8,
    cuts: Sequence[int] = (),
    disk: RealDisk | None = None,
) -> HotFile:
    """One hot file of all rows, given to write_hot in blocks that end at the cuts."""
    rows = filled.in_order()
    block = filled.block(rows)
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(rows)), len(rows)]
    blocks = (slice_rows(block, first, last) for first, last in pairwise(edges))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage.hot, "GROUP_CELLS", group_cells)
        path = hot_path(directory, 0, len(rows))
        return write_hot(path, blocks, filled.schema, NAMES, disk or RealDisk())


def read_back(filled: Filled, file: HotFile) -> list[Row]:
    return [row for segment in file.segments for block in read_blocks(segment) for row in filled.read(block)]


class FaultyDisk(RealDisk):
    """The real disk, whose n-th call fails."""

    def __init__(self, fail_at: int, fail_with: int) -> None:
        self.faults = SimulatedDisk()
        self.faults.fail_at, self.faults.fail_with = fail_at, fail_with

    def _call(self) -> None:
        fault = self.faults.fault()
        if fault:
            raise fault

    def open(self, path: Path) -> RealFile:
        disk = self

        class FaultyFile(RealFile):
            def sync(self) -> None:
                disk._call()
                super().sync()

        return FaultyFile(path, 2)

    def rename(self, old: Path, new: Path) -> None:
        self._call()
        super().rename(old, new)

    def sync_directory(self, directory: Path) -> None:
        self._call()
        super().sync_directory(directory)
