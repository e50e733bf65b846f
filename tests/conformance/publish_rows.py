"""PUBLISH (section 3.3) and retained messages."""

from tests.conformance.packets import (
    ABSENT,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    T,
    between,
    ping,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    raw,
    subscribe,
)  # fmt: skip
from tests.conformance.script import V5, V31, V311, Steps, Table, a, b, c

TABLE = Table(1000)
row = TABLE.row
ALL = (V31, V311, V5)
OLD = (V31, V311)
BOTH = (V311, V5)
TOPIC = f"{T}/t"


def listens(qos: int = 0, who=b, name: str = TOPIC, **options) -> Steps:  # type: ignore[no-untyped-def]
    """The client is there, and subscribed."""
    return who.joins(**options) + who.sends(subscribe(1, (name, qos))) + who.gets(Suback(1, qos & 3))


# What comes out, at every pair of QoS.
ACKNOWLEDGED = {
    0: (),
    1: a.gets(Puback(9)),
    2: a.gets(Pubrec(9)) + a.sends(pubrel(9)) + a.gets(Pubcomp(9)),
}
DELIVERED = {
    0: b.gets(Publish(TOPIC, "23.5")),
    1: b.gets(Publish(TOPIC, "23.5", qos=1, pid="m")) + b.sends(puback("m")),
    2: b.gets(Publish(TOPIC, "23.5", qos=2, pid="m")) + b.sends(pubrec("m"))
    + b.gets(Pubrel("m")) + b.sends(pubcomp("m")),
}  # fmt: skip
for sent in (0, 1, 2):
    for granted in (0, 1, 2):
        row(f"QoS {sent} to a subscription of QoS {granted} comes at QoS {min(sent, granted)}",
            {OLD: "3.8.4-6 3.3.4-1 3.3.2-3",
             V5: "3.8.4-8 3.3.4-1 3.3.2-3" + ("", " 4.3.2-2", " 4.3.3-1 4.3.3-2")[min(sent, granted)]},
            listens(granted), a.joins(), a.sends(publish(TOPIC, "23.5", qos=sent, pid=9)), ACKNOWLEDGED[sent],
            DELIVERED[min(sent, granted)], a.gets_nothing(), b.gets_nothing())  # fmt: skip

# The fixed header.
for pid in (1, 255, 32768, 65535):
    row(f"packet id {pid} comes back in PUBACK", {OLD: "2.3.1-6 4.3.2-2", V5: "2.2.1-5 4.3.2-4"},
        a.joins(), a.sends(publish(TOPIC, qos=1, pid=pid)), a.gets(Puback(pid)), a.gets_nothing())  # fmt: skip
    row(f"packet id {pid} comes back in PUBREC and PUBCOMP", {OLD: "2.3.1-6 4.3.3-2", V5: "2.2.1-5 4.3.3-8 4.3.3-11"},
        a.joins(), a.sends(publish(TOPIC, qos=2, pid=pid)), a.gets(Pubrec(pid)), a.sends(pubrel(pid)),
        a.gets(Pubcomp(pid)), a.gets_nothing())  # fmt: skip
for qos in (1, 2):
    row(f"packet id 0 at QoS {qos} closes the connection", {V311: "2.3.1-1", V5: "2.2.1-3"},
        a.joins(), a.sends(publish(TOPIC, qos=qos, pid=0)), a.closed(0x81, 0x82))  # fmt: skip
row(
    "QoS 3 closes the connection",
    {ALL: "3.3.1-4"},
    a.joins(),
    a.sends(raw('36 07 00 01 "t" 00 01 00 00')),
    a.closed(0x81, 0x82),
)
row("QoS 3 with DUP closes the connection", {BOTH: "3.3.1-4"},
    a.joins(), a.sends(raw('3e 07 00 01 "t" 00 01 00 00')), a.closed(0x81, 0x82))  # fmt: skip
row("DUP at QoS 0 closes the connection", {BOTH: "3.3.1-2"},
    a.joins(), a.sends(publish(TOPIC, dup=True)), a.closed(0x81, 0x82),
    mosquitto="ignores DUP at QoS 0")  # fmt: skip
for qos in (1, 2):
    row(f"DUP is not passed on at QoS {qos}", {ALL: "3.3.1-3"},
        listens(qos), a.joins(), a.sends(publish(TOPIC, "23.5", qos=qos, pid=9, dup=True)), ACKNOWLEDGED[qos],
        DELIVERED[qos])  # fmt: skip
row("QoS 0 has no packet id: what follows the topic is payload", {OLD: "2.3.1-5", V5: "2.2.1-2"},
    listens(), a.joins(), a.sends(publish(TOPIC, b"\0\1x")), b.gets(Publish(TOPIC, b"\0\1x")))  # fmt: skip
