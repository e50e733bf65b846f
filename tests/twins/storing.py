"""What both sides of a lane's differential test stand on: a registry in memory, and commits that keep the rows."""

import contextlib
import os
from dataclasses import dataclass, field
from typing import NamedTuple

from storage.commit import Completed
from storage.journal import Batch, Journal, Limits
from storage.kinds import Kind
from storage.registry import DeviceLimitError, PreviousToken, Quotas
from storage.ring import Ring
from storage.schema import Schema

USER, TOKEN = "U000001", "f" * 32
NO_QUOTAS = Quotas()
OTHER_USER, OTHER_TOKEN = "U000002", "e" * 32


class Row(NamedTuple):
    """One stored reading, except for when."""

    device: int
    channel: int
    tag: str | None
    cells: tuple[tuple[str | None, Kind, int | bytes], ...]


@dataclass(frozen=True, slots=True)
class Account:
    """A user, as far as admission looks."""

    user_id: str
    device_token: str
    enabled: bool = True
    quotas: Quotas = NO_QUOTAS


@dataclass(frozen=True, slots=True)
class Thing:
    """A device, as far as admission looks."""

    id: int
    channel: int | None
    enabled: bool


@dataclass(slots=True)
class MemoryRegistry:
    """Stands for storage.registry: two users; ``d`` is mapped, ``off`` disabled, ``bare`` has no channel."""

    devices_max: int = 8
    devices: dict[tuple[str, str], Thing] = field(
        default_factory=lambda: {
            (USER, "d"): Thing(1, 1, True),
            (USER, "e"): Thing(2, 2, True),
            (USER, "off"): Thing(3, 1, False),
            (USER, "bare"): Thing(4, None, True),
            (OTHER_USER, "d"): Thing(5, 3, True),
        }
    )

    def user_by_device_token(self, token: str) -> Account | None:
        users = {TOKEN: Account(USER, TOKEN), OTHER_TOKEN: Account(OTHER_USER, OTHER_TOKEN)}
        return users.get(token)

    def previous_tokens(self, user_id: str, which: str) -> list[PreviousToken]:
        return []

    def user(self, user_id: str) -> Account | None:
        return {USER: Account(USER, TOKEN), OTHER_USER: Account(OTHER_USER, OTHER_TOKEN)}.get(user_id)

    def device(self, user_id: str, name: str) -> Thing | None:
        return self.devices.get((user_id, name))

    def provision_device(self, user_id: str, name: str, at_us: int) -> None:
        if len(self.devices) >= self.devices_max:
            raise DeviceLimitError(self.devices_max)
        self.devices[user_id, name] = Thing(len(self.devices) + 1, None, False)


class Keeper:
    """A journal whose batches are committed at once, and whose rows are kept before the ring forgets them.

    Also a committer for the reactor: one batch is out at a time and is taken back on the eventfd's word.

    Args:
        rows, text_bytes, batch_bytes_max: small ones make the lanes wait for room.
    """

    def __init__(
        self, limits: Limits, rows: int = 4096, text_bytes: int = 1 << 20, batch_bytes_max: int = 1 << 20
    ) -> None:
        self.journal = Journal(Ring(rows, 16 * rows, text_bytes), Schema(), limits, batch_bytes_max)
        self.rows: list[Row] = []
        self.states: list[tuple[int, bytes]] = []
        self.notes: list[bytes] = []
        self.fileno = os.eventfd(0, os.EFD_NONBLOCK)
        self._out: Batch | None = None

    def close(self) -> None:
        os.close(self.fileno)

    def submit_nowait(self) -> bool:
        self._out = self.journal.take_batch()
        if self._out is not None:
            os.eventfd_write(self.fileno, 1)
        return self._out is not None

    def complete_nowait(self) -> Completed | None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fileno)
            out, self._out = self._out, None
            assert out is not None
            states, notes = self.journal.release(out)
            self.states += [(state.device, state.payload) for state in states]
            self.notes += notes
            self.rows += self._read(out.first_seq, out.next_seq)
            self.journal.ring.mark_sealed(out.next_seq)
            return Completed(1, out.next_seq, out.entries, states, notes, 0.0)
        return None

    def commit(self) -> int:
        """Without a reactor: commit what there is; the first seq that is not durable."""
        while self.submit_nowait():
            assert self.complete_nowait() is not None
        return self.journal.ring.durable

    def _read(self, first: int, last: int) -> list[Row]:
        ring, schema = self.journal.ring, self.journal.schema
        block = ring.block(sorted_seqs(ring, first, last))
        rows = []
        for i in range(len(block)):
            cells = []
            for j in range(int(block.cell_start[i]), int(block.cell_start[i + 1])):
                column, value = schema.column(int(block.column[j])), int(block.value[j])
                is_text = column.kind in (Kind.TEXT, Kind.JSON)
                content = block.text[value & ((1 << 40) - 1) :][: value >> 40] if is_text else value
                cells.append((column.name, Kind(column.kind), content))
            tag = int(block.tag[i])
            name = schema.tag(tag).name if tag else None
            rows.append(Row(int(block.device[i]), int(block.channel[i]), name, tuple(cells)))
        return rows


def sorted_seqs(ring: Ring, first: int, last: int):  # type: ignore[no-untyped-def]
    """All seqs of [first, last), ascending."""
    seqs = ring.channel_range(first, last)
    seqs.sort()
    return seqs
