"""Wills (section 3.1.2.5 and, in 5.0, 3.1.3.2)."""

from tests.conformance.packets import (  # fmt: skip
    Publish,
    Pubrel,
    Suback,
    T,
    Will,
    connect,
    disconnect,
    puback,
    pubcomp,
    publish,
    pubrec,
    raw,
    subscribe,
)
from tests.conformance.publish_rows import listens
from tests.conformance.script import V5, V31, V311, Table, a, b, c

TABLE = Table(6000)
row = TABLE.row
ALL = (V31, V311, V5)
OLD = (V31, V311)
BOTH = (V311, V5)
TOPIC = f"{T}/t"
WILL = Will(TOPIC)

row("a will is published when the connection breaks", {OLD: "3.1.2-8", V5: "3.1.2-7 3.1.2-8"},
    listens(), a.joins(will=WILL), a.drops(), b.gets(Publish(TOPIC, "gone")), b.gets_nothing())  # fmt: skip
row("a will is not published while the connection lasts", {ALL: "3.1.2-8"},
    listens(), a.joins(will=WILL), a.gets_nothing(), b.gets_nothing())  # fmt: skip
row("DISCONNECT removes the will", {OLD: "3.1.2-10 3.14.4-3", V5: "3.1.2-10 3.14.4-3"},
    listens(), a.joins(will=WILL), a.leaves(), b.gets_nothing())  # fmt: skip
row("a will is published once", {OLD: "3.1.2-10", V5: "3.1.2-10"},
    listens(), a.joins(will=WILL), a.drops(), b.gets(Publish(TOPIC, "gone")), a.joins(), a.drops(), b.gets_nothing(),
    a.joins(), a.leaves(), b.gets_nothing())  # fmt: skip
row(
    "without a will nothing is published",
    {OLD: "3.1.2-12"},
    listens(),
    a.joins(),
    a.drops(),
    b.gets_nothing(),
)
row("a protocol error publishes the will", {ALL: "3.1.2-8"},
    listens(), a.joins(will=WILL), a.sends(connect(a.id)), a.closed(0x82), b.gets(Publish(TOPIC, "gone")),
    mosquitto="publishes no will after a second CONNECT")  # fmt: skip
row("a malformed packet publishes the will", {ALL: "3.1.2-8"},
    listens(), a.joins(will=WILL), a.sends(raw("30 ff ff ff ff 01")), a.closed(0x81, 0x82, 0x95), b.gets(Publish(TOPIC, "gone")))  # fmt: skip
row("a missed keepalive publishes the will", {V311: "3.1.2-8 3.1.2-24", V5: "3.1.2-8 3.1.2-22"},
    listens(), a.joins(will=WILL, keepalive=1), a.waits(2.5), b.gets(Publish(TOPIC, "gone")),
    mosquitto="sometimes later: it looks every five seconds")  # fmt: skip
row("being taken over publishes the will", {OLD: "3.1.2-8", V5: "3.1.2-8"},
    listens(), a.joins(will=WILL), c.joins(client=a.id), a.closed(0x8E), b.gets(Publish(TOPIC, "gone")), c.gets_nothing())  # fmt: skip
for qos in (0, 1, 2):
    row(f"a will of QoS {qos}", {OLD: "3.1.2-9 3.1.2-14", V5: "3.1.2-9 3.1.2-12"},
        listens(2), a.joins(will=Will(TOPIC, qos=qos)), a.drops(), b.gets(Publish(TOPIC, "gone", qos=qos, pid="m" if qos else 0)),
        b.sends() if not qos else b.sends(puback("m")) if qos == 1
        else b.sends(pubrec("m")) + b.gets(Pubrel("m")) + b.sends(pubcomp("m")), b.gets_nothing())  # fmt: skip
row("a will comes at the subscription's QoS", {OLD: "3.8.4-6", V5: "3.8.4-8"},
    listens(0), a.joins(will=Will(TOPIC, qos=2)), a.drops(), b.gets(Publish(TOPIC, "gone")))  # fmt: skip
