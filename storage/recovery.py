"""Recovery: the log's records run through the journal's own decoder, in memory that does not grow.

Records up to the sealed LSN are in hot files already. The rest makes the ring again; when it is full, ``seal`` moves
what is there into a hot file and replay goes on, so a ring that was made smaller only makes recovery slower.

A record's passengers (device states, notes) are handed on when it is whole. The log's last record may be one that a
power cut can still take back, until reading it has ended; nobody may have made its notes durable elsewhere by then.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from storage.journal import Journal, Passengers, State
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
    on_passengers: Callable[[Passengers], None],
) -> Recovered:
    """Replay every record behind after_lsn into the journal's ring.

    Args:
        wal: just opened; it can be written afterwards.
        journal: its ring stands at the sealed seq.
        after_lsn: the last record whose rows are all sealed.
        seal: called when the ring is full, with the last *whole* record's LSN and the seq behind its rows: up to there
            a crash in the middle of recovery may find everything sealed.
        on_passengers: called with every record's device states and notes, in order.

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
        states: list[State] = []
        notes: list[bytes] = []
        while True:
            try:
                offset, passengers = journal.replay(record.body, record.first_seq, offset)
            except ValueError as error:
                raise CorruptRecordError(wal.directory, 0, f"record {record.lsn}: {error}") from error
            states += passengers.states
            notes += passengers.notes
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
        on_passengers(Passengers(states, notes))
        records += 1
        last_lsn = record.lsn
    rows = journal.ring.written - first_seq
    return Recovered(rows, records, last_lsn, time.perf_counter() - began)
