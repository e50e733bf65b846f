"""Sessions over reconnects: what is kept, for how long, and what is sent again (sections 3.1.2.4, 3.1.2.11.2, 4.1, 4.4)."""

from tests.conformance.packets import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    T,
    Unsuback,
    disconnect,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    unsubscribe,
)  # fmt: skip
from tests.conformance.publish_rows import listens
from tests.conformance.script import V5, V31, V311, Steps, Table, a, b

TABLE = Table(5000)
row = TABLE.row
ALL = (V31, V311, V5)
OLD = (V31, V311)
BOTH = (V311, V5)
TOPIC = f"{T}/t"


def publishes(qos: int, *texts: str) -> Steps:
    """The messages are the broker's when these steps are done."""
    steps: Steps = ()
    for text in texts:
        steps += a.sends(publish(TOPIC, text, qos=qos, pid=5))
        steps += a.gets(Puback(5)) if qos == 1 else ()
        steps += a.gets(Pubrec(5)) + a.sends(pubrel(5)) + a.gets(Pubcomp(5)) if qos == 2 else ()
    return steps + a.gets_nothing()


def takes(qos: int, text: str, dup: bool = False, name: str = "") -> Steps:
    """b gets the message and acknowledges it."""
    pid = name or text
    steps = b.gets(Publish(TOPIC, text, qos=qos, pid=pid, dup=dup))
    if qos == 1:
        return steps + b.sends(puback(pid))
    return steps + b.sends(pubrec(pid)) + b.gets(Pubrel(pid)) + b.sends(pubcomp(pid))


# A level that there is not, and an authentication method that there is not, of the client a.
REFUSED = {
    4: b"\x10\x13\x00\x04MQTT\x09\x00\x00\x3c\x00\x07" + f"{T}a".encode(),
    5: b"\x10\x18\x00\x04MQTT\x05\x00\x00\x3c\x04\x15\x00\x01x\x00\x07" + f"{T}a".encode(),
}

# Session present.
row(
    "a first connection has no session",
    {V311: "3.2.2-3 3.1.2-4", V5: "3.2.2-3 3.1.2-6"},
    a.joins(0, keep=True),
)
row("a kept session is present", {V311: "3.2.2-2 3.1.2-4", V5: "3.2.2-3 3.1.2-5"},
    a.joins(keep=True), a.leaves(), a.joins(1, keep=True))  # fmt: skip
row("a session is kept when the connection breaks", {V311: "3.2.2-2 4.1.0-1", V5: "3.2.2-3 3.1.2-23"},
    a.joins(keep=True), a.drops(), a.joins(1, keep=True))  # fmt: skip
row("a clean session lasts as long as its connection", {OLD: "4.1.0-2", V5: "4.1.0-1"},
    listens(), b.gets_nothing(), a.joins(), publishes(0, "1"), b.gets(Publish(TOPIC, "1")), publishes(0, "2"),
    b.gets(Publish(TOPIC, "2")))  # fmt: skip
row(
    "a clean session is not kept",
    {V311: "3.2.2-3 3.1.2-6", V5: "3.2.2-3"},
    a.joins(),
    a.leaves(),
    a.joins(0, keep=True),
)
row("clean discards the session", {V311: "3.2.2-1 3.1.2-6 3.1.4-3", V5: "3.2.2-2 3.1.2-4 3.1.4-4"},
    a.joins(keep=True), a.leaves(), a.joins(0), a.leaves(), a.joins(0, keep=True))  # fmt: skip
row("clean discards the subscriptions", {OLD: "3.1.2-6", V5: "3.1.2-4"},
    listens(1, keep=True), b.leaves(), b.joins(0), b.leaves(), b.joins(0, keep=True), a.joins(), publishes(1, "1"),
    b.gets_nothing())  # fmt: skip
row("clean discards the queued messages", {OLD: "3.1.2-6", V5: "3.1.2-4"},
    listens(1, keep=True), b.leaves(), a.joins(), publishes(1, "1"), b.joins(0), b.gets_nothing(), b.leaves(),
    b.joins(0, keep=True), b.gets_nothing())  # fmt: skip
row("sessions belong to client ids", {V311: "3.1.3-2", V5: "3.1.3-2"},
    a.joins(keep=True), a.leaves(), b.joins(0, keep=True), a.joins(1, keep=True))  # fmt: skip
row("a refused CONNECT has no session present", {V311: "3.2.2-4 3.2.2-5", V5: "3.2.2-6 3.2.2-7"},
    a.joins(keep=True), a.leaves(), a.sends(lambda run: REFUSED[run.version]), a.closed(1, 0x84, 0x8C, 0x87))  # fmt: skip

# Subscriptions and queued messages.
row("subscriptions are kept", {OLD: "3.1.2-4", V5: "3.1.2-5"},
    listens(keep=True), b.leaves(), b.joins(1, keep=True), a.joins(), publishes(0, "1"), b.gets(Publish(TOPIC, "1")))  # fmt: skip
