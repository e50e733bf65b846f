"""What MQTT 5 lets the two sides limit: receive maximum, packet size, topic aliases, problem information; sharing.

Limits of the server are taken from its CONNACK; a row that is about one needs it to be announced.
"""

from tests.conformance.packets import (
    Absent,
    Encoder,
    Expected,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Run,
    Suback,
    T,
    Unsuback,
    connect,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    subscribe,
    unsubscribe,
)  # fmt: skip
from tests.conformance.publish_rows import listens
from tests.conformance.script import V5, V31, V311, Steps, Table, a, b, c, d
from tests.conformance.wire import size

TABLE = Table(7000)
row = TABLE.row
OLD = (V31, V311)
TOPIC = f"{T}/t"


def many(qos: int, count: int) -> Steps:
    """a publishes 1, 2, 3 ...; all of them are the broker's at the end."""
    steps: Steps = ()
    for i in range(1, count + 1):
        steps += a.sends(publish(TOPIC, f"{i}", qos=qos, pid=i))
        steps += (
            a.gets(Puback(i)) if qos == 1 else a.gets(Pubrec(i)) + a.sends(pubrel(i)) + a.gets(Pubcomp(i))
        )
    return steps


def one(qos: int, number: int) -> Steps:
    return b.gets(Publish(TOPIC, f"{number}", qos=qos, pid=f"{number}"))


# The client's receive maximum.
for limit in (1, 3):
    row(f"no more than {limit} QoS 1 messages are unacknowledged", {V5: "3.3.4-9 4.9.0-2"},
        listens(1, props={"receive_maximum": limit}), a.joins(), many(1, 6), *[one(1, i) for i in range(1, limit + 1)],
        b.gets_nothing(), *[b.sends(puback(f"{i - limit}")) + one(1, i) + b.gets_nothing() for i in range(limit + 1, 7)],
        mosquitto="sends two for one that is acknowledged" if limit > 1 else "")  # fmt: skip
    row(f"no more than {limit} QoS 2 messages are unacknowledged", {V5: "3.3.4-9 4.9.0-2"},
        listens(2, props={"receive_maximum": limit}), a.joins(), many(2, 5), *[one(2, i) for i in range(1, limit + 1)],
        b.gets_nothing(), b.sends(pubrec("1")), b.gets(Pubrel("1")), b.gets_nothing(), b.sends(pubcomp("1")),
        one(2, limit + 1), b.gets_nothing(),
        mosquitto="sends two for one that is completed" if limit > 1 else "")  # fmt: skip
row("PUBREC with an error makes room for another message", {V5: "3.3.4-9"},
    listens(2, props={"receive_maximum": 1}), a.joins(), many(2, 2), one(2, 1), b.gets_nothing(), b.sends(pubrec("1", 0x80)),
    one(2, 2), b.gets_nothing())  # fmt: skip
row("QoS 0 messages are not held back by the receive maximum", {V5: "4.9.0-2"},
    b.joins(props={"receive_maximum": 1}), b.sends(subscribe(1, (TOPIC, 1), f"{T}/u")), b.gets(Suback(1, 1, 0)), a.joins(),
    many(1, 2), a.sends(publish(f"{T}/u")), one(1, 1), b.gets(Publish(f"{T}/u")), b.gets_nothing())  # fmt: skip
row("other packets are not held back by the receive maximum", {V5: "3.3.4-10 4.9.0-3"},
    listens(1, props={"receive_maximum": 1}), a.joins(), many(1, 2), one(1, 1), b.gets_nothing(),
    b.sends(subscribe(2, f"{T}/u"), unsubscribe(3, f"{T}/u")), b.gets(Suback(2, 0), Unsuback(3, 0)), b.gets_nothing())  # fmt: skip
row("a client that may not receive still publishes", {V5: "4.9.0-3"},
    listens(1, props={"receive_maximum": 1}), a.joins(), many(1, 2), one(1, 1), b.sends(publish(f"{T}/u", qos=1, pid=9)),
    b.gets(Puback(9)))  # fmt: skip