row("a payload may be empty", {ALL: "4.3.1-1"},
    listens(), a.joins(), a.sends(publish(TOPIC, "")), b.gets(Publish(TOPIC, "")))  # fmt: skip
row("a payload may be any bytes", {ALL: "4.3.1-1"},
    listens(), a.joins(), a.sends(publish(TOPIC, bytes(range(256)))), b.gets(Publish(TOPIC, bytes(range(256)))))  # fmt: skip
for length in (127, 128, 16_383, 16_384, 60_000):
    row(f"a payload of {length} bytes", {ALL: "4.3.1-1"},
        listens(), a.joins(), a.sends(publish(TOPIC, b"z" * length)), b.gets(Publish(TOPIC, b"z" * length)))  # fmt: skip
for count in (20, 300):
    row(f"{count} messages in one segment", {BOTH: "4.6.0-6" if count == 20 else "4.6.0-5"},
        listens(), a.joins(), a.sends(*(publish(TOPIC, f"{i}") for i in range(count))),
        b.gets(*(Publish(TOPIC, f"{i}") for i in range(count))))  # fmt: skip

# Topic names.
for title, name in {
    "+": f"{T}/+", "#": f"{T}/#", "+ within a level": f"{T}/a+b", "# within a level": f"{T}/a#",
}.items():  # fmt: skip
    row(f"a topic with {title} closes the connection", {V311: "3.3.2-2 4.7.1-1", V5: "3.3.2-2 4.7.0-1"},
        a.joins(), a.sends(publish(name)), a.closed(0x90, 0x81, 0x82))  # fmt: skip
    row(f"a QoS 1 topic with {title} closes the connection", {V311: "3.3.2-2 4.7.1-1", V5: "3.3.2-2 4.7.0-1"},
        a.joins(), a.sends(publish(name, qos=1)), a.closed(0x90, 0x81, 0x82))  # fmt: skip
row("an empty topic closes the connection", {V311: "4.7.3-1", V5: "4.7.3-1"},
    a.joins(), a.sends(publish("")), a.closed(0x81, 0x82, 0x90))  # fmt: skip
row(
    "no topic at all closes the connection",
    {ALL: "3.3.2-1"},
    a.joins(),
    a.sends(raw("30 00")),
    a.closed(0x81, 0x82, 0x90),
)
row("a topic longer than its packet closes the connection", {ALL: "3.3.2-1"},
    a.joins(), a.sends(raw('30 04 00 09 "ab"')), a.closed(0x81, 0x82))  # fmt: skip
row("no packet id closes the connection", {V311: "2.3.1-1", V5: "2.2.1-3"},
    a.joins(), a.sends(raw('32 03 00 01 "t"')), a.closed(0x81, 0x82))  # fmt: skip
row("half a packet id closes the connection", {V311: "2.3.1-1", V5: "2.2.1-3"},
    a.joins(), a.sends(raw('32 04 00 01 "t" 01')), a.closed(0x81, 0x82))  # fmt: skip

# Retained messages.
RETAINED = a.joins() + a.sends(publish(TOPIC, "old", qos=1, retain=True)) + a.gets(Puback(1))
row("a retained message comes to a new subscription, with RETAIN", {OLD: "3.3.1-5 3.3.1-6 3.3.1-8", V5: "3.3.1-5 3.3.1-9"},
    RETAINED, b.joins(), b.sends(subscribe(1, TOPIC)), b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True)),
    b.gets_nothing())  # fmt: skip
for qos in (0, 1, 2):
    row(f"a message retained at QoS {qos}", {OLD: "3.3.1-5 3.3.1-7" if not qos else "3.3.1-5", V5: "3.3.1-5"},
        a.joins(), a.sends(publish(TOPIC, "old", qos=qos, pid=9, retain=True)), ACKNOWLEDGED[qos], a.gets_nothing(),
        b.joins(), b.sends(subscribe(1, (TOPIC, 2))),
        b.gets_any(Suback(1, 2), Publish(TOPIC, "old", qos=qos, retain=True)))  # fmt: skip
row("a retained message comes at the subscription's QoS", {OLD: "3.8.4-6", V5: "3.8.4-8"},
    RETAINED, b.joins(), b.sends(subscribe(1, (TOPIC, 0))),
    b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True)))  # fmt: skip
row("the newest retained message replaces the older", {OLD: "3.3.1-5 3.3.1-7", V5: "3.3.1-5"},
    RETAINED, a.sends(publish(TOPIC, "new", retain=True)), a.gets_nothing(),
    b.joins(), b.sends(subscribe(1, TOPIC)), b.gets_any(Suback(1, 0), Publish(TOPIC, "new", retain=True)),
    b.gets_nothing())  # fmt: skip
