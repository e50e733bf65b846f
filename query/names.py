"""What ids of devices and tags mean.

In the daemon the store knows. A worker has the names of the rows that came from the ring with it, and finds the others
where they stand beside the rows: in the hot files' footers.
"""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from storage.block import Block
from storage.hot import meanings_in

Name = Callable[[int], str]


class Names(Protocol):
    """Names of devices and of tags, by id."""

    def of(self, path: Path | None) -> tuple[Name, Name]:
        """Of the rows in a hot file, or of those from the ring. Any thread."""


class KnownNames:
    """Of a snapshot."""

    def __init__(self, device: Name, tag: Name) -> None:
        self._names = device, tag

    def of(self, path: Path | None) -> tuple[Name, Name]:
        return self._names


class CarriedNames:
    """In a worker.

    Args:
        blocks: rows from the ring.
        names: what their ids mean.
    """

    def __init__(self, blocks: Iterable[Block], names: Names) -> None:
        device, tag = names.of(None)
        devices: set[int] = set()
        tags: set[int] = set()
        for block in blocks:
            devices.update(np.unique(block.device).tolist())
            tags.update(np.unique(block.tag).tolist())
        self._devices = {number: device(number) for number in devices}
        self._tags = {number: tag(number) for number in tags if number}

    def of(self, path: Path | None) -> tuple[Name, Name]:
        devices, tags = (self._devices, self._tags) if path is None else _names_in(path)
        return devices.__getitem__, tags.__getitem__


@cache
def _names_in(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """A worker reads few files, and ends."""
    return meanings_in(path)
