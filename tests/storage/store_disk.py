"""A data directory that can be pictured at any moment, as a killed process or a power cut would leave it.

The log is in memory (tests/storage/simulated_disk.py), everything else really on disk. The picture after a kill is
what the system shows. After a power cut, in the log and in the Parquet files, any part of what was not synced is lost,
and so may be any change of names in a directory that was not synced, and any directory whose parent was not. SQLite's
files stay as they are: a test takes pictures outside of its transactions, and those are synced.
"""

import random
import shutil
import subprocess
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from storage.disk import File, RealDisk, RealFile
from tests.storage.simulated_disk import Inode, SimulatedDisk, SimulatedFile


class LogFile(SimulatedFile):
    """A file whose failed sync leaves its pages clean, as Linux does: a later sync succeeds without writing them."""

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        written = super().pwrite(data, offset)
        assert isinstance(self.disk, Log)
        self.disk.dirty.setdefault(id(self.inode), []).append((offset, bytes(data)))
        return written

    def sync(self) -> None:
        assert isinstance(self.disk, Log)
        before, dirty = self.inode.synced, self.disk.dirty.pop(id(self.inode), [])
        super().sync()
        self.inode.synced = before
        for offset, data in dirty:
            before[offset : offset + len(data)] = data


class Log(SimulatedDisk):
    """The simulated disk, which says beforehand when something is to change."""

    def __init__(self, seed: int, on_step: Callable[[], None]) -> None:
        super().__init__(seed)
        self.on_step = on_step
        self.dirty: dict[int, list[tuple[int, bytes]]] = {}

    def fault(self) -> OSError | None:
        self.on_step()
        return super().fault()

    def open(self, path: Path) -> SimulatedFile:
        return LogFile(self, super().open(path).inode)

    def become(self, other: "Log") -> None:
        """Hold what the other one holds, copied."""
        twins: dict[int, Inode] = {}
        for inode in (*other.seen.values(), *other.synced.values()):
            twin = twins.setdefault(id(inode), Inode())
            twin.synced, twin.seen = bytearray(inode.synced), bytearray(inode.seen)
            self.dirty[id(twin)] = other.dirty.get(id(inode), []).copy()
        self.seen = {path: twins[id(inode)] for path, inode in other.seen.items()}
        self.synced = {path: twins[id(inode)] for path, inode in other.synced.items()}


@dataclass
class Pending:
    """What a power cut may undo, by paths relative to the data directory."""

    exchanged: list[tuple[Path, Path]]
    linked: list[Path]
    renamed: list[tuple[Path, Path]]
    unlinked: list[tuple[Path, bytes]]
    directories: set[Path]  # the durable ones
    files: set[Path]  # likewise

    def exchange(self, first: Path, second: Path) -> None:
        """Two directories have each other's names."""

        def moved(path: Path) -> Path:
            for here, there in ((first, second), (second, first)):
                if path.is_relative_to(here):
                    return there / path.relative_to(here)
            return path

        self.linked = [moved(path) for path in self.linked]
        self.renamed = [(moved(old), moved(new)) for old, new in self.renamed]
        self.unlinked = [(moved(path), held) for path, held in self.unlinked]
        self.files = {moved(path) for path in self.files}


