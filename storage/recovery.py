"""Recovery: the log's records run through the journal's own decoder, in memory that does not grow.

Records up to the sealed LSN are in hot files already. The rest makes the ring again; when it is full, ``seal`` moves
what is there into a hot file and replay goes on, so a ring that was made smaller only makes recovery slower.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from storage.journal import Journal, State
from storage.wal import CorruptRecordError, Wal


@dataclass(frozen=True, slots=True)
class Recovered:
    """What replay found: rows and records behind the sealed cursor, the last LSN, and the time it took."""

    rows: int
    records: int
    last_lsn: int
    elapsed_s: float


class RingTooSmallError(Exception):
    """[storage] ring_rows, ring_cells or ring_text_bytes is too small for the log that is there."""


def recover(
    wal: Wal,
    journal: Journal,
    after_lsn: int,
    seal: Callable[[int, int], None],
    on_states: Callable[[list[State]], None],
) -> Recovered:
    """Replay every record behind after_lsn into the journal's ring.

    Args:
        wal: just opened; it can be written afterwards.
        journal: its ring stands at the sealed seq.
        after_lsn: the last record whose rows are all sealed.
        seal: called when the ring is full, with the last *whole* record's LSN and the seq behind its rows: up to there
            a crash in the middle of recovery may find everything sealed.
        on_states: device states, in order.

    Raises:
        CorruptRecordError: the log is damaged, or a record does not decode.
        RingTooSmallError: make the ring larger.
    """
    began = time.perf_counter()
    first_seq = journal.ring.written
    records = 0
    last_lsn = after_lsn
    for record in wal.records(after_lsn):
        offset = 0
        while True:
            try:
                offset, states = journal.replay(record.body, record.first_seq, offset)
            except ValueError as error:
                raise CorruptRecordError(wal.directory, 0, f"record {record.lsn}: {error}") from error
            on_states(states)
            if offset == len(record.body):
                break
            if journal.ring.sealed == record.first_seq:
                raise RingTooSmallError(
                    f"the ring cannot hold the {record.entries} readings of one log record"
                )
            seal(last_lsn, record.first_seq)
        if journal.ring.written != record.next_seq:
            reason = f"record {record.lsn} ends at row {journal.ring.written}, not {record.next_seq}"
            raise CorruptRecordError(wal.directory, 0, reason)
        records += 1
        last_lsn = record.lsn
    rows = journal.ring.written - first_seq
    return Recovered(rows, records, last_lsn, time.perf_counter() - began)
