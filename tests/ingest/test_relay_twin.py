"""What clients say to each other: the relay and the session machine must be told apart by nothing.

A script is what several clients send in turn. One side gives every packet to the session machine; on the other one the
reactor asks the relay first. What each client is sent, what is stored and what is counted must be the same, with every
packet in a turn of its own and with many in one.
"""

import struct
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.mqtt.options import BrokerOptions, Topics, WhenFull
from ingest.mqtt.sessions import Session
from storage.sessions import SessionStore
from storage.waiting import WaitingNotes
from tests.twins.mqtt_packets import PING, T, connect, packet, publish, text
from tests.twins.mqtt_sides import LaneSide, PlainSide, Script
from tests.twins.storing import TOKEN, USER

COMMAND, DATA = T + b"/d/subscribe", T + b"/json/d/t"
TOPICS = [
    COMMAND,
    DATA,
    T + b"/e",
    T + b"/json/off",
    T + b"/json/bare",
    T + b"/json/new",
    T + b"/newer",
    T + b"/state/d",
    T + b"/x/y/z",
    b"a",
    b"a/b",
    b"$a",
    b"\xff",
]
FILTERS = [
    *TOPICS[:-1],
    T + b"/#",
    b"a/#",
    b"#",
    b"+/b",
    T + b"/+/d/+",
    b"$share/g/a/#",
    b"$share/h/" + T + b"/#",
    b"$share/g/#",
]
PAYLOADS = [b"", b"1", b'{"a":1}', b"{", b"a=1", b"x" * 200]
SMALL = [
    BrokerOptions(topics=Topics.ANY, inflight_max=2, queued_messages_max=2, receive_max=2),
    BrokerOptions(topics=Topics.ANY, inflight_max=3, queued_messages_max=2, when_full=WhenFull.DROP_OLDEST),
    BrokerOptions(inflight_max=1, queued_bytes_max=300, qos_max=1),
]
COUNTS = [
    "relayed",
    "delivered",
    "dropped_behind",
    "dropped_full",
    "dropped_expired",
    "dropped_too_large",
    "taken_over",
]


def connect_5(client_id: bytes, kept: bool, properties: bytes) -> bytes:
    if kept:
        properties += b"\x11\x00\x00\xff\xff"
    protocol = b"\x00\x04MQTT\x05"
    head = protocol + (b"\xc0" if kept else b"\xc2") + b"\x00\x3c" + bytes([len(properties)]) + properties
    return packet(0x10, head + text(client_id) + text(b"U000001") + text(T))


def agree(script: Script, options: BrokerOptions, batch_bytes_max: int = 1 << 20) -> LaneSide:
    plain, lane = PlainSide(options), LaneSide(options=options, batch_bytes_max=batch_bytes_max)
    expected = plain.run(script)
    assert lane.run(script) == expected
    for name in COUNTS:
        assert getattr(lane.door.broker.counts, name) == getattr(plain.door.broker.counts, name), name
    assert lane.keeper.notes == plain.keeper.notes
    return lane


def sessions_of(lane: LaneSide) -> list[Session]:
    return list(lane.door.broker.namespace(USER, TOKEN.encode()).sessions.values())