row("messages are sent again within the receive maximum of the new connection", {V5: "3.3.4-9 4.4.0-1"},
    listens(1, clean=False, props={"receive_maximum": 2, "session_expiry": 60}), a.joins(), many(1, 3), one(1, 1), one(1, 2),
    b.gets_nothing(), b.drops(), b.joins(1, clean=False, props={"receive_maximum": 1}),
    b.gets(Publish(TOPIC, "1", qos=1, pid="1", dup=True)), b.gets_nothing(), b.sends(puback("1")),
    b.gets(Publish(TOPIC, "2", qos=1, pid="2", dup=True)), b.gets_nothing(), b.sends(puback("2")), one(1, 3),
    mosquitto="sends both")  # fmt: skip


# The server's.
def unreleased(more: int) -> Encoder:
    """As many QoS 2 messages as the server takes at a time, and some more."""

    def encode(run: Run) -> bytes:
        count = run.said["receive_maximum"] + more
        return b"".join(publish(TOPIC, qos=2, pid=pid)(run) for pid in range(1, count + 1))

    return encode


row("more unacknowledged messages than the server's receive maximum close the connection", {V5: "3.3.4-7 4.13.1-1"},
    a.joins(), a.needs("receive_maximum"), a.sends(unreleased(1)), a.gets_each("receive_maximum", Pubrec), a.told(0x93),
    mosquitto="answers with PUBREC 0x97")  # fmt: skip
row("as many unacknowledged messages as the server's receive maximum are taken", {V5: "4.9.0-1"},
    a.joins(), a.needs("receive_maximum"), a.sends(unreleased(0)), a.gets_each("receive_maximum", Pubrec), a.gets_nothing())  # fmt: skip

# Maximum packet size of the client.
BIG = "z" * 100
row("a packet larger than the client takes is not sent; the next one is", {V5: "3.1.2-24 3.1.2-25"},
    listens(0, props={"maximum_packet_size": 60}), a.joins(), a.sends(publish(TOPIC, BIG), publish(TOPIC, "small")),
    b.gets(Publish(TOPIC, "small")), b.gets_nothing())  # fmt: skip
for qos in (1, 2):
    row(f"a QoS {qos} packet larger than the client takes counts as delivered", {V5: "3.1.2-24 3.1.2-25"},
        listens(qos, props={"maximum_packet_size": 60, "receive_maximum": 1}), a.joins(),
        a.sends(publish(TOPIC, BIG, qos=qos, pid=8)),
        a.gets(Puback(8)) if qos == 1 else a.gets(Pubrec(8)) + a.sends(pubrel(8)) + a.gets(Pubcomp(8)), many(qos, 1),
        one(qos, 1), b.gets_nothing(),
        mosquitto="keeps its place in flight")  # fmt: skip
# Fixed header 2, topic 2 + 8, properties 1, payload: exactly 60 bytes.
row("a packet exactly as large as the client takes is sent", {V5: "3.1.2-24"},
    listens(0, props={"maximum_packet_size": 60}), a.joins(), a.sends(publish(TOPIC, "y" * 48), publish(TOPIC, "y" * 47)),
    b.gets(Publish(TOPIC, "y" * 47)), b.gets_nothing(),
    mosquitto="does not count the first byte")  # fmt: skip
row("a large packet reaches the others", {V5: "3.1.2-25"},
    listens(0, props={"maximum_packet_size": 60}), listens(who=c), a.joins(), a.sends(publish(TOPIC, BIG)),
    c.gets(Publish(TOPIC, BIG)), b.gets_nothing())  # fmt: skip
row("user properties count for the packet size", {V5: "3.1.2-24 3.3.2-17"},
    listens(0, props={"maximum_packet_size": 60}), a.joins(), a.sends(publish(TOPIC, props={"user": [("k", "v" * 60)]})),
    a.gets_nothing(), b.gets_nothing())  # fmt: skip