row("a will without retain is not retained", {OLD: "3.1.2-16", V5: "3.1.2-14"},
    listens(), a.joins(will=WILL), a.drops(), b.gets(Publish(TOPIC, "gone")), listens(who=c), c.gets_nothing())  # fmt: skip
row("a will with retain is retained", {OLD: "3.1.2-17", V5: "3.1.2-15"},
    listens(), a.joins(will=Will(TOPIC, retain=True)), a.drops(), b.gets(Publish(TOPIC, "gone")), c.joins(),
    c.sends(subscribe(1, TOPIC)), c.gets_any(Suback(1, 0), Publish(TOPIC, "gone", retain=True)))  # fmt: skip
row("an empty will with retain removes the retained message", {OLD: "3.1.2-17 3.3.1-10", V5: "3.1.2-15 3.3.1-6"},
    listens(), c.joins(), c.sends(publish(TOPIC, "old", retain=True)), b.gets(Publish(TOPIC, "old")),
    a.joins(will=Will(TOPIC, "", retain=True)), a.drops(), b.gets(Publish(TOPIC, "")), c.sends(subscribe(1, TOPIC)),
    c.gets(Suback(1, 0)), c.gets_nothing())  # fmt: skip
row("a will may be empty", {ALL: "3.1.2-9"},
    listens(), a.joins(will=Will(TOPIC, "")), a.drops(), b.gets(Publish(TOPIC, "")))  # fmt: skip
row("a will may be any bytes", {ALL: "3.1.2-9"},
    listens(), a.joins(will=Will(TOPIC, bytes(range(256)))), a.drops(), b.gets(Publish(TOPIC, bytes(range(256)))))  # fmt: skip
row("a will reaches a session that is away", {OLD: "3.1.2-5 3.1.2-8", V5: "3.1.2-8 4.5.0-1"},
    listens(1, keep=True), b.leaves(), listens(who=c), a.joins(will=Will(TOPIC, qos=1)), a.drops(), c.gets(Publish(TOPIC, "gone")),
    b.joins(1, keep=True), b.gets(Publish(TOPIC, "gone", qos=1)))  # fmt: skip
row("a new CONNECT replaces the will", {OLD: "3.1.2-8", V5: "3.1.2-10"},
    listens(), a.joins(will=Will(TOPIC, "1")), a.leaves(), a.joins(will=Will(TOPIC, "2")), a.drops(), b.gets(Publish(TOPIC, "2")),
    b.gets_nothing())  # fmt: skip
row("a persistent session's will is for each connection", {OLD: "3.1.2-12", V5: "3.1.2-10"},
    listens(), a.joins(will=WILL, keep=True), a.leaves(), a.joins(1, clean=False), a.drops(),
    b.gets_nothing())  # fmt: skip
for title, content in {"is not UTF-8": b"\xff", "has a surrogate": b"\xed\xa0\x80"}.items():
    row(f"a will topic that {title} closes the connection", {V311: "3.1.3-10 1.5.3-1", V5: "3.1.3-11 1.5.4-1"},
        a.sends(connect(a.id, will=Will(content))), a.closed(0x81, 0x82, 0x90))  # fmt: skip
row("a will topic with U+0000 closes the connection", {V311: "3.1.3-10 1.5.3-2", V5: "3.1.3-11 1.5.4-2"},
    a.sends(connect(a.id, will=Will("a\0"))), a.closed(0x81, 0x82, 0x90))  # fmt: skip
row("an empty will topic closes the connection", {BOTH: "4.7.3-1"},
    a.sends(connect(a.id, will=Will(""))), a.closed(0x81, 0x82, 0x90))  # fmt: skip
for name in ("a/#", "+"):
    row(f"the will topic {name} closes the connection", {V311: "4.7.1-1", V5: "4.7.0-1"},
        a.sends(connect(a.id, will=Will(name))), a.closed(0x81, 0x82, 0x90))  # fmt: skip

# MQTT 5.
row("DISCONNECT with will publishes the will", {V5: "3.14.4-3 3.1.2-8"},
    listens(), a.joins(will=WILL), a.leaves(disconnect(0x04)), b.gets(Publish(TOPIC, "gone")))  # fmt: skip