class Talk:
    """Draws a script; each client keeps to its protocol."""

    def __init__(self, draw: st.DrawFn, clients: int) -> None:
        self.draw = draw
        self.is_5 = [draw(st.booleans()) for _ in range(clients)]

    def one(self, number: int) -> bytes:
        draw, is_5 = self.draw, self.is_5[number]
        block = b"\x00" if is_5 else b""
        kind = draw(st.sampled_from("PPPPPPPPPPAAAAAARRSSUCDG"))
        packet_id = struct.pack(">H", draw(st.integers(1, 4)))
        match kind:
            case "P":
                first = draw(
                    st.sampled_from(
                        [0x30] * 3 + [0x32] * 4 + [0x34] * 4 + [0x3A, 0x3C, 0x31, 0x33, 0x36, 0x38]
                    )
                )
                topic, payload = (
                    draw(st.sampled_from(TOPICS[:-1] * 4 + TOPICS)),
                    draw(st.sampled_from(PAYLOADS)),
                )
                if is_5:
                    block = draw(
                        st.sampled_from(
                            [b"\x00"] * 6
                            + [b"\x02\x01\x00", b"\x05\x02\x00\x00\x00\x09", b"\x03\x23\x00\x01"]
                        )
                    )
                return publish(topic, block + payload, first, draw(st.integers(1, 3)))
            case "A":
                first = draw(st.sampled_from([0x40, 0x40, 0x50, 0x70]))
                reason = draw(st.sampled_from([b""] * 5 + [b"\x00", b"\x80", b"\x10"])) if is_5 else b""
                return packet(first, packet_id + reason)
            case "R":
                return packet(0x62, packet_id)
            case "S":
                name, options = draw(st.sampled_from(FILTERS)), draw(st.integers(0, 2))
                if is_5:
                    block = draw(st.sampled_from([b"\x00"] * 3 + [b"\x02\x0b\x05"]))
                    options |= draw(st.sampled_from([0, 0, 0, 8, 0 if name.startswith(b"$share") else 4]))
                return packet(0x82, packet_id + block + text(name) + bytes([options]))
            case "U":
                return packet(0xA2, packet_id + block + text(draw(st.sampled_from(FILTERS))))
            case "C":
                return self.connect(number)
            case "D":
                return packet(0xE0, b"")
            case _:
                return PING

    def connect(self, number: int) -> bytes:
        kept = self.draw(st.sampled_from([False, False, True]))
        if self.is_5[number]:
            extra = self.draw(
                st.sampled_from([b"", b"", b"\x21\x00\x01", b"\x22\x00\x02", b"\x27\x00\x00\x00\x40"])
            )
            return connect_5(b"c%d" % number, kept, extra)
        return connect(b"c%d" % number, flags=0xC0 if kept else 0xC2)


@st.composite
def talks(draw: st.DrawFn) -> Script:
    clients = draw(st.integers(2, 4))
    talk = Talk(draw, clients)
    script = [(number, talk.connect(number)) for number in range(clients)]
    for number in range(clients):
        name = draw(st.sampled_from(FILTERS))
        block = b"\x00" if talk.is_5[number] else b""
        script.append(
            (number, packet(0x82, b"\x00\x01" + block + text(name) + bytes([draw(st.integers(0, 2))])))
        )
    for _ in range(draw(st.integers(5, 60))):
        number = draw(st.integers(0, clients - 1))
        size = draw(st.sampled_from([1, 1, 1, 2, 5]))
        script.append((number, b"".join(talk.one(number) for _ in range(size))))
    return script


@settings(max_examples=400)
@given(talks(), st.sampled_from(SMALL))
def test_no_talk_shows_who_relays_it(script: Script, options: BrokerOptions) -> None:
    agree(script, options)


def long_talk(seed: int, kept: bool) -> Script:
    """Random bytes end most connections soon; these acknowledge what they get, and nothing else."""
    random = Random(seed)
    highest = 1 + seed % 2
    script: Script = [
        (number, connect(b"c%d" % number, flags=0xC0 if kept and number % 2 else 0xC2)) for number in range(5)
    ]
    for number in range(5):
        for name in random.sample([COMMAND, DATA, b"a/#", b"$share/g/#", b"a/b"], 2):
            script.append(
                (number, packet(0x82, b"\x00\x01" + text(name) + bytes([random.choice([0, highest])])))
            )
    for step in range(400):
        number, kind = random.randrange(5), random.choice("PPPAARC")
        packet_id = struct.pack(">H", random.randint(1, 6))
        if kind == "P":
            qos = random.choice([0, highest])
            topic = random.choice([COMMAND, DATA, b"a/b", b"a"])
            script.append(
                (number, publish(topic, b'{"n":%d}' % step, 0x30 | qos << 1, random.randint(1, 60_000)))
            )
        elif kind == "A":
            script.append(
                (number, b"".join(packet(first, packet_id) for first in ([0x40], [0x50, 0x70])[seed % 2]))
            )
        else:
            script.append((number, packet(0x62, packet_id) if kind == "R" else PING))
    return script


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_long_talk_of_well_behaved_clients_is_relayed_alike(seed: int, kept: bool) -> None:
    options = BrokerOptions(topics=Topics.ANY, inflight_max=4, queued_messages_max=20)
    lane = agree(long_talk(seed, kept), options)
    assert lane.door.broker.counts.delivered > 150
    # CONNECT and SUBSCRIBE, and nothing else.
    assert lane.declined == 15
    assert not any(lane.is_closed.values())
    assert (len(lane.keeper.notes) > 50) == kept


