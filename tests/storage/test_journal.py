"""Journal and ring together: rows go in, batches come out, cursors grow, and replay makes the same ring again."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from storage.block import Block
from storage.journal import FULL, Batch, Journal, Limits, Passengers, State
from storage.kinds import Kind, PayloadKind, Refusal
from storage.ring import Ring
from storage.schema import Column, Schema, Tag

HEADER_BYTES = 48
ENTRY_BYTES = 24
BATCH_BYTES = 70_000


def open_journal(rows: int = 64, cells: int = 256, text: int = 4096, limits: Limits = Limits()) -> Journal:  # noqa: B008
    return Journal(Ring(rows, cells, text), Schema(), limits, BATCH_BYTES)


def values(block: Block, schema: Schema) -> list[dict[str | None, object]]:
    """The block's rows as dictionaries, name -> Python value."""
    rows = []
    for i in range(len(block)):
        row: dict[str | None, object] = {}
        for j in range(block.cell_start[i], block.cell_start[i + 1]):
            column = schema.column(int(block.column[j]))
            value = int(block.value[j])
            text = block.text[value & (1 << 40) - 1 :][: value >> 40].decode()
            row[column.name] = {
                Kind.NUMBER: np.uint64(value).view(np.float64),
                Kind.INTEGER: int(np.uint64(value).view(np.int64)),
                Kind.TEXT: text,
                Kind.BOOLEAN: bool(value),
            }.get(Kind(column.kind), text)
            if column.kind == Kind.JSON:
                row[column.name] = json.loads(text)
        rows.append(row)
    return rows


def append(journal: Journal, payload: bytes, *, at_us: int = 1, channel: int = 1, tag: bytes = b"") -> int:
    return journal.append(at_us, PayloadKind.JSON, 7, channel, tag, payload)


def note(journal: Journal, payload: bytes) -> int:
    return journal.append(1, PayloadKind.NOTE, 0, 0, b"", payload)


def body(batch: Batch) -> bytes:
    return bytes(batch.buffer[HEADER_BYTES : HEADER_BYTES + batch.body_bytes])


def test_a_row_is_readable_when_it_is_durable_and_not_before() -> None:
    journal = open_journal()
    assert append(journal, b'{"temp":25,"s":"x"}') == 0
    assert journal.ring.newest(1, 10).tolist() == []
    batch = journal.take_batch()
    assert batch is not None
    assert (batch.first_seq, batch.next_seq, batch.entries) == (0, 1, 1)
    assert journal.release(batch) == ([], [])
    assert journal.ring.newest(1, 10).tolist() == [0]
    assert values(journal.ring.block(np.array([0])), journal.schema) == [{"temp": 25.0, "s": "x"}]


def test_one_batch_is_out_at_a_time_and_the_next_one_fills() -> None:
    journal = open_journal()
    assert journal.take_batch() is None
    append(journal, b"1")
    first = journal.take_batch()
    append(journal, b"2")
    assert first is not None
    assert journal.take_batch() is None
    journal.release(first)
    second = journal.take_batch()
    assert second is not None
    assert (second.first_seq, second.next_seq) == (1, 2)


def test_a_refused_payload_leaves_no_trace() -> None:
    journal = open_journal(limits=Limits(streams_per_channel_max=2))
    assert append(journal, b'{"a":1,"b":2,"c":3}') == -Refusal.TOO_MANY_STREAMS
    assert append(journal, b'{"a":1,') == -Refusal.BAD_JSON_FORMAT
    assert append(journal, b"x" * 65_537) == -Refusal.PAYLOAD_TOO_LARGE
    assert append(journal, b"1", tag=b"t" * 129) == -Refusal.TAG_INVALID
    assert journal.schema.column_count == 0
    assert journal.schema.stream_count(1) == 0
    assert journal.take_batch() is None
    assert append(journal, b'{"a":1,"b":2}') == 0
    assert append(journal, b'{"a":1,"c":2}') == -Refusal.TOO_MANY_STREAMS


