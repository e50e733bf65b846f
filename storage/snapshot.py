"""A snapshot: one channel's rows in one time range, as they were durable at one moment.

Taken in the main thread, where files and the ring's cursor are in step; read in any other. It keeps its files from
being unlinked and its rows in the ring from being overwritten until it is closed, so it is to be closed soon.
"""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

from storage.block import Block
from storage.catalog_view import CatalogView
from storage.cover import Files, HotSegment, PublishedFile
from storage.ring import Ring
from storage.wide import PhysicalColumn

# Rows copied out of the ring in one go: about 1 ms during which nobody else runs.
SLICE_ROWS: Final = 8_192


class Snapshot:
    """See the module.

    Attributes:
        channel: registry id.
        columns: all physical columns of the channel, in order of registration.
        published: wide files, oldest day first.
        hot: segments of hot files, oldest first.
        device_name, tag_name: what ids in blocks mean; any thread.
    """

    def __init__(
        self,
        catalog: CatalogView,
        ring: Ring,
        channel: int,
        columns: tuple[PhysicalColumn, ...],
        files: Files,
        names: tuple[Callable[[int], str], Callable[[int], str]],
    ) -> None:
        self.channel = channel
        self.columns = columns
        self.published: tuple[PublishedFile, ...] = files.published
        self.hot: tuple[HotSegment, ...] = files.hot
        self.device_name, self.tag_name = names
        self._catalog = catalog
        self._ring = ring
        self._span = ring.sealed, ring.durable
        newest = ring.newest(channel, 1)
        self._pin: int | None = ring.pin(ring.sealed) if len(newest) and newest[0] >= ring.sealed else None
        self._hold: int | None = catalog.hold() if files.published or files.hot else None

    def fresh_blocks(self, rows: int = SLICE_ROWS) -> Iterator[Block]:
        """The rows that only the ring has, in order of seq, a slice at a time; also those outside of the time range.

        They are looked for here, not in the main thread: of half a million that takes 5 ms.
        """
        if self._pin is None:
            return
        fresh = self._ring.unsealed(self.channel, *self._span)
        for at in range(0, len(fresh), rows):
            yield self._ring.block(fresh[at : at + rows])

    def let_go_of_ring(self) -> None:
        """The rows in the ring are not needed any more. In the main thread; may be called twice."""
        if self._pin is not None:
            self._ring.unpin(self._pin)
            self._pin = None

    def close(self) -> None:
        """Let go of rows and files. In the main thread; may be called twice."""
        self.let_go_of_ring()
        if self._hold is not None:
            self._catalog.release(self._hold)
            self._hold = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