row("a retained message larger than the client takes is not sent", {V5: "3.1.2-24"},
    a.joins(), a.sends(publish(TOPIC, BIG, retain=True)), a.gets_nothing(), listens(0, props={"maximum_packet_size": 60}),
    b.gets_nothing())  # fmt: skip
row("CONNACK fits into a small maximum packet size, or the server closes", {V5: "3.2.2-19 3.2.2-20 3.1.2-24"},
    a.joins(props={"maximum_packet_size": 30}), a.gets_nothing())  # fmt: skip
row("a client that takes no CONNACK at all gets none", {V5: "3.1.2-24"},
    a.sends(connect(a.id, props={"maximum_packet_size": 4})), a.closed_silently())  # fmt: skip
row("a client that does not take a CONNACK with what it has to say gets none", {V5: "3.1.2-24"},
    a.sends(connect("", props={"maximum_packet_size": 12})), a.closed_silently())  # fmt: skip
row("acknowledgements fit into a small maximum packet size",
    {V5: "3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.7.2-2 3.7.2-3 3.9.2-1 3.9.2-2 3.11.2-1 3.11.2-2"},
    a.joins(props={"maximum_packet_size": 30}), a.sends(subscribe(1, f"{T}/u"), unsubscribe(2, f"{T}/v")),
    a.gets(Suback(1, 0), Unsuback(2, 0x11)), a.sends(publish(TOPIC, qos=1), publish(TOPIC, qos=2, pid=2), pubrel(2), pubrel(9)),
    a.gets(Puback(1), Pubrec(2), Pubcomp(2), Pubcomp(9, lambda code: code in (0, 0x92))))  # fmt: skip
row("PUBREL fits into a small maximum packet size", {V5: "3.6.2-2 3.6.2-3"},
    a.joins(props={"maximum_packet_size": 30}), a.sends(pubrec(9)), a.gets(Pubrel(9, lambda code: code in (0, 0x92))))  # fmt: skip
row("DISCONNECT fits into a small maximum packet size", {V5: "3.14.2-3 3.14.2-4"},
    a.joins(props={"maximum_packet_size": 30}), a.sends(publish(f"{T}/#")), a.closed(0x81, 0x82, 0x90))  # fmt: skip


# Of the server.
def oversized(run: Run) -> bytes:
    """One byte too large; of a very large one, the server has to judge by its beginning."""
    length = run.said["maximum_packet_size"] + 1
    return b"\x30" + size(length) + (b"\0\1t\0" + bytes(length - 4))[: 1 << 20]


row("a packet larger than the server takes closes the connection", {V5: "3.2.2-15 4.13.1-1"},
    a.joins(), a.needs("maximum_packet_size"), a.sends(oversized), a.closed(0x95))  # fmt: skip

# Topic aliases from the client.
ALIAS = {"topic_alias": 1}
row("a topic alias stands for its topic", {V5: "3.3.2-12"},
    listens(), a.joins(), a.needs("topic_alias_maximum"),
    a.sends(publish(TOPIC, "1", props=ALIAS), publish("", "2", props=ALIAS), publish("", "3", props=ALIAS)),
    b.gets(Publish(TOPIC, "1"), Publish(TOPIC, "2"), Publish(TOPIC, "3")))  # fmt: skip
row("a topic alias can be given to another topic", {V5: "3.3.2-12"},
    b.joins(), b.sends(subscribe(1, f"{T}/+")), b.gets(Suback(1, 0)), a.joins(), a.needs("topic_alias_maximum"),
    a.sends(publish(TOPIC, "1", props=ALIAS), publish(f"{T}/u", "2", props=ALIAS), publish("", "3", props=ALIAS)),
    b.gets(Publish(TOPIC, "1"), Publish(f"{T}/u", "2"), Publish(f"{T}/u", "3")))  # fmt: skip
