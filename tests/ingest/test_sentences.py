"""Reason strings: every refusal has its sentence, and only who may be told is told."""

from pathlib import Path
from typing import Any

import pytest

from ingest.mqtt.options import BrokerOptions
from ingest.mqtt.packets import Property, ReasonCode, decode_properties_block
from ingest.mqtt.sentences import READINGS, WORDS_BYTES_MAX, Why, puback_tails, words_of
from ingest.refusals import REASONS
from storage.kinds import Refusal
from tests.ingest.test_mqtt_door import House
from tests.ingest.test_mqtt_packets import frame

WORDS = [why.words for why in Why] + [words_of(refusal) for refusal in Refusal]
TERSE = "17 00"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def connect(house: House, properties: str = "", slot: int = 1) -> bytes:
    size = len(bytes.fromhex(properties))
    user, token = house.user.user_id, house.token
    return house.receive(
        slot,
        f"10 0004 'MQTT' 05 c2 0000 {size:02x} {properties} 0001 'c' {len(user):04x} '{user}' 0020 '{token}'",
    )


def words(packet: bytes, properties_at: int) -> str:
    """The reason string of a packet whose properties begin there; empty when it has none."""
    block = packet[properties_at:]
    if not block:
        return ""
    said: bytes = decode_properties_block(block[: 1 + block[0]]).get(Property.REASON_STRING, b"")
    return said.decode()


def test_every_reason_to_refuse_has_a_sentence_of_its_own() -> None:
    assert set(READINGS) == set(Refusal)
    assert len(set(WORDS)) == len(WORDS)
    assert [said for said in WORDS if len(said.encode()) > WORDS_BYTES_MAX] == []
    assert {why.code for why in Why} <= set(ReasonCode)
    assert all(why.code >= 0x80 for why in Why)


def test_the_lane_has_them_by_number() -> None:
    brief, full = puback_tails(REASONS)[Refusal.NO_MAPPED_CH]
    assert brief == b"\x83"
    assert full[:1] == brief
    assert words(full, 1) == "NO_MAPPED_CH: the device is not mapped to a channel"


# packet, where its answer has the properties, the answer's reason code and where it stands, the words
CASES: dict[str, tuple[str, int, int, int, str]] = {
    "SUBACK": ("82 0005 00 0001 'a' 00", 4, 0x87, -1, Why.FOREIGN_FILTER.words),
    "SUBACK of two": ("82 0005 00 0001 'a' 00 0001 'b' 00", 4, 0x87, -1, Why.FOREIGN_FILTER.words),
    "PUBACK": ("32 0001 'a' 0007 00 '1'", 5, 0x87, 4, words_of(Refusal.FOREIGN_TOPIC)),
    "PUBREC": ("34 0001 'a' 0007 00 '1'", 5, 0x87, 4, words_of(Refusal.FOREIGN_TOPIC)),
    "PUBREL": ("50 0007", 5, 0x92, 4, Why.PACKET_ID.words),
    "PUBCOMP": ("62 0007", 5, 0x92, 4, Why.PACKET_ID.words),
    "DISCONNECT": ("10 0004 'MQTT' 05 02 0000 00 0001 'c'", 3, 0x82, 2, "a second CONNECT [MQTT-3.1.0-2]"),
}


@pytest.mark.parametrize("name", CASES)
def test_who_is_refused_is_told_in_words(house: House, name: str) -> None:
    packet, properties_at, code, code_at, said = CASES[name]
    connect(house)
    answer = house.receive(1, packet)
    assert answer[code_at] == code
    assert words(answer, properties_at) == said


@pytest.mark.parametrize("name", CASES)
def test_who_wants_no_words_gets_none(house: House, name: str) -> None:
    packet, properties_at, code, code_at, _ = CASES[name]
    connect(house, TERSE)
    answer = house.receive(1, packet)
    assert answer[code_at] == code
    assert words(answer, properties_at) == ""


