from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

class Column(NamedTuple):
    """One (stream, kind): a physical column. ``name`` is None for a literal payload (a bare number, string...)."""

    id: int
    channel: int
    stream: int
    name: str | None
    kind: int

class Tag(NamedTuple):
    """One tag of one channel. Tag id 0 means «no tag» and is never listed."""

    id: int
    channel: int
    name: str

class Schema:
    """What the ring's small integers mean: columns and tags, numbered in order of first appearance.

    Numbers are dense, start at 0 (columns) and 1 (tags), and are the same after a restart: the catalog holds
    those of sealed rows, replaying the log makes the others again in the same order.
    """

    def __init__(self) -> None: ...
    def load(self, columns: Sequence[Column], tags: Sequence[Tag]) -> None: ...
    @property
    def column_count(self) -> int: ...
    @property
    def tag_count(self) -> int: ...
    def kinds(self) -> NDArray[np.uint8]:
        """A copy of every column's Kind, by id; any thread may ask."""
    def column(self, column_id: int) -> Column: ...
    def columns_of(self, channel: int) -> list[Column]: ...
    def columns_from(self, first_id: int) -> list[Column]: ...
    def stream_count(self, channel: int) -> int: ...
    def tag(self, tag_id: int) -> Tag: ...
    def tag_id(self, channel: int, name: str) -> int: ...
    def tags_of(self, channel: int) -> list[Tag]: ...
    def tags_from(self, first_id: int) -> list[Tag]: ...