row("unsubscribing is kept", {OLD: "3.10.4-2 3.1.2-4", V5: "3.10.4-2 3.1.2-5"},
    listens(1, keep=True), b.sends(unsubscribe(2, TOPIC)), b.gets(Unsuback(2, 0)), b.leaves(), a.joins(), publishes(1, "1"),
    b.joins(1, keep=True), b.gets_nothing())  # fmt: skip
for qos in (1, 2):
    row(f"QoS {qos} messages are queued for a session that is away", {OLD: "3.1.2-5 4.5.0-1", V5: "3.1.2-23 4.5.0-1"},
        listens(qos, keep=True), b.leaves(), a.joins(), publishes(qos, "1", "2", "3"), b.joins(1, keep=True),
        b.gets(*(Publish(TOPIC, text, qos=qos, pid=text) for text in "123")))  # fmt: skip
    row(f"queued QoS {qos} messages come once", {OLD: "3.1.2-5", V5: "3.1.2-23"},
        listens(qos, keep=True), b.drops(), a.joins(), publishes(qos, "1"), b.joins(1, keep=True), takes(qos, "1"),
        b.gets_nothing(), b.drops(), b.joins(1, keep=True), b.gets_nothing())  # fmt: skip
    row(f"an unacknowledged QoS {qos} message is sent again, with DUP and its packet id",
        {OLD: "4.4.0-1 3.3.1-1", V5: "4.4.0-1 3.3.1-1" if qos == 1 else "4.4.0-1 3.3.1-1 4.3.3-3"},
        listens(qos, keep=True), a.joins(), publishes(qos, "1"), b.gets(Publish(TOPIC, "1", qos=qos, pid="1")), b.drops(),
        b.joins(1, keep=True), takes(qos, "1", dup=True), b.gets_nothing())  # fmt: skip
    row(f"an unacknowledged QoS {qos} message is sent again after DISCONNECT too", {OLD: "4.4.0-1", V5: "4.4.0-1"},
        listens(qos, keep=True), a.joins(), publishes(qos, "1"), b.gets(Publish(TOPIC, "1", qos=qos, pid="1")), b.leaves(),
        b.joins(1, keep=True), takes(qos, "1", dup=True), b.gets_nothing())  # fmt: skip
    row(f"unacknowledged QoS {qos} messages are sent again in their order, and new ones behind",
        {OLD: "4.6.0-1 4.4.0-1", V5: "4.6.0-1 4.4.0-1"},
        listens(qos, keep=True), a.joins(), publishes(qos, "1", "2", "3"),
        b.gets(*(Publish(TOPIC, text, qos=qos, pid=text) for text in "123")), b.leaves(), publishes(qos, "4"),
        b.joins(1, keep=True), b.gets(*(Publish(TOPIC, text, qos=qos, pid=text, dup=True) for text in "123"),
        Publish(TOPIC, "4", qos=qos)))  # fmt: skip
    row(f"an acknowledged QoS {qos} message is not sent again", {OLD: "4.3.2-1" if qos == 1 else "4.3.3-1", V5: "4.3.2-3" if qos == 1 else "4.3.3-5"},
        listens(qos, keep=True), a.joins(), publishes(qos, "1", "2"),
        b.gets(*(Publish(TOPIC, text, qos=qos, pid=text) for text in "12")),
        b.sends(puback("1")) if qos == 1 else b.sends(pubrec("1")) + b.gets(Pubrel("1")) + b.sends(pubcomp("1")),
        b.gets_nothing(), b.drops(), b.joins(1, keep=True), takes(qos, "2", dup=True), b.gets_nothing())  # fmt: skip
    row(f"a QoS {qos} message sent again twice keeps its packet id", {OLD: "4.4.0-1", V5: "4.4.0-1"},
        listens(qos, keep=True), a.joins(), publishes(qos, "1"), b.gets(Publish(TOPIC, "1", qos=qos, pid="1")), b.drops(),
        b.joins(1, keep=True), b.gets(Publish(TOPIC, "1", qos=qos, pid="1", dup=True)), b.drops(),
        b.joins(1, keep=True), takes(qos, "1", dup=True))  # fmt: skip
row("an unacknowledged PUBREL is sent again, and PUBLISH is not", {OLD: "4.4.0-1 4.3.3-1", V5: "4.4.0-1 4.3.3-6"},
    listens(2, keep=True), a.joins(), publishes(2, "1"), b.gets(Publish(TOPIC, "1", qos=2, pid="1")), b.sends(pubrec("1")),
    b.gets(Pubrel("1")), b.drops(), b.joins(1, keep=True), b.gets(Pubrel("1")), b.sends(pubcomp("1")), b.gets_nothing(),
    b.drops(), b.joins(1, keep=True), b.gets_nothing())  # fmt: skip
row("QoS 0 messages wait for nobody, or are queued; the next QoS 1 message comes", {OLD: "3.1.2-5", V5: "4.5.0-1"},
    listens(1, keep=True), b.leaves(), a.joins(), publishes(1, "1"), b.joins(1, keep=True), takes(1, "1"))  # fmt: skip