row("a message without RETAIN does not replace a retained one", {OLD: "3.3.1-12", V5: "3.3.1-8"},
    RETAINED, a.sends(publish(TOPIC, "new")), a.gets_nothing(),
    b.joins(), b.sends(subscribe(1, TOPIC)), b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True)))  # fmt: skip
row("an empty message without RETAIN removes nothing", {OLD: "3.3.1-12", V5: "3.3.1-8"},
    RETAINED, a.sends(publish(TOPIC, "")), a.gets_nothing(),
    b.joins(), b.sends(subscribe(1, TOPIC)), b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True)))  # fmt: skip
row("a message without RETAIN is not kept", {OLD: "3.3.1-12", V5: "3.3.1-8"},
    a.joins(), a.sends(publish(TOPIC, "new")), a.gets_nothing(), listens(), b.gets_nothing())  # fmt: skip
row("an established subscription gets it without RETAIN", {OLD: "3.3.1-9", V5: "3.3.1-12"},
    listens(), a.joins(), a.sends(publish(TOPIC, "new", retain=True)), b.gets(Publish(TOPIC, "new")))  # fmt: skip
row("an empty retained message removes the retained one", {OLD: "3.3.1-10 3.3.1-11", V5: "3.3.1-6 3.3.1-7"},
    RETAINED, a.sends(publish(TOPIC, "", retain=True)), a.gets_nothing(), listens(), b.gets_nothing())  # fmt: skip
row("an empty retained message is an ordinary one for subscribers", {OLD: "3.3.1-10", V5: "3.3.1-6"},
    listens(), a.joins(), a.sends(publish(TOPIC, "", retain=True)), b.gets(Publish(TOPIC, "")))  # fmt: skip
row("a removed retained message can be set again", {OLD: "3.3.1-5", V5: "3.3.1-5"},
    RETAINED, a.sends(publish(TOPIC, "", retain=True), publish(TOPIC, "back", retain=True)), a.gets_nothing(),
    b.joins(), b.sends(subscribe(1, TOPIC)), b.gets_any(Suback(1, 0), Publish(TOPIC, "back", retain=True)))  # fmt: skip
row("retained messages outlive the session of their publisher", {V311: "3.1.2-7"},
    RETAINED, a.leaves(), b.joins(), b.sends(subscribe(1, TOPIC)),
    b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True)))  # fmt: skip
row("a wildcard gets every matching retained message", {OLD: "3.3.1-6", V5: "3.3.1-9"},
    a.joins(), a.sends(*(publish(f"{T}/{i}/v", f"{i}", retain=True) for i in range(4)), publish(f"{T}/5/w", retain=True)),
    a.gets_nothing(), b.joins(), b.sends(subscribe(1, f"{T}/+/v")),
    b.gets_any(Suback(1, 0), *(Publish(f"{T}/{i}/v", f"{i}", retain=True) for i in range(4))), b.gets_nothing())  # fmt: skip
row("subscribing again sends retained messages again", {OLD: "3.8.4-3", V5: "3.8.4-4"},
    RETAINED, b.joins(), *[b.sends(subscribe(1, TOPIC)) + b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True))] * 2,
    b.gets_nothing())  # fmt: skip

# What MQTT 5 carries along.
for title, props in {
    "payload format 0": {"payload_format": 0}, "payload format 1": {"payload_format": 1},
    "a content type": {"content_type": "text/plain; ä"}, "an empty content type": {"content_type": ""},
    "a response topic": {"response_topic": "reply/to"},
    "correlation data": {"correlation_data": b"\0\xff\x01"}, "empty correlation data": {"correlation_data": b""},
    "request and response": {"response_topic": "r", "correlation_data": b"17"},
    "user properties in order, and twice": {"user": [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("b", "0")]},
    "everything": {"payload_format": 1, "content_type": "c", "response_topic": "r", "correlation_data": b"d", "user": [("k", "v")]},
}.items():  # fmt: skip
    numbers = {
        "payload": "3.3.2-4",
        "content": "3.3.2-20",
        "response_topic": "3.3.2-15",
        "correlation": "3.3.2-16",
    }
    named = " ".join(number for key, number in numbers.items() if any(name.startswith(key) for name in props))
    if "user" in props:
        named += " 3.3.2-17 3.3.2-18"
    row(f"{title}: passed on", {V5: named.strip()},
        listens(), a.joins(), a.sends(publish(TOPIC, props=props)), b.gets(Publish(TOPIC, **props)))  # fmt: skip
    row(f"{title}: passed on with a retained message", {V5: named.strip()},
        a.joins(), a.sends(publish(TOPIC, retain=True, props=props)), a.gets_nothing(),
        b.joins(), b.sends(subscribe(1, TOPIC)), b.gets_any(Suback(1, 0), Publish(TOPIC, retain=True, **props)))  # fmt: skip
