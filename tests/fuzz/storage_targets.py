"""What storage and the services read: payloads, states, log entries, log segments, notes, times."""

import contextlib
import datetime
import json
import struct
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from query.times import TimeFormatError, format_time, parse_end, parse_time
from storage.journal import FULL, Journal, Limits, Passengers
from storage.kinds import PayloadKind, Refusal
from storage.notes import NoteFormatError, decode_note, encode_note
from storage.payload import decode
from storage.recovery import RingTooSmallError, recover
from storage.ring import Ring
from storage.schema import Schema
from storage.states import KEYS_MAX, parse_state
from storage.wal import (
    ALIGNMENT,
    CRC_OFFSET,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    CorruptRecordError,
    Wal,
    WalOptions,
    checksum,
    padded,
)
from tests.fuzz.mqtt_targets import exactly
from tests.storage.simulated_disk import Inode, SimulatedDisk
from tests.twins import payload as twin

BATCH_BYTES_MAX = 16_384
LIMITS = Limits(payload_bytes_max=8_000, streams_per_channel_max=40, tags_per_channel_max=20)
LOG = Path("/log")
LOG_ID = 0x0DDBA11
SEGMENT_BYTES = 4_096
OPTIONS = WalOptions(segment_bytes=SEGMENT_BYTES, spare_segments=1, record_bytes_max=2_048)
ZONES = [ZoneInfo(name) for name in ("UTC", "Asia/Tokyo", "America/New_York", "Australia/Lord_Howe")]


def told(decoded: object) -> object:
    """Floats by their bits and types by name, so that 0.0, -0.0, 0 and False all differ."""
    if isinstance(decoded, Refusal):
        return decoded
    literal, members = decoded  # type: ignore[misc]
    return bool(literal), [
        (name, kind, struct.pack("<d", value) if isinstance(value, float) else (type(value).__name__, value))
        for name, kind, value in members
    ]


def check_payload(data: bytes) -> None:
    """The compiled decoder and the plain one read the same, whatever kind it is said to be, with and without limits."""
    for kind in (PayloadKind.JSON, PayloadKind.FORM, PayloadKind.BINARY):
        for depth_max, key_bytes_max in ((32, 256), (2, 3)):
            expected = told(twin.decode(kind, data, depth_max, key_bytes_max))
            assert told(decode(kind, exactly(data), depth_max, key_bytes_max)) == expected


def check_state(data: bytes) -> None:
    """A state is something that JSON can tell, or nothing."""
    state = parse_state(data)
    if state is not None:
        assert len(state) <= KEYS_MAX
        assert json.loads(json.dumps(state, ensure_ascii=False, allow_nan=False).encode()) == state


def open_journal() -> Journal:
    return Journal(Ring(64, 512, 32_768), Schema(), LIMITS, BATCH_BYTES_MAX)


def rows_of(journal: Journal) -> object:
    ring = journal.ring
    block = ring.block(np.arange(ring.oldest, ring.written))
    return [
        getattr(block, name).tolist()
        for name in ("channel", "device", "tag", "at_us", "cell_start", "column", "value")
    ], bytes(block.text)


def check_entries(data: bytes) -> None:
    """Arbitrary bytes as a log record's body: they replay, or are refused by name, and what replays does so again."""
    journal = open_journal()
    offset = 0
    with contextlib.suppress(ValueError):
        offset, passengers = journal.replay(exactly(data), 0)
    assert 0 <= offset <= len(data)
    first = rows_of(journal)
    again = open_journal()
    try:
        assert again.replay(exactly(data), 0) == (offset, passengers)
    except ValueError:
        assert not offset
    assert rows_of(again) == first


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def check_journal(data: bytes) -> None:
    """Lines are readings: what a journal takes of them, its log entries give to another one.

    A line begins with three characters: the payload's kind, the channel, the length of the tag behind them.
    """
    journal = open_journal()
    taken = []
    for line in data.split(b"\n")[:30]:
        if len(line) < 3:
            continue
        tag_bytes = line[2] % 8
        tag, payload = line[3 : 3 + tag_bytes], line[3 + tag_bytes :]
        if not is_text(tag):
            continue  # admission lets none through
        kind, channel = PayloadKind(line[0] % 5 + 1), line[1] % 4
        if kind is PayloadKind.NOTE:
            channel, tag = 0, b""
        before = journal.ring.written
        answer = journal.append(line[1], kind, 7, channel, tag, payload)
        assert answer in (before, FULL) or -answer in [int(refusal) for refusal in Refusal]
        is_row = kind not in (PayloadKind.NOTE, PayloadKind.STATE)
        assert journal.ring.written == before + (answer == before and is_row)
        if answer == before and not is_row:
            taken.append(payload)
    batch = journal.take_batch()
    if batch is None:
        assert journal.ring.written == 0
        return
    body = bytes(batch.buffer[HEADER_BYTES : HEADER_BYTES + batch.body_bytes])
    states, notes = journal.release(batch)
    assert sorted([state.payload for state in states] + notes) == sorted(taken)
    again = open_journal()
    assert again.replay(exactly(body), 0) == (len(body), Passengers(states, notes))
    assert rows_of(again) == rows_of(journal)