row("a clean session's unacknowledged messages are forgotten", {OLD: "3.1.2-6", V5: "3.1.2-4"},
    listens(1), a.joins(), publishes(1, "1"), b.gets(Publish(TOPIC, "1", qos=1)), b.drops(), b.joins(0, keep=True),
    b.gets_nothing())  # fmt: skip
row("a queue of 50 messages keeps its order", {OLD: "4.6.0-6", V5: "4.6.0-5"},
    listens(1, keep=True), b.leaves(), a.joins(), publishes(1, *(f"{i}" for i in range(50))), b.joins(1, keep=True),
    *[takes(1, f"{i}") for i in range(50)], b.gets_nothing())  # fmt: skip
row("a queued message keeps its QoS below the subscription's", {OLD: "3.8.4-6", V5: "3.8.4-8"},
    listens(2, keep=True), b.leaves(), a.joins(), publishes(1, "1"), b.joins(1, keep=True), takes(1, "1"))  # fmt: skip
row("queued messages have their properties", {V5: "3.3.2-17 3.3.2-20"},
    listens(1, keep=True), b.leaves(), a.joins(),
    a.sends(publish(TOPIC, qos=1, props={"content_type": "c", "user": [("k", "v"), ("a", "b")]})), a.gets(Puback(1)),
    b.joins(1, keep=True), b.gets(Publish(TOPIC, qos=1, content_type="c", user=[("k", "v"), ("a", "b")])))  # fmt: skip
row("a message that was sent does not expire", {V5: "4.3.3-7"},
    listens(2, keep=True), a.joins(), a.sends(publish(TOPIC, "1", qos=2, props={"message_expiry": 1}), pubrel(1)),
    a.gets(Pubrec(1), Pubcomp(1)), b.gets(Publish(TOPIC, "1", qos=2, pid="1", message_expiry=lambda value: value in (0, 1))),
    b.drops(), b.waits(2.2), b.joins(1, keep=True),
    b.gets(Publish(TOPIC, "1", qos=2, pid="1", dup=True, message_expiry=lambda value: True)),
    mosquitto="forgets it")  # fmt: skip

# Session expiry, MQTT 5.
row("without a session expiry the session ends with the connection", {V5: "4.1.0-2"},
    a.joins(clean=False), a.leaves(), a.joins(0, clean=False))  # fmt: skip
row("a session expiry of 0 ends the session with the connection", {V5: "4.1.0-2"},
    a.joins(clean=False, props={"session_expiry": 0}), a.drops(), a.joins(0, clean=False))  # fmt: skip
row("clean start and a session expiry: the new session is kept", {V5: "3.1.2-4 3.1.2-23"},
    a.joins(clean=True, props={"session_expiry": 60}), a.leaves(), a.joins(1, clean=False))  # fmt: skip
row("a session expires", {V5: "4.1.0-2"},
    a.joins(clean=False, props={"session_expiry": 1}), a.leaves(), a.waits(2.5), a.joins(0, clean=False),
    mosquitto="sometimes later: it looks every five seconds")  # fmt: skip
row("an expired session's messages are gone", {V5: "4.1.0-2"},
    listens(1, clean=False, props={"session_expiry": 1}), b.leaves(), a.joins(), publishes(1, "1"), a.waits(2.5),
    b.joins(0, clean=False), b.gets_nothing(),
    mosquitto="sometimes later: it looks every five seconds")  # fmt: skip
row("a session does not expire while it is connected", {V5: "4.1.0-1"},
    a.joins(clean=False, props={"session_expiry": 1}), a.waits(2.5), a.gets_nothing(), a.drops(), a.joins(1, clean=False))  # fmt: skip
row("a session expiry of 0xFFFFFFFF is for ever", {V5: "3.1.2-23"},
    a.joins(clean=False, props={"session_expiry": 0xFFFFFFFF}), a.leaves(), a.waits(1.0), a.joins(1, clean=False))  # fmt: skip
row("DISCONNECT may shorten the session expiry", {V5: "4.1.0-2"},
    a.joins(clean=False, props={"session_expiry": 60}), a.leaves(disconnect(0, {"session_expiry": 0})), a.joins(0, clean=False))  # fmt: skip
row("DISCONNECT may lengthen the session expiry", {V5: "3.1.2-23"},
    a.joins(clean=False, props={"session_expiry": 1}), a.leaves(disconnect(0, {"session_expiry": 60})), a.waits(2.5),
    a.joins(1, clean=False))  # fmt: skip
row("DISCONNECT may not give a session to who asked for none", {V5: "4.13.1-1"},
    a.joins(clean=False), a.sends(disconnect(0, {"session_expiry": 60})), a.closed(0x82), a.joins(0, clean=False))  # fmt: skip
row("a new connection brings its own session expiry", {V5: "4.1.0-2"},
    a.joins(clean=False, props={"session_expiry": 60}), a.leaves(), a.joins(1, clean=False), a.leaves(), a.joins(0, clean=False))  # fmt: skip