def test_rows_and_a_note_are_appended_together_or_not_at_all() -> None:
    journal = open_journal(rows=8, limits=Limits(streams_per_channel_max=2, tags_per_channel_max=1))
    good = [(5, 0, b"t", b'{"a":1}'), (3, 7, b"", b'{"b":"x"}')]
    for bad, refusal in (
        ((1, 0, b"", b"{"), Refusal.BAD_JSON_FORMAT),
        ((1, 0, b"", b'{"c":1}'), Refusal.TOO_MANY_STREAMS),
        ((1, 0, b"u", b"{}"), Refusal.TOO_MANY_TAGS),
        ((1, 0, b"t" * 129, b"{}"), Refusal.TAG_INVALID),
        ((1, 0, b"", b"1" * 65_537), Refusal.PAYLOAD_TOO_LARGE),
    ):
        assert journal.append_rows(1, [*good, bad], 9, b"note") == (-refusal, 2)
        assert journal.check_rows(1, [*good, bad], set(), set()) == (-refusal, 2)
    assert (journal.schema.column_count, journal.schema.tag_count, journal.ring.written) == (0, 0, 0)
    assert journal.is_empty()
    assert journal.check_rows(1, good, set(), set()) == (0, 2)
    assert journal.append_rows(1, good, 9, b"note") == (1, 2)
    batch = journal.take_batch()
    assert batch is not None
    assert (batch.first_seq, batch.next_seq, batch.entries) == (0, 2, 3)
    assert journal.release(batch).notes == [b"note"]
    block = journal.ring.block(np.array([0, 1]))
    assert values(block, journal.schema) == [{"a": 1.0}, {"b": "x"}]
    assert (block.at_us.tolist(), block.device.tolist(), block.tag.tolist()) == ([5, 3], [0, 7], [1, 0])
    assert journal.append_rows(1, [good[0]] * 7, 9, b"") == (FULL, 0)  # the ring has 8 rows, 2 are not sealed
    assert journal.append_rows(1, [good[0]] * 6, 9, b"") == (7, 6)


def test_what_is_new_is_counted_over_all_rows_that_are_checked_with_the_same_sets() -> None:
    journal = open_journal(limits=Limits(streams_per_channel_max=2, tags_per_channel_max=2))
    streams: set[object] = set()
    tags: set[object] = set()
    for name in (b"a", b"b", b"a"):
        assert journal.check_rows(1, [(1, 0, name, b'{"%b":1}' % name)], streams, tags) == (0, 1)
    assert journal.check_rows(1, [(1, 0, b"", b"{}"), (1, 0, b"", b"3")], streams, tags) == (
        -Refusal.TOO_MANY_STREAMS, 1,
    )  # fmt: skip
    assert journal.check_rows(1, [(1, 0, b"c", b"{}")], set(), tags) == (-Refusal.TOO_MANY_TAGS, 0)


@settings(max_examples=200)
@given(
    sizes=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6), max_size=40), data=st.data()
)  # fmt: skip
def test_where_rows_have_room_together_each_has_room_in_its_turn(
    sizes: list[list[int]], data: st.DataObject
) -> None:
    """Texts of any lengths wrap in the ring; an assertion of append_rows is what can fail."""
    journal = open_journal(rows=16, cells=32, text=256)
    for run in sizes:
        rows = [(1, 0, b"", json.dumps({"s": "x" * size, "n": 1}).encode()) for size in run]
        answer, _ = journal.append_rows(1, rows, 1, b"")
        assert answer in (FULL, journal.ring.written - 1)
        batch = journal.take_batch()
        if batch is not None:
            journal.release(batch)
        if answer == FULL or data.draw(st.booleans()):
            journal.ring.mark_sealed(journal.ring.durable)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), max_size=60))
def test_a_channels_rows_are_ordered_by_time_however_they_came(sent: list[tuple[int, int]]) -> None:
    journal = open_journal(rows=64)
    for channel, at_us in sent:
        append(journal, b"1", at_us=at_us, channel=channel)
    wanted = sorted(range(len(sent)), key=lambda seq: (*sent[seq], seq))
    assert journal.ring.channel_range(0, len(sent)).tolist() == wanted


def test_a_channel_has_a_bounded_number_of_tags() -> None:
    journal = open_journal(limits=Limits(tags_per_channel_max=2))
    assert [append(journal, b"1", tag=tag) for tag in (b"a", b"b", b"a", b"")] == [0, 1, 2, 3]
    assert append(journal, b'{"new":1}', tag=b"c") == -Refusal.TOO_MANY_TAGS
    assert (journal.schema.tag_count, journal.schema.stream_count(1)) == (2, 1)
    assert append(journal, b"1", tag=b"b") == 4


def test_the_last_of_duplicate_keys_wins() -> None:
    journal = open_journal()
    append(journal, b'{"a":1,"b":true,"a":"x","a":"yy"}')
    block = journal.ring.block(np.array([0]))
    assert values(block, journal.schema) == [{"b": True, "a": "yy"}]
    assert block.text == b"yy"


