from collections.abc import Sequence
from typing import NamedTuple

from storage.ring import Ring
from storage.schema import Schema

class Limits(NamedTuple):
    """What a payload may be; beyond it the reading is refused by name."""

    payload_bytes_max: int = 65_536
    json_depth_max: int = 32
    key_bytes_max: int = 256
    streams_per_channel_max: int = 1_024
    tag_bytes_max: int = 128
    tags_per_channel_max: int = 10_000

class Batch(NamedTuple):
    """A closed batch, ready to be framed as one log record.

    ``buffer`` is writable: HEADER_BYTES (48) of room for the record header, then ``body_bytes`` of entries.
    It is valid until ``Journal.release(batch)``. Rows of the batch are seq ``[first_seq, next_seq)``; entries that
    are not rows (STATE, NOTE) take no seq and come back as the batch's passengers.
    """

    buffer: memoryview
    body_bytes: int
    first_seq: int
    next_seq: int
    entries: int
    token: Passengers

class State(NamedTuple):
    """A device state entry (contract 2.3.6)."""

    at_us: int
    device: int
    payload: bytes

class Passengers(NamedTuple):
    """What travels with a batch without being rows: device states, and the broker's notes (storage/notes.py).

    Each list is in the log's order.
    """

    states: list[State]
    notes: list[bytes]

# Time (µs UTC), registry id of the device (0: none), tag (empty: none), payload.
_Row = tuple[int, int, bytes, bytes]

FULL: int  # append's answer when ring or batch has no room: stop reading, try again later

class Journal:
    """Where a reading becomes cells and log bytes in one step. The only writer of ring and schema."""

    def __init__(self, ring: Ring, schema: Schema, limits: Limits, batch_bytes_max: int) -> None: ...
    ring: Ring
    schema: Schema
    def append(self, at_us: int, kind: int, device: int, channel: int, tag: bytes, payload: bytes) -> int:
        """Decode the payload into the ring and append its log entry to the filling batch.

        Returns the row's seq (>= 0; for STATE and NOTE the seq of the next row), or ``-Refusal``, or ``FULL``.
        Nothing is changed unless a seq is returned. Of a NOTE device and channel are 0 and the tag is empty, and
        payload_bytes_max is no limit. Raises ValueError for a note that no batch can hold.
        """
    def check_rows(
        self, channel: int, rows: Sequence[_Row], streams: set[object], tags: set[object]
    ) -> tuple[int, int]:
        """Whether rows of a channel would be stored, all of them, as far as limits go; nothing is changed.

        ``streams`` and ``tags`` gather what is new: of many rows some can be checked at a time, with the same sets.

        Returns (0, how many), or (``-Refusal``, the index of the first row that is not good).
        """
    def append_rows(self, channel: int, rows: Sequence[_Row], at_us: int, note: bytes) -> tuple[int, int]:
        """Store JSON payloads of one channel and, in the same batch, a note (none if it is empty): all or nothing.

        Returns (the last row's seq, how many), (``-Refusal``, the index of the first row that is not good), or
        (``FULL``, 0) while ring or batch have no room for all of them.
        """
    @property
    def out(self) -> bool:
        """Whether a batch is being committed."""
    def is_empty(self) -> bool:
        """Whether nothing was appended to the filling batch."""
    def has_room_for(self, bytes: int) -> bool:  # noqa: A002
        """Whether entries of so many payload bytes, and 512 bytes besides, surely fit into the filling batch."""
    def take_batch(self) -> Batch | None:
        """Close the filling batch; None when it is empty. At most one batch is out at a time."""
    def release(self, batch: Batch) -> Passengers:
        """Give the buffer back after its record is durable and move the durable cursor; the batch's passengers."""
    def replay(self, body: memoryview, first_seq: int, offset: int = 0) -> tuple[int, Passengers]:
        """Run a record's entries from offset into the ring, limits off, marking rows durable.

        Returns the offset reached and the passengers met; less than ``len(body)`` means the ring is full: seal,
        then call again. Raises ValueError for an entry that does not decode.
        """