@pytest.mark.parametrize("name", CASES)
def test_words_stay_out_of_a_packet_that_they_would_make_too_long(house: House, name: str) -> None:
    packet, properties_at, code, code_at, said = CASES[name]
    connect(house)
    longest = len(house.receive(1, packet))
    for allowed, expected in ((longest, said), (longest - 1, "")):
        house.door.on_closed(1, 1)
        connect(house, f"27 {allowed:08x}")
        answer = house.receive(1, packet)
        assert len(answer) <= allowed
        assert answer[code_at] == code
        assert words(answer, properties_at) == expected


def test_a_message_of_the_old_versions_has_no_words(house: House) -> None:
    house.connect()
    assert house.publish(1, "a", b"1") == b"\x40\x02\x00\x09"
    assert house.receive(1, "82 0005 0001 'a' 00") == bytes.fromhex("90 03 00 05 80")


@pytest.mark.parametrize("is_relayed", [False, True])
def test_a_refused_reading_is_told_so_whether_it_is_relayed_or_not(house: House, is_relayed: bool) -> None:
    if is_relayed:
        user, token = house.user.user_id, house.token
        house.receive(3, f"10 0004 'MQTT' 04 c2 0000 0001 's' {len(user):04x} '{user}' 0020 '{token}'")
        text = f"{token}/#"
        house.receive(3, f"82 0001 {len(text):04x} '{text}' 00")
    connect(house)
    for device, payload, refusal in (
        ("bare", b"\x001", Refusal.NEW_DEVICE_FOUND),
        ("bare", b"\x001", Refusal.NO_MAPPED_CH),
        ("d", b"\x00{", Refusal.BAD_JSON_FORMAT),
    ):
        house.wire.sent.pop(3, None)
        answer = house.publish(1, f"{house.token}/json/{device}", payload)
        assert answer[4] == REASONS[refusal]
        assert words(answer, 5) == words_of(refusal)
        assert (3 in house.wire.sent) is is_relayed
    answer = house.publish(1, f"{house.token}/json/bare", b"\x001", 0x34)
    assert answer[4] == (0 if is_relayed else REASONS[Refusal.NO_MAPPED_CH])
    assert words(answer, 5) == words_of(Refusal.NO_MAPPED_CH)
    house.wire.sent.pop(3, None)
    answer = house.publish(1, f"{house.token}/json/bare", b"\x001", 0x3C)
    assert (3 in house.wire.sent) is False
    answer = house.publish(1, f"{house.token}/talk/about/it", b"\x001")
    assert answer[4:5] == (b"" if is_relayed else bytes([REASONS[Refusal.UNKNOWN_TOPIC]]))