def test_a_stream_has_a_column_per_kind_and_a_literal_is_not_the_empty_key() -> None:
    journal = open_journal()
    for payload in (b'{"a":1}', b'{"a":"x"}', b'{"":2}', b"3", b'{"a":5}'):
        append(journal, payload)
    names = [(column.name, Kind(column.kind)) for column in journal.schema.columns_of(1)]
    assert names == [("a", Kind.NUMBER), ("a", Kind.TEXT), ("", Kind.NUMBER), (None, Kind.NUMBER)]
    assert journal.schema.stream_count(1) == 3
    assert values(journal.ring.block(np.arange(5)), journal.schema) == [
        {"a": 1},
        {"a": "x"},
        {"": 2},
        {None: 3},
        {"a": 5},
    ]


def test_tags_are_numbered_per_channel() -> None:
    journal = open_journal()
    append(journal, b"1", tag=b"north")
    append(journal, b"1", tag=b"north", channel=2)
    append(journal, b"1", tag="süd".encode())
    assert journal.schema.tags_of(1) == [Tag(1, 1, "north"), Tag(3, 1, "süd")]
    assert journal.schema.tag_id(2, "north") == 2
    assert journal.schema.tag_id(2, "south") == 0
    assert journal.ring.block(np.arange(3)).tag.tolist() == [1, 2, 3]


def test_state_entries_take_no_row_and_come_back_with_their_batch() -> None:
    journal = open_journal()
    assert journal.append(5, PayloadKind.STATE, 9, 1, b"", b"load=1") == 0
    append(journal, b"1")
    batch = journal.take_batch()
    assert batch is not None
    assert (batch.first_seq, batch.next_seq, batch.entries) == (0, 1, 2)
    assert journal.release(batch) == Passengers([State(5, 9, b"load=1")], [])


def test_notes_touch_neither_ring_nor_schema_and_come_back_in_order_when_they_are_durable() -> None:
    journal = open_journal()
    assert note(journal, b"one") == 0
    assert append(journal, b"1") == 0
    assert note(journal, b"two") == 1
    assert journal.append(5, PayloadKind.STATE, 9, 0, b"", b"load=1") == 1
    first = journal.take_batch()
    assert first is not None
    assert (first.first_seq, first.next_seq, first.entries) == (0, 1, 4)
    assert note(journal, b"three") == 1
    assert journal.release(first) == Passengers([State(5, 9, b"load=1")], [b"one", b"two"])
    second = journal.take_batch()
    assert second is not None
    assert (second.first_seq, second.next_seq, second.entries) == (1, 1, 1)
    assert journal.release(second) == Passengers([], [b"three"])
    assert (journal.schema.column_count, journal.ring.written, journal.ring.durable) == (1, 1, 1)


def test_a_note_takes_no_room_in_a_full_ring_and_its_limit_is_the_batch() -> None:
    journal = open_journal(rows=1, limits=Limits(payload_bytes_max=100))
    assert [append(journal, b"1") for _ in range(2)] == [0, FULL]
    assert note(journal, b"x" * 101) == 1
    assert (
        note(journal, b"x" * (BATCH_BYTES - ENTRY_BYTES)) == FULL
    )  # fits into a batch, but not into this one
    with pytest.raises(ValueError, match="fits into no batch"):
        note(journal, b"x" * (BATCH_BYTES - ENTRY_BYTES + 1))
    batch = journal.take_batch()
    assert batch is not None
    assert batch.entries == 2
    assert journal.release(batch).notes == [b"x" * 101]
    assert note(journal, b"x" * (BATCH_BYTES - ENTRY_BYTES)) == 1


def test_room_for_several_entries_is_known_before_the_first_one() -> None:
    journal = open_journal()
    assert journal.has_room_for(BATCH_BYTES - 512)
    assert not journal.has_room_for(BATCH_BYTES - 511)
    assert not journal.has_room_for(2**32 - 1)
    note(journal, b"x" * 1000)
    left = BATCH_BYTES - 1000 - ENTRY_BYTES - 512
    assert journal.has_room_for(left)
    assert not journal.has_room_for(left + 1)
    assert note(journal, b"x" * left) == 0
    assert not journal.has_room_for(0)
    journal.take_batch()
    assert journal.has_room_for(BATCH_BYTES - 512)


def test_a_full_ring_divides_a_record_but_no_passenger_comes_twice() -> None:
    journal = open_journal()
    for i in range(10):
        append(journal, b"%d" % i)
        note(journal, b"note %d" % i)
    batch = journal.take_batch()
    assert batch is not None
    record = memoryview(body(batch))
    small = open_journal(rows=4)
    offset, notes, counts = 0, list[bytes](), []
    while offset < len(record):
        offset, passengers = small.replay(record, 0, offset)
        notes += passengers.notes
        counts.append(len(passengers.notes))
        small.ring.mark_sealed(small.ring.durable)
    assert counts == [4, 4, 2]
    assert notes == [b"note %d" % i for i in range(10)]