def repaired(data: bytes) -> bytes:
    """A segment whose records have this log's id and checksums that are right, as far as their sizes lead."""
    segment = bytearray(data)
    offset = 0
    while offset + HEADER_BYTES <= len(segment) and segment[offset : offset + 4] == MAGIC.to_bytes(
        4, "little"
    ):
        size = HEADER_BYTES + HEADER.unpack_from(segment, offset)[3]
        if offset + size > len(segment):
            break
        segment[offset + HEADER_BYTES - 4 : offset + HEADER_BYTES] = LOG_ID.to_bytes(4, "little")
        record = memoryview(bytes(segment[offset : offset + size]))
        segment[offset + CRC_OFFSET : offset + CRC_OFFSET + 4] = checksum(record).to_bytes(4, "little")
        offset += padded(size)
    return bytes(segment)


def read_log(segments: list[bytes]) -> tuple[str, object, int]:
    """Recover a log of these segments: how it ended, its rows, and the LSN of the next record."""
    disk = SimulatedDisk()
    for number, segment in enumerate(segments, 1):
        path = LOG / f"{number:020d}.log"
        disk.seen[path] = disk.synced[path] = Inode(segment[:SEGMENT_BYTES].ljust(SEGMENT_BYTES, b"\0"))
    wal = Wal.open(LOG, disk, OPTIONS, LOG_ID)
    journal = open_journal()
    passengers: list[Passengers] = []
    try:
        recover(wal, journal, 0, lambda lsn, seq: journal.ring.mark_sealed(seq), passengers.append)
        how = "whole"
    except (CorruptRecordError, RingTooSmallError) as error:
        how = str(error)
        assert how
    return how, (rows_of(journal), passengers), wal.next_lsn


def check_segments(data: bytes) -> None:
    """Arbitrary bytes as the log's segments, as they are and with their checksums repaired.

    Reading ends in order or names the damage, gives the same twice, and what was read can be appended to.
    """
    half = len(data) // 2 // ALIGNMENT * ALIGNMENT
    for bytes_of in (lambda piece: piece, repaired):
        for segments in ([data], [data[:half], data[half:]]):
            written = [bytes_of(segment) for segment in segments]
            assert read_log(written) == read_log(written)


def check_note(data: bytes) -> None:
    """A note that was read is written and read again."""
    try:
        number, note = decode_note(data)
    except NoteFormatError:
        return
    assert decode_note(encode_note(number, note)) == (number, note)


def check_time(data: bytes) -> None:
    """A time on the wire, in every zone: a moment that can be told again, or TimeFormatError."""
    text = data.decode("latin-1")
    for zone in ZONES:
        try:
            at_us = parse_time(text, zone)
        except TimeFormatError:
            continue
        assert 0 <= parse_end(text, zone) - at_us < 1_000_000
        if datetime.datetime.min.year + 1 < int(text.strip()[:4]) < datetime.datetime.max.year:
            back = parse_time(format_time(at_us, zone, colon=True), zone)
            # Offsets of old had seconds, which the wire does not show.
            assert abs(back - at_us // 1_000_000 * 1_000_000) < 60_000_000