for qos in (1, 2):
    row(f"a topic alias at QoS {qos}", {V5: "3.3.2-12"},
        listens(), a.joins(), a.needs("topic_alias_maximum"), a.sends(publish(TOPIC, "1", props=ALIAS)), b.gets(Publish(TOPIC, "1")),
        a.sends(publish("", "2", qos=qos, pid=7, props=ALIAS)),
        a.gets(Puback(7)) if qos == 1 else a.gets(Pubrec(7)) + a.sends(pubrel(7)) + a.gets(Pubcomp(7)), b.gets(Publish(TOPIC, "2")))  # fmt: skip
row("the largest topic alias is taken", {V5: "3.3.2-12 3.2.2-17"},
    listens(), a.joins(), a.needs("topic_alias_maximum"),
    a.sends(lambda run: publish(TOPIC, props={"topic_alias": run.said["topic_alias_maximum"]})(run)), b.gets(Publish(TOPIC)))  # fmt: skip
row("a topic alias above the server's maximum closes the connection", {V5: "3.3.2-9 3.2.2-17"},
    a.joins(), a.needs("topic_alias_maximum"),
    a.sends(lambda run: publish(TOPIC, props={"topic_alias": run.said["topic_alias_maximum"] + 1})(run)), a.closed(0x94))  # fmt: skip
row("a topic alias that stands for nothing closes the connection", {V5: "4.13.1-1"},
    a.joins(), a.needs("topic_alias_maximum"), a.sends(publish("", props={"topic_alias": 2})), a.closed(0x82, 0x94))  # fmt: skip
row("topic aliases end with their connection", {V5: "3.3.2-7"},
    a.joins(keep=True), a.needs("topic_alias_maximum"), a.sends(publish(TOPIC, props=ALIAS)), a.gets_nothing(), a.drops(),
    a.joins(1, keep=True), a.sends(publish("", props=ALIAS)), a.closed(0x82, 0x94))  # fmt: skip
row("a topic alias is its connection's own", {V5: "3.3.2-7"},
    a.joins(), a.needs("topic_alias_maximum"), a.sends(publish(TOPIC, props=ALIAS)), a.gets_nothing(), b.joins(),
    b.sends(publish("", props=ALIAS)), b.closed(0x82, 0x94), a.gets_nothing())  # fmt: skip
row("a client's topic alias is not passed on", {V5: "3.1.2-27"},
    listens(), a.joins(), a.needs("topic_alias_maximum"), a.sends(publish(TOPIC, props=ALIAS)), b.gets(Publish(TOPIC)))  # fmt: skip
row("a wildcard behind a topic alias closes the connection", {V5: "3.3.2-2"},
    a.joins(), a.needs("topic_alias_maximum"), a.sends(publish(f"{T}/#", props=ALIAS)), a.closed(0x81, 0x82, 0x90))  # fmt: skip

# To the client: the reader refuses every alias that the client did not allow, and resolves the others.
row("topic aliases are not used unasked", {V5: "3.1.2-27 3.3.2-11"},
    listens(), a.joins(), *[a.sends(publish(TOPIC, f"{i}")) + b.gets(Publish(TOPIC, f"{i}")) for i in range(5)])  # fmt: skip
for limit in (1, 3):
    row(f"up to {limit} topic aliases may be used", {V5: "3.1.2-26 3.3.2-10 3.3.2-11"},
        b.joins(props={"topic_alias_maximum": limit}), b.sends(subscribe(1, f"{T}/#")), b.gets(Suback(1, 0)), a.joins(),
        *[a.sends(publish(f"{T}/{i % 4}", f"{i}")) + b.gets(Publish(f"{T}/{i % 4}", f"{i}")) for i in range(12)])  # fmt: skip