def test_a_full_ring_says_so_and_takes_the_row_after_a_seal() -> None:
    journal = open_journal(rows=4)
    assert [append(journal, b"1") for _ in range(5)] == [0, 1, 2, 3, FULL]
    batch = journal.take_batch()
    assert batch is not None
    journal.release(batch)
    journal.ring.mark_sealed(2)
    assert [append(journal, b"1") for _ in range(3)] == [4, 5, FULL]
    assert journal.ring.oldest == 2


def test_a_pin_keeps_sealed_rows() -> None:
    journal = open_journal(rows=4)
    for _ in range(4):
        append(journal, b"1")
    batch = journal.take_batch()
    assert batch is not None
    journal.release(batch)
    pin = journal.ring.pin(1)
    journal.ring.mark_sealed(4)
    assert [append(journal, b"1") for _ in range(2)] == [4, FULL]
    journal.ring.unpin(pin)
    assert append(journal, b"1") == 5


def test_a_row_that_is_not_in_the_ring_is_an_error() -> None:
    journal = open_journal()
    with pytest.raises(IndexError):
        journal.ring.block(np.array([0]))


def test_replay_refuses_what_it_cannot_read() -> None:
    journal = open_journal()
    append(journal, b"1")
    batch = journal.take_batch()
    assert batch is not None
    record = body(batch)
    for broken in (record[:-1], record[:10], record[:20] + b"\x09" + record[21:], record[:-1] + b"x"):
        with pytest.raises(ValueError, match=r"entry|kind"):
            open_journal().replay(memoryview(broken), 0)
    with pytest.raises(ValueError, match="begins with row 5"):
        open_journal().replay(memoryview(record), 5)


def test_replay_stops_when_the_ring_is_full_and_goes_on_after_a_seal() -> None:
    journal = open_journal()
    for i in range(10):
        append(journal, b"%d" % i)
    batch = journal.take_batch()
    assert batch is not None
    record = memoryview(body(batch))
    small = open_journal(rows=4)
    offset, _ = small.replay(record, 0)
    assert small.ring.durable == 4
    while offset < len(record):
        small.ring.mark_sealed(small.ring.durable)
        offset, _ = small.replay(record, 0, offset)
    assert small.ring.durable == 10
    assert values(small.ring.block(np.arange(6, 10)), small.schema) == [{None: i} for i in range(6, 10)]


def test_replay_knows_no_limits() -> None:
    journal = open_journal(text=1 << 18)
    append(journal, b'{"k":' + b"[" * 20 + b"1" + b"]" * 20 + b"}")
    batch = journal.take_batch()
    assert batch is not None
    strict = open_journal(limits=Limits(json_depth_max=2, streams_per_channel_max=0))
    assert strict.replay(memoryview(body(batch)), 0) == (batch.body_bytes, ([], []))


def test_a_loaded_schema_goes_on_counting() -> None:
    schema = Schema()
    schema.load(
        [Column(0, 4, 0, "a", 0), Column(1, 4, 0, "a", 2), Column(2, 4, 1, None, 0)], [Tag(1, 4, "t")]
    )
    journal = Journal(Ring(64, 64, 1024), schema, Limits(), 70_000)
    append(journal, b'{"a":1,"b":"x"}', channel=4, tag=b"t")
    assert schema.columns_of(4)[-1] == Column(3, 4, 2, "b", 2)
    assert schema.columns_from(3) == [Column(3, 4, 2, "b", 2)]
    assert schema.tag_count == 1


payloads = st.dictionaries(
    st.sampled_from(["a", "b", "c", "long name"]),
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=30),
    max_size=4,
) | st.sampled_from([1, "literal", None, [1, 2]])


