"""Random datapoints: as a device sends them, as plain Python remembers them, and as blocks hold them.

Blocks are made by the code that makes them in the daemon (journal and ring); the plain side knows nothing of it. Both
meet in ``Row``, which equals only a row with the same cells of the same kinds.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from storage.block import Block
from storage.cover import DAY_US
from storage.journal import FULL, Journal, Limits
from storage.kinds import Kind, PayloadKind
from storage.ring import Ring
from storage.schema import Schema

EXACT_MAX = 2**53
NOON_US = 20_000 * DAY_US + DAY_US // 2  # of a day in 2024

Key = tuple[str | None, Kind]  # the stream (None for a literal payload) and its kind


@dataclass(frozen=True)
class Sent:
    """One message; ``payload`` is anything that json.dumps takes."""

    at_us: int
    channel: int
    device: int
    tag: str | None
    payload: object


def message(
    payload: object, at_us: int = NOON_US, channel: int = 1, device: int = 7, tag: str | None = None
) -> Sent:
    """A message of which only some parts matter."""
    return Sent(at_us, channel, device, tag, payload)


@dataclass(frozen=True)
class Row:
    """One datapoint. A JSON cell holds its minified text."""

    seq: int
    at_us: int
    channel: int
    device: int
    tag: str | None
    cells: dict[Key, object]

    @property
    def order(self) -> tuple[int, int, int]:
        """How rows stand in a hot file."""
        return self.channel, self.at_us, self.seq


def cell(value: object) -> tuple[Kind, object]:
    """The kind that a JSON value has, and what a cell of it holds (storage/kinds.py)."""
    match value:
        case bool():
            return Kind.BOOLEAN, value
        case float():
            return Kind.NUMBER, value
        case int() if abs(value) <= EXACT_MAX:
            return Kind.NUMBER, float(value)
        case int() if -(2**63) <= value < 2**63:
            return Kind.INTEGER, value
        case str():
            return Kind.TEXT, value
        case _:
            return Kind.JSON, json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def row(seq: int, sent: Sent) -> Row:
    streams = sent.payload if isinstance(sent.payload, dict) else {None: sent.payload}
    cells: dict[Key, object] = {}
    for name, value in streams.items():
        kind, held = cell(value)
        cells[name, kind] = held
    return Row(seq, sent.at_us, sent.channel, sent.device, sent.tag, cells)


class Filled:
    """A ring with these messages in it, and the rows that it should hold."""

    def __init__(self, messages: Sequence[Sent]) -> None:
        self.journal = Journal(Ring(1 << 12, 1 << 14, 1 << 20), Schema(), Limits(), 1 << 18)
        self.schema = self.journal.schema
        self.ring = self.journal.ring
        self.rows: list[Row] = []
        self.append(messages)

    def append(self, messages: Iterable[Sent]) -> None:
        """More messages; all are durable afterwards."""
        for sent in messages:
            seq = self._append(sent)
            if seq == FULL:
                self._commit()
                seq = self._append(sent)
            assert seq == len(self.rows)
            self.rows.append(row(seq, sent))
        self._commit()

    def _append(self, sent: Sent) -> int:
        payload = json.dumps(sent.payload, ensure_ascii=False).encode()
        tag = (sent.tag or "").encode()
        return self.journal.append(sent.at_us, PayloadKind.JSON, sent.device, sent.channel, tag, payload)

    def _commit(self) -> None:
        batch = self.journal.take_batch()
        if batch is not None:
            self.journal.release(batch)

    def block(self, rows: Iterable[Row] | None = None) -> Block:
        """Those rows, in that order; all of them without an argument."""
        picked = self.rows if rows is None else rows
        return self.ring.block(np.array([each.seq for each in picked], np.int64))

    def in_order(self) -> list[Row]:
        """As a hot file wants them."""
        return sorted(self.rows, key=lambda each: each.order)

    def text_columns(self) -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
        """Ids of columns whose cells are texts."""
        columns = self.schema.columns_from(0)
        return np.array([each.id for each in columns if each.kind in (Kind.TEXT, Kind.JSON)], np.uint32)

    def read(self, block: Block) -> list[Row]:
        return read(block, self.schema)


def read(block: Block, schema: Schema) -> list[Row]:
    """A block's rows, cell by cell, with nothing but the layout that storage/block.py describes."""
    rows = []
    for i in range(len(block)):
        cells: dict[Key, object] = {}
        for j in range(block.cell_start[i], block.cell_start[i + 1]):
            column = schema.column(int(block.column[j]))
            assert column.channel == block.channel[i]
            word = block.value[j]
            text = block.text[int(word) & (1 << 40) - 1 :][: int(word) >> 40]
            key = column.name, Kind(column.kind)
            assert key not in cells
            match key[1]:
                case Kind.NUMBER:
                    cells[key] = float(word.view(np.float64))
                case Kind.INTEGER:
                    cells[key] = int(word.view(np.int64))
                case Kind.BOOLEAN:
                    assert word in (0, 1)
                    cells[key] = bool(word)
                case Kind.TEXT | Kind.JSON:
                    cells[key] = text.decode()
        seq, at_us, channel, device, tag = (
            int(column[i]) for column in (block.seq, block.at_us, block.channel, block.device, block.tag)
        )
        rows.append(Row(seq, at_us, channel, device, schema.tag(tag).name if tag else None, cells))
    return rows


@dataclass(frozen=True)
class Owner:
    """A channel's user and number."""

    user_id: str
    number: int


class PlainNames:
    """What ids mean, without a registry."""

    def channel_by_id(self, channel: int) -> Owner:
        return Owner(f"U{channel % 3 + 1:06d}", 1000 + channel)

    def device_name(self, device: int) -> str:
        return f"device-{device}"


NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-1000, 1000)
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([EXACT_MAX, -EXACT_MAX, EXACT_MAX + 1, -EXACT_MAX - 1, 2**63 - 1, -(2**63), 2**63])
)
TEXTS = st.text(max_size=12) | st.sampled_from(["", "süß", "漢字", "😀", "e\u0301", '"\\\n\x00', "null"])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXTS, SCALARS, max_size=2)
STREAMS = st.sampled_from(["temp", "hum", "Temp", "seq", "", "a b", "漢", "😀"])
PAYLOADS = st.dictionaries(STREAMS, VALUES, max_size=5) | VALUES
DEVICES = st.integers(1, 4) | st.just(2**32 - 1)
TAGS = st.none() | st.sampled_from(["north", "süd", "😀"])


def messages(
    channels: Sequence[int] = (1,), days: Sequence[int] = (0,), max_size: int = 30
) -> st.SearchStrategy[list[Sent]]:
    """Messages to these channels on these days, counted from NOON_US; times repeat, go back and meet midnight."""
    times = st.builds(
        lambda day, offset: NOON_US + day * DAY_US + offset,
        st.sampled_from(days),
        st.integers(0, 5) | st.sampled_from([-DAY_US // 2, DAY_US // 2 - 1]),
    )
    sent = st.builds(Sent, times, st.sampled_from(channels), DEVICES, TAGS, PAYLOADS)
    return st.lists(sent, max_size=max_size)
