"""PUBACK, PUBREC, PUBREL and PUBCOMP in every order (sections 3.4 to 3.7, 4.3 and 4.4)."""

from tests.conformance.packets import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    T,
    one_of,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    raw,
    subscribe,
)  # fmt: skip
from tests.conformance.publish_rows import listens
from tests.conformance.script import V5, V31, V311, Steps, Table, a, b

TABLE = Table(2000)
row = TABLE.row
ALL = (V31, V311, V5)
OLD = (V31, V311)
BOTH = (V311, V5)
TOPIC = f"{T}/t"
EITHER = one_of(0x00, 0x92)


def message(qos: int, text: str = "x", pid: int = 1, dup: bool = False) -> Steps:
    return a.sends(publish(TOPIC, text, qos=qos, pid=pid, dup=dup))


# From the client: QoS 1.
row("a QoS 1 message is delivered once it is acknowledged", {OLD: "4.3.2-2", V5: "4.3.2-4"},
    listens(), a.joins(), message(1, "1"), a.gets(Puback(1)), b.gets(Publish(TOPIC, "1")), b.gets_nothing())  # fmt: skip
row("a packet id is free after PUBACK", {OLD: "4.3.2-2", V5: "4.3.2-5"},
    listens(), a.joins(), message(1, "1"), a.gets(Puback(1)), message(1, "2"), a.gets(Puback(1)),
    b.gets(Publish(TOPIC, "1"), Publish(TOPIC, "2")))  # fmt: skip
row("after PUBACK the same packet with DUP is a new message", {OLD: "4.3.2-2", V5: "4.3.2-5"},
    listens(), a.joins(), message(1), a.gets(Puback(1)), message(1, dup=True), a.gets(Puback(1)),
    b.gets(Publish(TOPIC), Publish(TOPIC)))  # fmt: skip
row("PUBACKs come in the order of the PUBLISHes", {OLD: "4.6.0-2", V5: "4.6.0-2"},
    a.joins(), a.sends(*(publish(TOPIC, qos=1, pid=pid) for pid in (5, 3, 9, 1))),
    a.gets(Puback(5), Puback(3), Puback(9), Puback(1)))  # fmt: skip
row("PUBRECs and PUBCOMPs come in order", {ALL: "4.6.0-3"},
    a.joins(), a.sends(*(publish(TOPIC, qos=2, pid=pid) for pid in (5, 3, 9))), a.gets(Pubrec(5), Pubrec(3), Pubrec(9)),
    a.sends(pubrel(5), pubrel(3), pubrel(9)), a.gets(Pubcomp(5), Pubcomp(3), Pubcomp(9)))  # fmt: skip
row("QoS 1 messages are delivered in order", {OLD: "4.6.0-6", V5: "4.6.0-5"},
    listens(1), a.joins(), a.sends(*(publish(TOPIC, f"{i}", qos=1, pid=i) for i in range(1, 11))),
    a.gets(*(Puback(i) for i in range(1, 11))),
    *[b.gets(Publish(TOPIC, f"{i}", qos=1, pid=f"{i}")) + b.sends(puback(f"{i}")) for i in range(1, 11)])  # fmt: skip
row("QoS 2 messages are delivered in order", {OLD: "4.6.0-6", V5: "4.6.0-5"},
    listens(2), a.joins(),
    *[a.sends(publish(TOPIC, f"{i}", qos=2, pid=i)) + a.gets(Pubrec(i)) + a.sends(pubrel(i)) + a.gets(Pubcomp(i))
      for i in range(1, 6)],
    b.gets(*(Publish(TOPIC, f"{i}", qos=2, pid=f"{i}") for i in range(1, 6))))  # fmt: skip