@pytest.mark.parametrize("seed", range(2))
def test_where_a_batch_has_no_room_for_notes_the_packet_waits_for_the_next_one(seed: int) -> None:
    """Forty messages of a kilobyte with their notes, thrice a batch, come in one piece; the door would say the same."""
    qos = 1 + seed
    pieces = [publish(b"a", b"%d" % number + b"x" * 500, 0x30 | qos << 1, number) for number in range(1, 41)]
    answers = [packet(0x40, b"\0%c" % number) for number in range(1, 41)]
    if qos == 2:
        answers = [packet(0x50, b"\0%c" % number) + packet(0x70, b"\0%c" % number) for number in range(1, 41)]
    script = [
        (0, connect(b"kept", flags=0xC0)),
        (0, packet(0x82, b"\x00\x01" + text(b"a") + bytes([qos]))),
        (1, connect(b"also", flags=0xC0)),
        (1, b"".join(pieces)),
        (0, b"".join(answers)),
        (1, b"".join(packet(0x62, b"\0%c" % number) for number in range(1, 41)) if qos == 2 else PING),
    ]
    lane = agree(script, BrokerOptions(topics=Topics.ANY), batch_bytes_max=7_000)
    assert lane.stalls > 0
    assert lane.declined == 3
    assert not any(session.outbox and len(session.outbox) for session in sessions_of(lane))


def test_a_session_that_shares_twice_gets_both_copies_under_numbers_of_their_own() -> None:
    """A crash must tell them apart."""
    filters = [b"a/b", b"$share/g/a/#", b"$share/h/a/b"]
    subscribe = b"".join(packet(0x82, b"\x00\x01" + text(each) + b"\x01") for each in filters)
    script = [
        (0, connect(b"kept", flags=0xC0)),
        (0, subscribe),
        (1, connect(b"y")),
        *((1, publish(b"a/b", b"%d" % number, 0x32, 1 + number)) for number in range(3)),
    ]
    lane = agree(script, BrokerOptions(topics=Topics.ANY))
    (outbox,) = [session.outbox for session in sessions_of(lane) if session.outbox]
    assert sorted(each.number for each in outbox.inflight.values()) == list(range(1, 10))
    assert lane.declined == 5


def test_the_session_store_makes_the_same_of_what_either_of_them_noted(tmp_path: Path) -> None:
    lane = agree(
        long_talk(1, kept=True), BrokerOptions(topics=Topics.ANY, inflight_max=4, queued_messages_max=20)
    )
    store = SessionStore.open(tmp_path / "sessions.sqlite3")
    waiting = WaitingNotes(0)
    waiting.extend(lane.keeper.notes)
    assert len(waiting) < len(lane.keeper.notes)
    store.apply(*waiting.portion())
    saved = {each.session: each for each in store.load().sessions}
    store.close()
    found = {session.number: session for session in sessions_of(lane) if session.number}
    assert saved.keys() == found.keys()
    for number, session in found.items():
        owed = {} if session.outbox is None else session.outbox.inflight
        waits = [] if session.outbox is None else session.outbox.waiting
        assert [each.message for each in saved[number].deliveries] == sorted(
            each.number for each in (*owed.values(), *waits)
        )
        assert saved[number].inbound == set(session.inbound)


def test_what_neighbours_say_within_a_round_leaves_as_one() -> None:
    """Order within a connection stays, whoever spoke."""
    glued = b"".join(publish(b"a", b"%d" % number, 0x30) for number in range(50))
    subscribe = packet(0x82, b"\x00\x01" + text(b"a") + b"\x00")
    lane = agree([(0, connect(b"x")), (0, subscribe), (1, connect(b"y")), (1, subscribe + glued)], SMALL[0])
    expected = b"\x20\x02\x00\x00\x90\x03\x00\x01\x00" + glued
    assert lane.sent == {0: expected, 1: expected}