class StoreDisk:
    """storage.disk.Disk for a whole store. ``log`` counts calls and fails the n-th one, wherever it goes."""

    def __init__(self, data: Path, seed: int = 0) -> None:
        self.data = data
        self.on_step: Callable[[], None] = lambda: None
        self.log = Log(seed, lambda: self.on_step())
        self._real = RealDisk()
        self._pending = Pending([], [], [], [], set(), set())

    # ---- the protocol

    def open(self, path: Path) -> File:
        if self._is_log(path):
            return self.log.open(self._log_path(path))
        disk, here = self, path.relative_to(self.data)

        class Synced(RealFile):
            def sync(self) -> None:
                disk._check()
                super().sync()
                disk._pending.files.add(here)

        return Synced(path, 2)

    def create(self, path: Path, size: int, *, is_filled: bool, room_bytes: int) -> None:
        self.log.create(self._log_path(path), size, is_filled=is_filled, room_bytes=room_bytes)

    def names(self, directory: Path) -> list[str]:
        if directory == self.data / "log":
            return self.log.names(Path("/log"))
        return self._real.names(directory)

    def rename(self, old: Path, new: Path) -> None:
        if self._is_log(old):
            self.log.rename(self._log_path(old), self._log_path(new))
            return
        self._check()
        self._real.rename(old, new)
        here, there = old.relative_to(self.data), new.relative_to(self.data)
        self._pending.renamed.append((here, there))
        if here in self._pending.files:
            self._pending.files.remove(here)
            self._pending.files.add(there)

    def unlink(self, path: Path) -> None:
        if self._is_log(path):
            self.log.unlink(self._log_path(path))
            return
        self._check()
        held = path.read_bytes() if path.exists() else b""
        self._real.unlink(path)
        self._pending.unlinked.append((path.relative_to(self.data), held))

    def link(self, old: Path, new: Path) -> None:
        self._check()
        self._real.link(old, new)
        here, there = old.relative_to(self.data), new.relative_to(self.data)
        self._pending.linked.append(there)
        if here in self._pending.files:
            self._pending.files.add(there)

    def exchange(self, one: Path, two: Path) -> None:
        self._check()
        self._real.exchange(one, two)
        first, second = one.relative_to(self.data), two.relative_to(self.data)
        self._pending.exchange(first, second)
        self._pending.exchanged.append((first, second))

    def sync_directory(self, directory: Path) -> None:
        if directory == self.data / "log":
            self.log.sync_directory(Path("/log"))
        else:
            self._check()
            self._real.sync_directory(directory)
        here, pending = directory.relative_to(self.data), self._pending
        pending.exchanged = [pair for pair in pending.exchanged if pair[1].parent != here]
        pending.linked = [path for path in pending.linked if path.parent != here]
        pending.renamed = [names for names in pending.renamed if names[1].parent != here]
        pending.unlinked = [gone for gone in pending.unlinked if gone[0].parent != here]
        pending.directories |= {path.relative_to(self.data) for path in directory.iterdir() if path.is_dir()}

    def _check(self) -> None:
        fault = self.log.fault()
        if fault:
            raise fault

    def _is_log(self, path: Path) -> bool:
        return path.parent == self.data / "log" and path.name.partition(".")[0] != "id"

    @staticmethod
    def _log_path(path: Path) -> Path:
        return Path("/log") / path.name

    # ---- pictures

    @property
    def has_unsynced_names(self) -> bool:
        """Whether a power cut could undo a name: of a segment, a Parquet file or a directory."""
        made = {path.relative_to(self.data) for path in (self.data / "data").rglob("*") if path.is_dir()}
        pending = self._pending
        return (
            self.log.seen.keys() != self.log.synced.keys()
            or bool(pending.exchanged or pending.linked or pending.renamed or pending.unlinked)
            or not made <= pending.directories
        )

    def picture(self, data: Path) -> "StoreDisk":
        """What a kill at this moment leaves, in a directory of its own."""
        # By another process: closing a file of SQLite's here would take its locks away.
        subprocess.run(["cp", "-a", str(self.data), str(data)], check=True)
        disk = StoreDisk(data)
        disk.log.become(self.log)
        pending = self._pending
        disk._pending = Pending(
            copy(pending.exchanged), copy(pending.linked),
            copy(pending.renamed), copy(pending.unlinked), copy(pending.directories), copy(pending.files),
        )  # fmt: skip
        return disk

    def _undo_names(self, pending: Pending, chance: random.Random) -> None:
        for one, two in reversed(pending.exchanged):
            if chance.random() < 0.5:
                self._real.exchange(self.data / one, self.data / two)
                pending.exchange(one, two)
        for here in pending.linked:
            if (self.data / here).exists() and chance.random() < 0.5:
                (self.data / here).unlink()
        for here, there in reversed(pending.renamed):
            if (self.data / there).exists() and chance.random() < 0.5:
                (self.data / there).rename(self.data / here)

    def cut_power(self, seed: int) -> None:
        """Lose what a power cut may lose. Nobody may have the directory open."""
        chance = self.log.chance
        chance.seed(seed)
        pending, self._pending = self._pending, Pending([], [], [], [], set(), set())
        self._undo_names(pending, chance)
        for here, held in pending.unlinked:
            if not (self.data / here).exists() and chance.random() < 0.5:
                (self.data / here).parent.mkdir(parents=True, exist_ok=True)
                (self.data / here).write_bytes(held)
                pending.files.add(here)
        for path in sorted((self.data / "data").rglob("*"), reverse=True):
            here = path.relative_to(self.data)
            if path.is_dir() and here not in pending.directories and chance.random() < 0.5:
                shutil.rmtree(path)
        for part in ("hot", "data"):
            for path in (self.data / part).rglob("*"):
                here = path.relative_to(self.data)
                if path.is_file():
                    if here not in pending.files:
                        path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size + 1)])
                    self._pending.files.add(here)
                else:
                    self._pending.directories.add(here)
        self.log.crash()
        self.log.dirty.clear()