class RingMachine(RuleBasedStateMachine):
    """Random appends, commits, seals and pins against a plain list."""

    @initialize(
        rows=st.sampled_from([4, 16]), cells=st.sampled_from([8, 64]), text=st.sampled_from([128, 512])
    )
    def start(self, rows: int, cells: int, text: int) -> None:
        self.journal = open_journal(rows, cells, text)
        self.rows: list[tuple[int, int, object]] = []  # channel, at, value
        self.bodies: list[tuple[int, bytes]] = []
        self.notes: list[bytes] = []
        self.told: list[bytes] = []
        self.pins: list[tuple[int, int]] = []
        self.out: Batch | None = None

    @rule(payload=payloads, channel=st.integers(1, 3), at=st.integers(0, 5))
    def append(self, payload: object, channel: int, at: int) -> None:
        seq = append(
            self.journal, json.dumps(payload, ensure_ascii=False).encode(), at_us=at, channel=channel
        )
        if seq == FULL:
            ring = self.journal.ring
            kept = ring.written - min([ring.sealed, *[seq for _, seq in self.pins]])
            assert kept, "an empty ring has room for every test payload"
            return
        assert seq == len(self.rows)
        self.rows.append((channel, at, payload))

    @rule(payload=st.binary(max_size=500))
    def note(self, payload: bytes) -> None:
        if note(self.journal, payload) != FULL:
            self.notes.append(payload)

    @precondition(lambda self: self.out is None)
    @rule()
    def take(self) -> None:
        self.out = self.journal.take_batch()
        if self.out is not None:
            self.bodies.append((self.out.first_seq, body(self.out)))

    @precondition(lambda self: self.out is not None)
    @rule()
    def release(self) -> None:
        assert self.out is not None
        self.told += self.journal.release(self.out).notes
        self.out = None

    @rule(share=st.floats(0, 1))
    def seal(self, share: float) -> None:
        ring = self.journal.ring
        ring.mark_sealed(ring.sealed + int((ring.durable - ring.sealed) * share))

    @rule()
    def pin(self) -> None:
        ring = self.journal.ring
        self.pins.append((ring.pin(ring.sealed), ring.sealed))

    @precondition(lambda self: self.pins)
    @rule()
    def unpin(self) -> None:
        self.journal.ring.unpin(self.pins.pop(0)[0])

    def expected(self, seq: int) -> dict[str | None, object]:
        payload = self.rows[seq][2]
        return payload if isinstance(payload, dict) else {None: payload}  # type: ignore[return-value]

    @invariant()
    def cursors_are_in_order(self) -> None:
        ring = self.journal.ring
        assert ring.oldest <= ring.sealed <= ring.durable <= ring.written == len(self.rows)
        assert all(ring.oldest <= seq for _, seq in self.pins)

    @invariant()
    def every_row_in_the_ring_is_as_it_was_sent(self) -> None:
        ring = self.journal.ring
        block = ring.block(np.arange(ring.oldest, ring.written))
        assert values(block, self.journal.schema) == [self.expected(int(seq)) for seq in block.seq]
        assert block.channel.tolist() == [self.rows[seq][0] for seq in block.seq]

    @invariant()
    def channels_are_found_by_their_links(self) -> None:
        ring = self.journal.ring
        for channel in (1, 2, 3):
            mine = [seq for seq in range(ring.oldest, ring.durable) if self.rows[seq][0] == channel]
            assert ring.newest(channel, 3).tolist() == mine[::-1][:3]
            assert ring.unsealed(channel, ring.sealed, ring.durable).tolist() == [
                seq for seq in mine if seq >= ring.sealed
            ]
        order = ring.channel_range(ring.sealed, ring.durable).tolist()
        assert order == sorted(range(ring.sealed, ring.durable), key=lambda seq: (*self.rows[seq][:2], seq))

    def teardown(self) -> None:
        if not hasattr(self, "journal"):
            return
        again = open_journal(1 << 12, 1 << 14, 1 << 20)
        notes = []
        for first_seq, record in self.bodies:
            offset, passengers = again.replay(memoryview(record), first_seq)
            assert offset == len(record)
            assert passengers.states == []
            notes += passengers.notes
        assert notes == self.notes[: len(notes)]
        assert self.told == notes[: len(self.told)]
        block = again.ring.block(np.arange(again.ring.written))
        assert values(block, again.schema) == [self.expected(seq) for seq in range(again.ring.written)]


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("channel", [1 << 24, (1 << 31) - 1, (1 << 32) - 1])
def test_a_channel_that_no_registry_has_is_refused_before_tables_grow_to_it(channel: int) -> None:
    entry = struct.pack("<qIIIBBH", 1, 7, channel, 1, PayloadKind.JSON, 0, 0) + b"1"
    journal = open_journal()
    with pytest.raises(ValueError, match=f"channel id {channel} is beyond 16777215"):
        journal.replay(memoryview(entry), 0)
    with pytest.raises(ValueError, match="is beyond"):
        journal.append(1, PayloadKind.JSON, 7, channel, b"", b"1")
    assert (journal.ring.written, journal.is_empty()) == (0, True)