# From the client: QoS 2.
row("a QoS 2 message is delivered once", {OLD: "4.3.3-2", V5: "4.3.3-8 4.3.3-11"},
    listens(), a.joins(), message(2), a.gets(Pubrec(1)), a.sends(pubrel(1)), a.gets(Pubcomp(1)),
    b.gets(Publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("the same packet before PUBREL is acknowledged again and delivered once", {OLD: "4.3.3-2", V5: "4.3.3-10"},
    listens(), a.joins(), message(2), a.gets(Pubrec(1)), message(2, dup=True), a.gets(Pubrec(1)),
    a.sends(pubrel(1)), a.gets(Pubcomp(1)), b.gets(Publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("the same packet three times in one segment is delivered once", {OLD: "4.3.3-2", V5: "4.3.3-10"},
    listens(), a.joins(), a.sends(*[publish(TOPIC, qos=2, dup=bool(i)) for i in range(3)]), a.gets(*[Pubrec(1)] * 3),
    a.sends(pubrel(1)), a.gets(Pubcomp(1)), b.gets(Publish(TOPIC)), b.gets_nothing(),
    mosquitto="closes when it comes for the third time")  # fmt: skip
row("the whole exchange in one segment", {OLD: "4.3.3-2", V5: "4.3.3-11"},
    listens(), a.joins(), a.sends(publish(TOPIC, qos=2), pubrel(1)), a.gets(Pubrec(1), Pubcomp(1)), b.gets(Publish(TOPIC)))  # fmt: skip
row("after PUBCOMP the packet id is a new message's", {OLD: "4.3.3-2", V5: "4.3.3-12"},
    listens(), a.joins(),
    *[message(2, text) + a.gets(Pubrec(1)) + a.sends(pubrel(1)) + a.gets(Pubcomp(1)) for text in "12"],
    b.gets(Publish(TOPIC, "1"), Publish(TOPIC, "2")))  # fmt: skip
row("after PUBCOMP the same packet with DUP is a new message", {OLD: "4.3.3-2", V5: "4.3.3-12"},
    listens(), a.joins(),
    *[message(2, dup=dup) + a.gets(Pubrec(1)) + a.sends(pubrel(1)) + a.gets(Pubcomp(1)) for dup in (False, True)],
    b.gets(Publish(TOPIC), Publish(TOPIC)))  # fmt: skip
row("PUBREL again is answered again", {OLD: "4.3.3-2", V5: "4.3.3-11"},
    a.joins(), message(2), a.gets(Pubrec(1)), a.sends(pubrel(1)), a.gets(Pubcomp(1)),
    a.sends(pubrel(1)), a.gets(Pubcomp(1, EITHER)))  # fmt: skip
row("PUBREL of an unknown packet id is answered", {OLD: "4.3.3-2", V5: "4.3.3-11 3.7.2-1"},
    a.joins(), a.sends(pubrel(77)), a.gets(Pubcomp(77, EITHER)), a.gets_nothing())  # fmt: skip
row("an exchange goes on when its message has expired", {V5: "4.3.3-13"},
    a.joins(), a.sends(publish(TOPIC, qos=2, props={"message_expiry": 1})), a.gets(Pubrec(1)), a.waits(2.0), a.sends(pubrel(1)),
    a.gets(Pubcomp(1)))  # fmt: skip
row("several QoS 2 exchanges cross each other", {OLD: "2.3.1-6 4.3.3-2", V5: "2.2.1-5 4.3.3-11"},
    listens(), a.joins(), a.sends(publish(TOPIC, "1", qos=2, pid=1), publish(TOPIC, "2", qos=2, pid=2)),
    a.gets(Pubrec(1), Pubrec(2)), a.sends(pubrel(2)), a.gets(Pubcomp(2)), a.sends(pubrel(1)), a.gets(Pubcomp(1)),
    b.gets_any(Publish(TOPIC, "1"), Publish(TOPIC, "2")), b.gets_nothing())  # fmt: skip
row("a QoS 2 exchange goes on after a reconnect", {OLD: "4.3.3-2 4.4.0-1", V5: "4.3.3-10 4.4.0-1"},
    listens(), a.joins(keep=True), message(2), a.gets(Pubrec(1)), a.drops(), a.joins(1, keep=True),
    message(2, dup=True), a.gets(Pubrec(1)), a.sends(pubrel(1)), a.gets(Pubcomp(1)),
    b.gets(Publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("PUBREL after a reconnect completes the exchange", {OLD: "4.3.3-2", V5: "4.3.3-11"},
    listens(), a.joins(keep=True), message(2), a.gets(Pubrec(1)), a.drops(), a.joins(1, keep=True),
    a.sends(pubrel(1)), a.gets(Pubcomp(1)), b.gets(Publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("a clean session forgets half an exchange", {OLD: "3.1.2-6", V5: "3.1.2-4"},
    a.joins(keep=True), message(2, "1"), a.gets(Pubrec(1)), a.drops(), a.joins(), listens(),
    message(2, "2"), a.gets(Pubrec(1)), a.sends(pubrel(1)), a.gets(Pubcomp(1)), b.gets(Publish(TOPIC, "2")))  # fmt: skip
row("QoS 1 and QoS 2 ids are one space of numbers", {OLD: "2.3.1-6", V5: "2.2.1-5"},
    a.joins(), a.sends(publish(TOPIC, qos=1, pid=1), publish(TOPIC, qos=2, pid=2)), a.gets(Puback(1), Pubrec(2)),
    a.sends(pubrel(2)), a.gets(Pubcomp(2)))  # fmt: skip

# To the client.
PUBLISHED = a.joins() + message(2) + a.gets(Pubrec(1)) + a.sends(pubrel(1)) + a.gets(Pubcomp(1))
row("packet ids of the server are not 0 and not in use", {OLD: "2.3.1-4 4.3.2-1", V5: "2.2.1-4 4.3.2-1"},
    listens(1), a.joins(), a.sends(*(publish(TOPIC, f"{i}", qos=1, pid=i) for i in (1, 2))), a.gets(Puback(1), Puback(2)),
    b.gets(Publish(TOPIC, "1", qos=1, pid="m"), Publish(TOPIC, "2", qos=1, pid="n")),
    b.sends(puback("n"), puback("m")), b.gets_nothing())  # fmt: skip
row("PUBREC is answered with PUBREL of its packet id", {OLD: "4.3.3-1", V5: "4.3.3-4"},
    listens(2), PUBLISHED, b.gets(Publish(TOPIC, qos=2, pid="m")), b.sends(pubrec("m")), b.gets(Pubrel("m")),
    b.sends(pubcomp("m")), b.gets_nothing())  # fmt: skip
row("nothing is sent again while the connection lasts", {V311: "4.4.0-1", V5: "4.4.0-1"},
    listens(2), PUBLISHED, b.gets(Publish(TOPIC, qos=2, pid="m")), b.gets_nothing(), b.waits(1.5), b.gets_nothing(),
    b.sends(pubrec("m")), b.gets(Pubrel("m")), b.waits(1.0), b.gets_nothing())  # fmt: skip
row("PUBREC again is answered with PUBREL again, not with PUBLISH", {OLD: "4.3.3-1", V5: "4.3.3-4 4.3.3-6"},
    listens(2), PUBLISHED, b.gets(Publish(TOPIC, qos=2, pid="m")), b.sends(pubrec("m")), b.gets(Pubrel("m")),
    b.sends(pubrec("m")), b.gets(Pubrel("m")), b.sends(pubcomp("m")), b.gets_nothing())  # fmt: skip
row("PUBREC with an error ends the exchange", {V5: "4.3.3-4 4.4.0-2"},
    listens(2), PUBLISHED, b.gets(Publish(TOPIC, qos=2, pid="m")), b.sends(pubrec("m", 0x80)), b.gets_nothing())  # fmt: skip
row("a message refused with PUBREC is not sent again", {V5: "4.4.0-2"},
    listens(2, keep=True), PUBLISHED, b.gets(Publish(TOPIC, qos=2, pid="m")), b.sends(pubrec("m", 0x97)), b.gets_nothing(),
    b.drops(), b.joins(1, keep=True), b.gets_nothing())  # fmt: skip
row("a message refused with PUBACK is not sent again", {V5: "4.4.0-2"},
    listens(1, keep=True), PUBLISHED, b.gets(Publish(TOPIC, qos=1, pid="m")), b.sends(puback("m", 0x83)), b.gets_nothing(),
    b.drops(), b.joins(1, keep=True), b.gets_nothing())  # fmt: skip
row("acknowledgements with a reason and user properties are read", {V5: "3.4.2-1 3.5.2-1 3.7.2-1"},
    listens(2), PUBLISHED, b.gets(Publish(TOPIC, qos=2, pid="m")),
    b.sends(pubrec("m", 0x10, {"reason_string": "r", "user": [("a", "b")]})), b.gets(Pubrel("m")),
    b.sends(pubcomp("m", 0, {"reason_string": "r"})), b.gets_nothing())  # fmt: skip
row("acknowledgements with a code and empty properties are read", {V5: "2.2.2-1"},
    listens(1), PUBLISHED, b.gets(Publish(TOPIC, qos=1, pid="m")), b.sends(puback("m", 0, {})), b.gets_nothing(),
    a.sends(publish(TOPIC, qos=2)), a.gets(Pubrec(1)), a.sends(pubrel(1, 0, {})), a.gets(Pubcomp(1)))  # fmt: skip
row("PUBREL with 'packet identifier not found' is answered", {V5: "3.6.2-1"},
    a.joins(), message(2), a.gets(Pubrec(1)), a.sends(pubrel(1, 0x92)), a.gets(Pubcomp(1, EITHER)))  # fmt: skip

# The answer to another message than the one in flight: out of order, and the exchange is as it was for the next connection.
for title, qos, wrong in (
    ("PUBREC of a QoS 1 message", 1, pubrec("m")),
    ("PUBCOMP of a QoS 1 message", 1, pubcomp("m")),
    ("PUBACK of a QoS 2 message", 2, puback("m")),
    ("PUBCOMP before PUBREC", 2, pubcomp("m")),
):
    row(f"{title} closes the connection", {OLD: "4.8.0-1", V5: "4.13.1-1"},
        listens(qos), PUBLISHED, b.gets(Publish(TOPIC, qos=qos, pid="m")), b.sends(wrong), b.closed(0x82), a.gets_nothing())  # fmt: skip
    row(f"{title} acknowledges nothing", {V311: "4.4.0-1", V5: "4.4.0-1"},
        listens(qos, keep=True), PUBLISHED, b.gets(Publish(TOPIC, qos=qos, pid="m")), b.sends(wrong), b.closed(0x82),
        b.joins(1, keep=True), b.gets(Publish(TOPIC, qos=qos, pid="m", dup=True)))  # fmt: skip
row("PUBACK for PUBREL closes the connection", {OLD: "4.8.0-1", V5: "4.13.1-1"},
    listens(2), PUBLISHED, b.gets(Publish(TOPIC, qos=2, pid="m")), b.sends(pubrec("m")), b.gets(Pubrel("m")),
    b.sends(puback("m")), b.closed(0x82), a.gets_nothing())  # fmt: skip

# The acknowledgement comes before the message itself to a client that sends to itself.
row("PUBACK comes before the message that comes back", {ALL: "4.6.0-2"},
    a.joins(), a.sends(subscribe(7, (TOPIC, 1))), a.gets(Suback(7, 1)), message(1, pid=300),
    a.gets(Puback(300), Publish(TOPIC, qos=1, pid="m")),
    mosquitto="sends the message first")  # fmt: skip
row("PUBREC comes before the message that comes back", {ALL: "4.6.0-3"},
    a.joins(), a.sends(subscribe(7, (TOPIC, 2))), a.gets(Suback(7, 2)), message(2, pid=300),
    a.gets(Pubrec(300)), a.sends(pubrel(300)), a.gets_any(Publish(TOPIC, qos=2, pid="m"), Pubcomp(300)))  # fmt: skip

# Acknowledgements of nothing: some servers close, some pass over them; nobody else may be hurt.
row("PUBACK of nothing is passed over", {OLD: "4.8.0-1", V5: "4.13.1-1"},
    a.joins(), a.sends(puback(99)), a.gets_nothing())  # fmt: skip
row("PUBCOMP of nothing is passed over", {OLD: "4.8.0-1", V5: "4.13.1-1"},
    a.joins(), a.sends(pubcomp(99)), a.gets_nothing())  # fmt: skip
row("PUBREC of nothing is answered with PUBREL", {OLD: "4.3.3-1"},
    a.joins(), a.sends(pubrec(99)), a.gets(Pubrel(99)), a.gets_nothing())  # fmt: skip
row("PUBREC of nothing is answered with 'packet identifier not found'", {V5: "4.3.3-4 3.6.2-1"},
    a.joins(), a.sends(pubrec(99)), a.gets(Pubrel(99, EITHER)), a.gets_nothing())  # fmt: skip

# Malformed ones.
for title, first in {"PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70}.items():
    flags_unseen = "" if title == "PUBREL" else "does not look at the flags"
    wrong_flags = "3.6.1-1" if title == "PUBREL" else ""
    row(f"{title} with wrong flags closes the connection",
        {V311: wrong_flags or "2.2.2-1 2.2.2-2", V5: wrong_flags or "2.1.3-1"},
        a.joins(), a.sends(bytes([first ^ 2, 2, 0, 1])), a.closed(0x81, 0x82), mosquitto=flags_unseen)  # fmt: skip
    row(f"{title} with DUP closes the connection", {V311: wrong_flags or "2.2.2-1 2.2.2-2", V5: wrong_flags or "2.1.3-1"},
        a.joins(), a.sends(bytes([first ^ 8, 2, 0, 1])), a.closed(0x81, 0x82), mosquitto=flags_unseen)  # fmt: skip
    row(f"{title} of one byte closes the connection", {V311: "4.8.0-1", V5: "4.13.1-1"},
        a.joins(), a.sends(bytes([first, 1, 0])), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} of nothing at all closes the connection", {V311: "4.8.0-1", V5: "4.13.1-1"},
        a.joins(), a.sends(bytes([first, 0])), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} of three bytes closes the connection", {V311: "4.8.0-1"},
        a.joins(), a.sends(bytes([first, 3, 0, 1, 0])), a.closed(),
        mosquitto="does not look behind the packet id")  # fmt: skip
    row(f"{title} with packet id 0 closes the connection", {V311: "2.3.1-1", V5: "2.2.1-3"},
        a.joins(), a.sends(bytes([first, 2, 0, 0])), a.closed(0x81, 0x82))  # fmt: skip
    number = {"PUBACK": "3.4.2-1", "PUBREC": "3.5.2-1", "PUBREL": "3.6.2-1", "PUBCOMP": "3.7.2-1"}[title]
    row(f"{title} with a reason code that there is not closes the connection", {V5: number},
        a.joins(), a.sends(bytes([first, 3, 0, 1, 0x05])), a.closed(0x81, 0x82),
        mosquitto="takes any reason code")  # fmt: skip
    row(f"{title} with a property of PUBLISH closes the connection", {V5: "4.13.1-1"},
        a.joins(), a.sends(bytes([first, 6, 0, 1, 0, 2, 1, 0])), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with properties longer than itself closes the connection", {V5: "4.13.1-1"},
        a.joins(), a.sends(bytes([first, 4, 0, 1, 0, 9])), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with two reason strings closes the connection", {V5: "4.13.1-1"},
        a.joins(), a.sends(bytes([first, 12, 0, 1, 0, 8]) + raw('1f 00 01 "a" 1f 00 01 "b"')), a.closed(0x81, 0x82))  # fmt: skip

row("subscribing does not disturb an exchange", {ALL: "4.5.0-1"},
    listens(2), PUBLISHED, b.gets(Publish(TOPIC, qos=2, pid="m")), b.sends(subscribe(2, f"{T}/u")), b.gets(Suback(2, 0)),
    b.sends(pubrec("m")), b.gets(Pubrel("m")))  # fmt: skip