for code in (0x80, 0x81, 0x82, 0x93):
    row(f"DISCONNECT with 0x{code:02X} publishes the will", {V5: "3.1.2-8"},
        listens(), a.joins(will=WILL), a.leaves(disconnect(code)), b.gets(Publish(TOPIC, "gone")),
        mosquitto="publishes a will after 0x04 only")  # fmt: skip
row("DISCONNECT 0x00, written out, removes the will", {V5: "3.14.4-3 3.1.2-10"},
    listens(), a.joins(will=WILL), a.leaves(disconnect(0, {})), b.gets_nothing())  # fmt: skip
PROPS = {"payload_format": 1, "content_type": "c", "response_topic": "r", "correlation_data": b"\0",
         "user": [("b", "1"), ("a", "2"), ("b", "1")]}  # fmt: skip
row("the will's properties are published with it", {V5: "3.1.3-10 3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-20"},
    listens(), a.joins(will=Will(TOPIC, props=PROPS)), a.drops(), b.gets(Publish(TOPIC, "gone", **PROPS)))  # fmt: skip
row("a will has a message expiry", {V5: "3.3.2-6"},
    listens(), a.joins(will=Will(TOPIC, props={"message_expiry": 50})), a.drops(),
    b.gets(Publish(TOPIC, "gone", message_expiry=lambda value: value in (49, 50))))  # fmt: skip
LATER = Will(TOPIC, props={"will_delay": 1})
row("a will's delay is waited for", {V5: "3.1.2-8"},
    listens(), a.joins(will=LATER, keep=True), a.drops(), b.gets_nothing(), b.waits(0.5), b.gets_nothing(), b.waits(1.0),
    b.gets(Publish(TOPIC, "gone")))  # fmt: skip
row("a new connection within the delay keeps the will back", {V5: "3.1.3-9 3.1.2-8"},
    listens(), a.joins(will=LATER, keep=True), a.drops(), b.gets_nothing(), a.joins(1, clean=False, props={"session_expiry": 60}),
    b.waits(2.5), b.gets_nothing(), a.leaves())  # fmt: skip
row("the end of the session comes before the delay", {V5: "3.1.2-8"},
    listens(), a.joins(will=Will(TOPIC, props={"will_delay": 60})), a.drops(), b.gets(Publish(TOPIC, "gone")),
    mosquitto="waits for the delay")  # fmt: skip
row("the session expiry comes before the delay", {V5: "3.1.2-8"},
    listens(), a.joins(will=Will(TOPIC, props={"will_delay": 60}), props={"session_expiry": 1}), a.drops(), b.gets_nothing(),
    b.waits(2.5), b.gets(Publish(TOPIC, "gone")))  # fmt: skip
row("a clean start ends the session, and publishes the delayed will", {V5: "3.1.2-8 3.1.2-4"},
    listens(), a.joins(will=Will(TOPIC, props={"will_delay": 60}), props={"session_expiry": 60}), a.drops(), b.gets_nothing(),
    a.joins(), b.gets(Publish(TOPIC, "gone")),
    mosquitto="forgets the will")  # fmt: skip
row("DISCONNECT removes a delayed will", {V5: "3.14.4-3"},
    listens(), a.joins(will=LATER, keep=True), a.leaves(), b.waits(2.0), b.gets_nothing())  # fmt: skip
for title, hexadecimal in {
    "a will delay twice": "18 00 00 00 01 18 00 00 00 01", "a payload format of 2": "01 02", "a property of PUBLISH only": "23 00 01",
    "half a property": "18 00", "properties of CONNECT": "11 00 00 00 01", "a content type that is not UTF-8": "03 00 01 ff",
}.items():  # fmt: skip
    row(f"{title} among the will's properties closes the connection", {V5: "3.1.4-1 4.13.1-1"},
        a.sends(connect(a.id, will=Will(TOPIC, props=raw(hexadecimal)))), a.closed(0x81, 0x82, 0x99),
        mosquitto="takes any payload format" if "format" in title else "")  # fmt: skip
