"""What a query gives: rows one by one, or a table of Arrow, pandas or Polars. It is asked each time it is read.

pyarrow, pandas and Polars are imported when they are needed, not before.
"""

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

PIECE_BYTES: Final = 1 << 18

Ask = Callable[[str], AbstractContextManager[httpx.Response]]


@dataclass(frozen=True, slots=True)
class Datapoint:
    """One reading.

    Attributes:
        id: the contract's ``_id``.
        at: with the zone's offset, exact to the microsecond.
        device: "" if it was written without one.
        channel: None unless several were asked for.
    """

    id: str
    at: datetime.datetime
    device: str
    tag: str | None
    value: Any
    channel: int | None = None

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Datapoint":
        """From a row as the server sends it."""
        at = datetime.datetime.fromisoformat(row["at"])
        return cls(row["_id"], at, row["device"], row["tag"], row["value"], row.get("channel"))


@dataclass(frozen=True, slots=True)
class Transfer:
    """An answer on its way.

    Attributes:
        pieces: its bytes, as they come in.
        rows_estimate: about how many rows it has; None if the server does not say.
    """

    pieces: Iterator[bytes]
    rows_estimate: int | None


class Answer:
    """Rows as objects of JSON, or all of them as a table."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def objects(self) -> Iterator[dict[str, Any]]:
        """The rows, as they come in. Raises ThingscaleError."""
        with self._ask("ndjson") as reply:
            for line in reply.iter_lines():
                yield json.loads(line)

    def __iter__(self) -> Iterator[Any]:
        return self.objects()

    def pieces(self, form: str) -> Iterator[bytes]:
        """The answer in ``json``, ``ndjson``, ``csv``, ``arrow`` or ``parquet``, as it comes in.

        Raises:
            ThingscaleError: before the first piece.
        """
        with self.transfer(form) as transfer:
            yield from transfer.pieces

    @contextmanager
    def transfer(self, form: str) -> Iterator[Transfer]:
        """The same, with what the server says of it beforehand. Raises ThingscaleError."""
        with self._ask(form) as reply:
            estimate = reply.headers.get("x-rows-estimate")
            yield Transfer(reply.iter_bytes(PIECE_BYTES), None if estimate is None else int(estimate))

    def to_arrow(self) -> "pa.Table":
        """Raises ThingscaleError."""
        import pyarrow.ipc

        with self._ask("arrow") as reply:
            return pyarrow.ipc.open_stream(reply.read()).read_all()

    def to_pandas(self) -> "pd.DataFrame":
        """Raises ThingscaleError."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> "pl.DataFrame":
        """Raises ThingscaleError."""
        import polars

        table = polars.from_arrow(self.to_arrow())
        assert isinstance(table, polars.DataFrame)
        return table


class Rows(Answer):
    """Datapoints."""

    def __iter__(self) -> Iterator[Datapoint]:
        return map(Datapoint.of, self.objects())