row("messages that are sent again have their topics", {V5: "3.3.2-7 4.4.0-1"},
    listens(1, clean=False, props={"topic_alias_maximum": 5, "session_expiry": 60}), a.joins(), many(1, 2), one(1, 1), one(1, 2),
    b.drops(), b.joins(1, clean=False), b.gets(Publish(TOPIC, "1", qos=1, dup=True), Publish(TOPIC, "2", qos=1, dup=True)))  # fmt: skip

# Problem information: an expectation of these packets without reason and user properties.
row("without problem information no acknowledgement explains itself", {V5: "3.1.2-29"},
    a.joins(props={"request_problem": 0}), a.terse(), a.sends(subscribe(1, TOPIC), unsubscribe(2, f"{T}/u")),
    a.gets(Suback(1, 0), Unsuback(2, 0x11)), a.sends(publish(f"{T}/v", qos=1, pid=1), publish(f"{T}/v", qos=2, pid=2)),
    a.gets(Puback(1), Pubrec(2)), a.sends(pubrel(2), pubrel(3)), a.gets(Pubcomp(2), Pubcomp(3, lambda code: code in (0, 0x92))))  # fmt: skip
row("without problem information a message keeps its user properties", {V5: "3.1.2-29 3.3.2-17"},
    listens(props={"request_problem": 0}), a.joins(), a.sends(publish(TOPIC, props={"user": [("k", "v")]})),
    b.gets(Publish(TOPIC, user=[("k", "v")])))  # fmt: skip

# Reason strings. None is ever owed; ours has one for every refusal.
SAID = Expected(
    "Pubcomp",
    {"pid": 7, "code": 0x92},
    {"reason_string": lambda said: not isinstance(said, Absent) and b": " in said},
)
UNSAID = Expected("Pubcomp", {"pid": 7, "code": 0x92}, only=True)
row("a failure is explained in words", {V5: "3.7.2-2"},
    a.joins(), a.sends(pubrel(7)), a.gets(SAID), mosquitto="explains nothing")  # fmt: skip
row("a failure is explained in words that fit", {V5: "3.7.2-2"},
    a.joins(props={"maximum_packet_size": 200}), a.sends(pubrel(7)), a.gets(SAID), mosquitto="explains nothing")  # fmt: skip
row("a failure is not explained in words that do not fit", {V5: "3.7.2-2"},
    a.joins(props={"maximum_packet_size": 40}), a.sends(pubrel(7)), a.gets(UNSAID))  # fmt: skip
row("a failure is not explained to who wants no words", {V5: "3.1.2-29"},
    a.joins(props={"request_problem": 0}), a.sends(pubrel(7)), a.gets(UNSAID))  # fmt: skip

