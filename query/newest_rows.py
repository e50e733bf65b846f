"""A few rows that somebody asks for again and again: as the ring gave them, or as a table out of files.

Making a table of the ring's rows took longer than everything else that an answer with one row needs, and most often
text is all that is asked for: query/formats/texts.py writes it from the block.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from query.rows import raw
from storage.block import Block
from storage.wide import PhysicalColumn, to_record_batch

# The text that was asked for last is kept with the rows, up to here: a hundred rows of a few streams.
TEXT_BYTES_MAX: Final = 32_768

NameOf = Callable[[int], str]


class NewestRows:
    """Rows of one channel in order of arrival. They do not change.

    Args:
        source: where they are.
        columns: those that were asked for.
        names: of devices and of tags, by their ids; for a block.

    Attributes:
        seq: of each row, ascending.
        nbytes: how much memory they take, with the text.
    """

    __slots__ = ("_names", "_text", "columns", "nbytes", "seq", "source")

    def __init__(
        self, source: Block | pa.Table, columns: Sequence[PhysicalColumn], names: tuple[NameOf, NameOf]
    ) -> None:
        self.source = source
        self.columns = columns
        self._names = names
        self._text: tuple[Hashable, bytes] | None = None
        self.seq: NDArray[np.int64]
        if isinstance(source, Block):
            self.seq = source.seq
            arrays = (source.seq, source.at_us, source.channel, source.device, source.tag, source.cell_start,
                      source.column, source.value)  # fmt: skip
            size = sum(array.nbytes for array in arrays) + len(source.text)
        else:
            self.seq = raw(source, "seq")
            size = source.nbytes
        self.nbytes: int = size + TEXT_BYTES_MAX

    def table(self) -> pa.Table:
        """Their wide rows."""
        if isinstance(self.source, Block):
            return pa.Table.from_batches([to_record_batch(self.source, self.columns, *self._names)])
        return self.source

    def tag_name(self, tag: int) -> str:
        """Of a block's tag, which is not 0."""
        return self._names[1](tag)

    def text(self, asked: Hashable, make: Callable[[], bytes]) -> bytes:
        """What ``make`` makes of them, which follows from ``asked``; not made again for who asks for the same."""
        if self._text is not None and self._text[0] == asked:
            return self._text[1]
        text = make()
        if len(text) <= TEXT_BYTES_MAX:
            self._text = asked, text
        return text
