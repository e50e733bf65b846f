"""MQTT: the codec's round trip, the compiled split beside it, the reactor beside the machine, filters beside a model.

Input is what clients send. ``\\xfe\\xfe`` and a digit say that from here on another client sends.
"""

import re
import zlib
from array import array
from itertools import pairwise
from random import Random

from ingest import mqtt_lane
from ingest.mqtt import packets
from ingest.mqtt.options import BrokerOptions, Topics
from ingest.mqtt.packets import ProtocolError
from ingest.mqtt.properties import decode_properties_block, encode_properties
from ingest.mqtt.subscriptions import Granted, SubscriptionTree, split_share
from ingest.topics import DataTopic, parse_topic
from tests.fuzz.mutation import split_packets
from tests.ingest.topic_model import fits
from tests.twins.mqtt_packets import encode, properties
from tests.twins.mqtt_sides import LaneSide, MalformedError, Outcome, PlainSide, Script, packet_bytes
from tests.twins.storing import TOKEN, USER

SWITCH = b"\xfe\xfe"
CLIENTS_MAX = 4
# Whoever comes without credentials is this user and may use any topic, so that streams need no tokens.
OPEN = BrokerOptions(topics=Topics.ANY, anonymous=USER, sessions_max=50)
CUTS_MAX = 6
# What the codec says about a topic's characters.
OF_A_NAME = ("UTF-8", "U+0000", "wildcard", "control")


def exactly(data: bytes) -> memoryview:
    """The same bytes in memory of exactly their size, for whoever watches what is read behind them."""
    return memoryview(array("B", data))


def script_of(data: bytes) -> Script:
    """Who sends what: the stream's pieces, cut further at places that follow from the bytes themselves."""
    chance = Random(zlib.crc32(data))
    script: Script = []
    client = 0
    for number, part in enumerate(data.split(SWITCH)):
        piece = part
        if number:
            client, piece = (part[0] % CLIENTS_MAX if part else 0), part[1:]
        if chance.random() < 0.1:
            script += [(client, piece[i : i + 1]) for i in range(len(piece))]
        else:
            cuts = sorted(chance.randrange(len(piece) + 1) for _ in range(chance.randrange(CUTS_MAX)))
            bounds = [0, *cuts, len(piece)]
            script += [(client, piece[a:b]) for a, b in pairwise(bounds) if b > a]
    return script


def stream_of(data: bytes) -> bytes:
    """What the clients send, one behind the other."""
    return re.sub(re.escape(SWITCH) + rb"[\s\S]?", b"", data)


def check_packets(data: bytes) -> None:
    """Every packet of a stream, decoded as each protocol: only ProtocolError, and the way back gives the same."""
    for frame in split_packets(stream_of(data)):
        form = packets.form_of(frame)
        for protocol in (0, 3, 4, 5):
            try:
                value = packets.decode(frame, protocol)
            except ProtocolError:
                continue
            spoken: int | None = protocol or 4
            if isinstance(value, packets.Connect):
                spoken = value.protocol
                assert form == value.form
            if spoken is None:
                continue
            assert packets.decode(encode(value, spoken), spoken) == value
            for wrong in (frame + b"\0", frame[:-1]):
                try:
                    packets.decode(wrong, protocol)
                except ProtocolError:
                    continue
                raise AssertionError("a packet of another length was taken")


def check_split(data: bytes) -> None:
    """What the lane takes of a packet is what the codec finds in it; where a packet ends is no matter of opinion."""
    stream = stream_of(data)
    for frame in split_packets(stream):
        try:
            expected = packet_bytes(frame) or 0
        except MalformedError:
            expected = -1
        assert mqtt_lane.size(exactly(frame)) == expected
        if len(frame) < 2:
            continue
        for protocol in (3, 4, 5):
            taken = mqtt_lane.split(exactly(frame), protocol == 5)
            if taken is None:
                continue
            topic, packet_id, payload = taken
            # The lane asks about a topic's characters apart, and the codec's other answers are about nothing else.
            try:
                value = packets.decode(frame, protocol)
            except ProtocolError as error:
                if any(word in error.reason for word in OF_A_NAME):
                    continue
                raise
            assert isinstance(value, packets.Publish)
            assert (value.topic, value.packet_id or None, value.payload) == (topic, packet_id, payload)
            assert (value.qos > 0) == (packet_id is not None)
            assert not value.retain
            assert not value.properties


def without_chance(outcome: Outcome) -> Outcome:
    """Client ids that the broker chose are random."""
    hidden = {
        client: re.sub(rb"auto-[0-9a-f]{16}", b"auto-0123456789abcdef", sent)
        for client, sent in outcome.sent.items()
    }
    return outcome._replace(sent=hidden)


def check_conversation(data: bytes) -> None:
    """The reactor with its lane, over sockets, says and stores what the plain machine does."""
    script = script_of(data)
    expected = PlainSide(OPEN).run(script)
    assert without_chance(LaneSide(options=OPEN).run(script)) == without_chance(expected)


def check_properties(data: bytes) -> None:
    """A block of properties that was read is written as it was, and read again."""
    try:
        found = decode_properties_block(data)
    except ProtocolError:
        return
    written = encode_properties(found)
    assert written == properties(found)
    assert decode_properties_block(written) == found
    assert len(written) == len(data)


def check_filters(data: bytes) -> None:
    """Lines ``+ filter`` and ``- filter`` subscribe and unsubscribe, any other line is a topic: the tree is as the model."""
    tree: SubscriptionTree[int] = SubscriptionTree()
    model: dict[tuple[int, bytes], Granted] = {}
    for number, line in enumerate(data.split(b"\n")[:60]):
        verb, text, who = line[:1], line[1:], number % 2
        if verb in (b"+", b"-") and is_filter(text):
            known = (who, text) in model
            if verb == b"+":
                granted = Granted(number % 3, identifier=number)
                assert tree.add(text, who, granted) == known
                model[who, text] = granted
            else:
                assert tree.remove(text, who) == known
                model.pop((who, text), None)
        elif line and not set(line) & set(b"+#"):
            check_topic(tree, model, line)
    for who, text in model:
        assert tree.remove(text, who)
    assert tree._root.is_empty


def is_filter(text: bytes) -> bool:
    """Whether the codec takes it."""
    subscribe = encode(packets.Subscribe(1, (packets.Subscription(text, 0),)), 4)
    try:
        packets.decode(subscribe, 4)
    except ProtocolError:
        return False
    return True


def check_topic(tree: SubscriptionTree[int], model: dict[tuple[int, bytes], Granted], topic: bytes) -> None:
    parsed = parse_topic(topic, TOKEN.encode())
    assert not isinstance(parsed, DataTopic) or topic.startswith(TOKEN.encode() + b"/")
    direct: dict[int, list[int]] = {}
    groups: set[tuple[bytes, bytes]] = set()
    for (who, text), granted in model.items():
        group, plain = split_share(text)
        if fits(plain, topic):
            if group:
                groups.add((group, plain))
            else:
                direct.setdefault(who, []).append(granted.identifier)
    found = tree.match(topic)
    assert {who: sorted(each.identifier for each in grants) for who, grants in found.direct.items()} == {
        who: sorted(identifiers) for who, identifiers in direct.items()
    }
    assert len(found.shares) == len(groups)
    assert bool(found) == bool(direct or groups)