# Shared subscriptions.
SHARED = f"$share/g/{TOPIC}"
row("a shared subscription gets a message", {V5: "4.8.2-1 4.8.2-2"},
    listens(name=SHARED), a.joins(), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("each message goes to one of the group", {V5: "4.8.2-1"},
    listens(name=SHARED), listens(who=c, name=SHARED), a.joins(), a.sends(*(publish(TOPIC, f"{i}") for i in range(20))),
    a.gets_nothing(), b.shares(c, *(Publish(TOPIC, f"{i}") for i in range(20))))  # fmt: skip
row("two groups get a copy each", {V5: "4.8.2-1"},
    listens(name=SHARED), listens(who=c, name=f"$share/h/{TOPIC}"), a.joins(), a.sends(publish(TOPIC)),
    b.gets(Publish(TOPIC)), c.gets(Publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("others get their copy beside a group", {V5: "4.8.2-1"},
    listens(name=SHARED), listens(who=c, name=SHARED), listens(who=d), a.joins(), a.sends(publish(TOPIC)),
    d.gets(Publish(TOPIC)), d.gets_nothing(), b.shares(c, Publish(TOPIC)))  # fmt: skip
row("the members of a shared subscription take turns in the order in which they came", {V5: "4.8.2-4"},
    listens(name=SHARED), listens(who=c, name=SHARED), listens(who=d, name=SHARED), a.joins(),
    *[a.sends(publish(TOPIC, text)) + who.gets(Publish(TOPIC, text)) for text, who in zip("123123", (b, c, d) * 2, strict=True)])  # fmt: skip
row("a shared filter has wildcards", {V5: "4.8.2-2"},
    listens(name=f"$share/g/{T}/+/#"), a.joins(), a.sends(publish(f"{T}/a/b")), b.gets(Publish(f"{T}/a/b")))  # fmt: skip
row("a shared subscription respects its QoS", {V5: "4.8.2-3"},
    listens(1, name=SHARED), a.joins(), a.sends(publish(TOPIC, qos=2)), a.gets(Pubrec(1)), a.sends(pubrel(1)), a.gets(Pubcomp(1)),
    b.gets(Publish(TOPIC, qos=1, pid="m")), b.sends(puback("m")), b.gets_nothing())  # fmt: skip
row("retained messages are not sent to shared subscriptions", {V5: "3.3.1-9"},
    a.joins(), a.sends(publish(TOPIC, retain=True)), a.gets_nothing(), listens(name=SHARED), b.gets_nothing(),
    mosquitto="sends them")  # fmt: skip
row("a shared subscription is unsubscribed by its whole name", {V5: "3.10.4-1"},
    listens(name=SHARED), b.sends(unsubscribe(2, TOPIC, f"$share/h/{TOPIC}", SHARED)), b.gets(Unsuback(2, 0x11, 0x11, 0)),
    a.joins(), a.sends(publish(TOPIC)), a.gets_nothing(), b.gets_nothing())  # fmt: skip
row("a group goes on without the one that left", {V5: "4.8.2-1"},
    listens(name=SHARED), listens(who=c, name=SHARED), b.leaves(), a.joins(), a.sends(*(publish(TOPIC, f"{i}") for i in range(4))),
    c.gets(*(Publish(TOPIC, f"{i}") for i in range(4))))  # fmt: skip
row("a QoS 2 message of a group is completed by the client that it was sent to", {V5: "4.8.2-4"},
    listens(2, name=SHARED, keep=True), a.joins(), many(2, 1), one(2, 1), listens(2, who=c, name=SHARED), b.drops(), c.gets_nothing(),
    b.joins(1, keep=True), b.gets(Publish(TOPIC, "1", qos=2, pid="1", dup=True)), b.sends(pubrec("1")), b.gets(Pubrel("1")),
    b.sends(pubcomp("1")), c.gets_nothing())  # fmt: skip
for qos in (1, 2):
    row(f"a QoS {qos} message that one of the group refuses is not sent to another", {V5: "4.8.2-6"},
        listens(qos, name=SHARED), a.joins(), many(qos, 1), one(qos, 1), listens(qos, who=c, name=SHARED),
        b.sends(puback("1", 0x80) if qos == 1 else pubrec("1", 0x80)), b.gets_nothing(), c.gets_nothing())  # fmt: skip
row("a QoS 2 message of a session that ends is not sent to another", {V5: "4.8.2-5"},
    listens(2, name=SHARED), a.joins(), many(2, 1), one(2, 1), listens(2, who=c, name=SHARED), b.drops(), a.gets_nothing(),
    c.gets_nothing())  # fmt: skip
for name in ("$share/", "$share/g", "$share//t", "$share/g/", "$share/+/t", "$share/#/t", "$share/g#/t"):
    number = "4.8.2-1" if name in ("$share/", "$share//t") else "4.8.2-2"
    row(f"the shared filter {name} is refused", {V5: number},
        a.joins(), a.sends(subscribe(1, name)), a.refused_filter(0x81, 0x82, 0x8F),
        mosquitto="" if "#" in name else "grants it")  # fmt: skip
row("shared subscriptions are there for 3.1.1 too, if they are at all", {V311: "3.8.4-5"},
    b.joins(), b.sends(subscribe(1, SHARED)), b.gets(Suback(1, 0)), a.joins(), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC)))  # fmt: skip