row("properties stay behind for a subscriber of 3.1.1's shape: none are invented", {V5: "3.3.2-17"},
    listens(), a.joins(), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC, user=ABSENT)))  # fmt: skip
PASSED_BY_MOSQUITTO = {
    "a subscription identifier from a client", "payload format 2", "a response topic with #", "a response topic with +",
}  # fmt: skip
for title, hexadecimal, codes in (
    ("a subscription identifier from a client", "0b 01", (0x81, 0x82)),
    ("payload format 2", "01 02", (0x81, 0x82, 0x99)),
    ("payload format twice", "01 00 01 00", (0x81, 0x82)),
    ("a message expiry twice", "02 00 00 00 01 02 00 00 00 01", (0x81, 0x82)),
    ("a content type twice", '03 00 01 "a" 03 00 01 "a"', (0x81, 0x82)),
    ("a content type that is not UTF-8", "03 00 01 ff", (0x81, 0x82)),
    ("a response topic with #", '08 00 03 "a/#"', (0x81, 0x82, 0x90)),
    ("a response topic with +", '08 00 03 "a/+"', (0x81, 0x82, 0x90)),
    ("a response topic that is not UTF-8", "08 00 01 ff", (0x81, 0x82)),
    ("a user property that is not UTF-8", "26 00 01 ff 00 00", (0x81, 0x82)),
    ("a topic alias of 0", "23 00 00", (0x94, 0x81, 0x82)),
    ("a property of CONNECT", "11 00 00 00 01", (0x81, 0x82)),
    ("a property that there is not", "7f 00", (0x81, 0x82)),
    ("half a property", "02 00 00", (0x81, 0x82)),
):
    named = {
        "a subscription": "3.3.4-6", "a content type that": "3.3.2-19", "a response topic with": "3.3.2-14",
        "a response topic that": "3.3.2-13", "a user": "1.5.7-1", "a topic alias": "3.3.2-8",
    }  # fmt: skip
    number = next((number for start, number in named.items() if title.startswith(start)), "4.13.1-1")
    row(f"{title} closes the connection", {V5: number},
        a.joins(), a.sends(publish(TOPIC, props=raw(hexadecimal))), a.closed(*codes),
        mosquitto="lets it pass" if title in PASSED_BY_MOSQUITTO else "")  # fmt: skip
row("properties longer than their packet", {V5: "4.13.1-1"},
    a.joins(), a.sends(raw('30 04 00 01 "t" 05')), a.closed(0x81, 0x82))  # fmt: skip
row("no properties at all", {V5: "2.2.2-1"}, a.joins(), a.sends(raw('30 03 00 01 "t"')), a.closed(0x81, 0x82))

# Message expiry.
row("what is left of the message expiry is passed on", {V5: "3.3.2-6"},
    listens(), a.joins(), a.sends(publish(TOPIC, props={"message_expiry": 100})),
    b.gets(Publish(TOPIC, message_expiry=between(98, 100))))  # fmt: skip
row("the message expiry of a retained message is counted down", {V5: "3.3.2-6"},
    a.joins(), a.sends(publish(TOPIC, retain=True, props={"message_expiry": 100})), a.gets_nothing(), a.waits(2.1),
    b.joins(), b.sends(subscribe(1, TOPIC)),
    b.gets_any(Suback(1, 0), Publish(TOPIC, retain=True, message_expiry=between(95, 98))))  # fmt: skip
row("a retained message expires", {V5: "3.3.2-5"},
    a.joins(), a.sends(publish(TOPIC, retain=True, props={"message_expiry": 1})), a.gets_nothing(), a.waits(2.2),
    listens(), b.gets_nothing())  # fmt: skip
row("a message expires while its subscriber is away", {V5: "3.3.2-5"},
    listens(1, keep=True), b.leaves(), a.joins(),
    a.sends(publish(TOPIC, "short", qos=1, props={"message_expiry": 1}), publish(TOPIC, "long", qos=1, pid=2)),
    a.gets(Puback(1), Puback(2)), a.waits(2.2), b.joins(1, clean=False, props={"session_expiry": 1}),
    b.gets(Publish(TOPIC, "long", qos=1, pid="m")), b.sends(puback("m")), b.gets_nothing())  # fmt: skip

# To everybody.
row("every subscriber gets its copy", {OLD: "3.3.5-1", V5: "4.5.0-1"},
    listens(), listens(who=c), a.joins(), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC)), c.gets(Publish(TOPIC)))  # fmt: skip
row("a client gets its own messages", {ALL: "4.5.0-1"},
    listens(who=a), a.sends(publish(TOPIC), ping), a.gets(Publish(TOPIC)))  # fmt: skip
