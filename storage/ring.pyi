from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.block import Block

class RingStatistics(NamedTuple):
    rows_max: int
    cells_max: int
    text_bytes_max: int
    rows: int
    cells: int
    text_bytes: int

class Ring:
    """The newest rows of all channels, in one global ring. A row's number is its ``seq``.

    Cursors: ``oldest <= sealed <= durable <= written``; a cursor is the first seq *not* yet so. Rows in
    ``[oldest, sealed)`` are in hot files already and stay readable until they are overwritten.
    Every method but ``unsealed`` and ``block`` holds the GIL for its whole time and is therefore atomic against the
    reactor. Those two release it: in another thread than the reactor's only rows that are pinned may be asked for.
    """

    def __init__(self, rows: int, cells: int, text_bytes: int, first_seq: int = 0) -> None: ...
    @property
    def oldest(self) -> int: ...
    @property
    def sealed(self) -> int: ...
    @property
    def durable(self) -> int: ...
    @property
    def written(self) -> int: ...
    def mark_durable(self, seq: int) -> None: ...
    def mark_sealed(self, seq: int) -> None: ...
    def pin(self, seq: int) -> int:
        """Keep rows from seq on from being overwritten; returns a token for unpin(). seq must be >= oldest."""
    def unpin(self, token: int) -> None: ...
    def delete_tag(self, tag: int, below_seq: int) -> None:
        """Rows of this tag with a smaller seq are no more: whoever looks for rows passes them over."""
    def newest(
        self, channel: int, limit: int, tag: int = -1, device: int = -1, first: int = 0
    ) -> NDArray[np.int64]:
        """Seqs from `first` on of the channel's newest durable rows that are still in the ring, newest first."""
    def unsealed(self, channel: int, first: int, last: int) -> NDArray[np.int64]:
        """Seqs of the channel's rows in [first, last), ascending, by the back links."""
    def channel_range(self, first: int, last: int) -> NDArray[np.int64]:
        """Seqs in [first, last) ordered by (channel, at, seq), without what was deleted."""
    def block(self, seqs: NDArray[np.int64]) -> Block:
        """Copy those rows, in that order. Every seq must be in [oldest, written)."""
    def statistics(self) -> RingStatistics: ...