REFUSED: dict[Why, tuple[str, dict[str, Any]]] = {
    Why.CREDENTIALS: ("", {}),
    Why.AUTHENTICATION_METHOD: ("15 0001 'm'", {}),
    Why.CLIENT_ID: ("", {"strict_client_ids": True}),
    Why.WILL_QOS: ("", {"qos_max": 0}),
    Why.WILL_RETAIN: ("", {"retained_messages_max": 0}),
    Why.SESSIONS_MAX: ("", {"sessions_max": 0}),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_connect_that_is_refused_is_told_why(house: House, why: Why) -> None:
    properties, options = REFUSED[why]
    house.door.broker.options = BrokerOptions(**options)
    user, token = house.user.user_id, house.token
    if why is Why.CREDENTIALS:
        token = "0" * 32
    for limit, expected in (("", why.words), (TERSE, ""), ("27 00000014", "")):
        size = len(frame(f"10 {properties} {limit}")) - 2
        answer = house.receive(
            2,
            f"10 0004 'MQTT' 05 ee 0000 {size:02x} {properties} {limit} 0018 '{'c' * 24}'"
            f" 00 0001 'w' 0001 'x' {len(user):04x} '{user}' 0020 '{token}'",
        )
        assert answer[3] == why.code
        assert words(answer, 4) == expected
        house.door.on_closed(2, 1)


def test_a_version_that_nobody_speaks_is_answered_in_the_old_form(house: House) -> None:
    assert house.receive(1, "10 0004 'MQTT' 06 02 003c 00 0001 'c'") == bytes.fromhex("20 02 00 01")
    assert house.door.statistics().refused == {("UNSUPPORTED_PROTOCOL_VERSION", 0): 1}


def test_a_connection_that_ends_for_another_reason_is_told_which(house: House) -> None:
    connect(house)
    house.wire.sent.clear()
    connect(house, slot=2)
    assert words(house.wire.sent[1], 3) == Why.TAKEN_OVER.words
    house.wire.sent.clear()
    house.door.on_timeout(2)
    assert words(house.wire.sent[2], 3) == Why.SILENT.words
    for reason, why in (("packet_bytes_max", Why.PACKET_TOO_LARGE), ("remaining length", Why.NO_PACKET)):
        house.wire.sent.clear()
        house.door.on_malformed(2, reason)
        assert words(house.wire.sent[2], 3) == why.words


def test_a_user_has_as_many_connections_as_allowed_and_taking_over_makes_none(house: House) -> None:
    house.door.broker.options = BrokerOptions(connections_per_user_max=2)
    assert house.connect(1, "a")[3] == 0
    assert house.connect(2, "b")[3] == 0
    assert house.connect(3, "c") == b"\x20\x02\x00\x03"
    house.door.on_closed(3, 1)
    answer = connect(house, slot=4)
    assert answer[3] == Why.CONNECTIONS_MAX.code
    assert words(answer, 4) == Why.CONNECTIONS_MAX.words
    house.door.on_closed(4, 1)
    other = house.registry.add_user(1)
    assert house.connect(5, "c", other.user_id, other.device_token)[3] == 0
    assert house.connect(6, "b")[3] == 0
    house.door.on_closed(2, 1)
    assert house.connect(7, "c")[3] == 3
    house.door.on_closed(7, 1)
    house.receive(6, "e0")
    house.door.on_closed(6, 1)
    assert house.connect(8, "c")[3] == 0
    assert house.door.statistics().refused == {("QUOTA_EXCEEDED", 4): 2, ("QUOTA_EXCEEDED", 5): 1}


def test_what_is_refused_and_ended_is_counted_by_reason_and_version(house: House) -> None:
    house.connect(1, "a")
    connect(house, slot=2)
    assert house.door.broker.statistics().clients == {3: 0, 4: 1, 5: 1}
    house.receive(1, "82 0005 0001 'a' 00")
    house.receive(2, "82 0005 00 0001 'a' 00 0001 'b' 00")
    refused = house.door.statistics().refused_filters
    assert refused == {("NOT_AUTHORIZED", 3): 0, ("NOT_AUTHORIZED", 4): 1, ("NOT_AUTHORIZED", 5): 2}
    connect(house, slot=3)  # the same client as 2
    house.door.on_timeout(1)
    house.receive(3, "10 0004 'MQTT' 05 02 0000 00 0001 'c'")
    for slot in (1, 2, 3):
        house.door.on_closed(slot, 1)
    house.receive(4, "10 0004 'MQTT' 05 03 0000 00 0001 'c'")
    broken = house.door.statistics().protocol_errors
    assert {key: count for key, count in broken.items() if count} == {
        ("PROTOCOL_ERROR", 5): 1, ("MALFORMED_PACKET", 5): 1,
    }  # fmt: skip
    statistics = house.door.broker.statistics()
    assert statistics.clients == {3: 0, 4: 0, 5: 0}
    assert statistics.ended == {
        "SESSION_TAKEN_OVER": 1, "ADMINISTRATIVE_ACTION": 0, "KEEP_ALIVE_TIMEOUT": 1, "PROTOCOL_ERROR": 1,
    }  # fmt: skip
