"""SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (sections 3.8 to 3.11), and shared subscriptions (5.0, section 4.8.2)."""

from tests.conformance.packets import (
    Pong,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    T,
    Unsuback,
    ping,
    puback,
    pubcomp,
    publish,
    pubrec,
    pubrel,
    raw,
    subscribe,
    unsubscribe,
)  # fmt: skip
from tests.conformance.publish_rows import RETAINED, listens
from tests.conformance.script import V5, V31, V311, Table, a, b, c

TABLE = Table(3000)
row = TABLE.row
ALL = (V31, V311, V5)
OLD = (V31, V311)
BOTH = (V311, V5)
TOPIC = f"{T}/t"
OTHER = f"{T}/u"
NO_LOCAL, AS_PUBLISHED = 0x04, 0x08
ONCE, NEVER = 0x10, 0x20

# SUBACK.
for pid in (1, 256, 65535):
    row(f"SUBACK has the packet id {pid}", {OLD: "3.8.4-1 3.8.4-2 2.3.1-7", V5: "3.8.4-1 3.8.4-2 2.2.1-6"},
        a.joins(), a.sends(subscribe(pid, TOPIC)), a.gets(Suback(pid, 0)), a.gets_nothing())  # fmt: skip
for qos in (0, 1, 2):
    row(f"SUBACK grants QoS {qos}", {OLD: "3.8.4-5 3.9.3-2", V5: "3.8.4-7 3.9.3-2"},
        a.joins(), a.sends(subscribe(1, (TOPIC, qos))), a.gets(Suback(1, qos)))  # fmt: skip
row("SUBACK has a code for every filter, in their order",
    {OLD: "3.8.4-4 3.8.4-5 3.9.3-1", V5: "3.8.4-5 3.8.4-6 3.9.3-1"},
    a.joins(), a.sends(subscribe(1, (TOPIC, 2), (OTHER, 0), (f"{T}/v", 1), (f"{T}/w", 2))), a.gets(Suback(1, 2, 0, 1, 2)))  # fmt: skip
row("the same filter twice in one SUBSCRIBE: the second holds", {OLD: "3.8.4-4 3.8.4-3", V5: "3.8.4-5 3.8.4-3"},
    b.joins(), b.sends(subscribe(1, (TOPIC, 2), (TOPIC, 0))), b.gets(Suback(1, 2, 0)),
    a.joins(), a.sends(publish(TOPIC, qos=1)), a.gets(Puback(1)), b.gets(Publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("300 filters in one SUBSCRIBE", {OLD: "3.8.4-5", V5: "3.8.4-6"},
    a.joins(), a.sends(subscribe(1, *(f"{T}/{i}" for i in range(300)))), a.gets(Suback(1, *[0] * 300)))  # fmt: skip
row("every filter of one SUBSCRIBE is subscribed", {OLD: "3.8.4-4", V5: "3.8.4-5"},
    b.joins(), b.sends(subscribe(1, TOPIC, OTHER)), b.gets(Suback(1, 0, 0)), a.joins(),
    a.sends(publish(TOPIC), publish(OTHER)), b.gets(Publish(TOPIC), Publish(OTHER)))  # fmt: skip
row("subscribing again replaces the subscription", {OLD: "3.8.4-3", V5: "3.8.4-3"},
    listens(2), b.sends(subscribe(2, (TOPIC, 0))), b.gets(Suback(2, 0)), a.joins(), a.sends(publish(TOPIC, qos=1)),
    a.gets(Puback(1)), b.gets(Publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("subscribing again with a higher QoS", {OLD: "3.8.4-3", V5: "3.8.4-3"},
    listens(0), b.sends(subscribe(2, (TOPIC, 1))), b.gets(Suback(2, 1)), a.joins(), a.sends(publish(TOPIC, qos=1)),
    a.gets(Puback(1)), b.gets(Publish(TOPIC, qos=1, pid="m")), b.sends(puback("m")), b.gets_nothing())  # fmt: skip
for first, second in ((0, 2), (2, 0), (1, 2)):
    row(f"overlapping subscriptions of QoS {first} and {second}: the highest QoS is respected",
        {OLD: "3.3.5-1", V5: "3.3.4-2"},
        b.joins(), b.sends(subscribe(1, (TOPIC, first), (f"{T}/#", second))), b.gets(Suback(1, first, second)),
        a.joins(), a.sends(publish(TOPIC, qos=2)), a.gets(Pubrec(1)), a.sends(pubrel(1)), a.gets(Pubcomp(1)),
        # One copy, or one for each subscription: here the first of them is of QoS 2.
        b.gets(Publish(TOPIC, qos=2, pid="m")), b.sends(pubrec("m")), b.gets(Pubrel("m")), b.sends(pubcomp("m")),
        b.gets_nothing(),
        mosquitto="takes the QoS of the filter that it finds first; in 5.0 it sends a copy for each",
        mosquitto_in=(V5,) if (first, second) == (2, 0) else ALL)  # fmt: skip
row("a subscription is a client's own", {ALL: "3.8.4-1"},
    listens(), c.joins(), a.joins(), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC)), c.gets_nothing())  # fmt: skip

# What is wrong with SUBSCRIBE and UNSUBSCRIBE.
BODY = '00 01 00 03 "a/b"'
for title, first, good, rest in (
    ("SUBSCRIBE", 0x82, subscribe, "00"),
    ("UNSUBSCRIBE", 0xA2, unsubscribe, ""),
):
    ten = "8" if title == "SUBSCRIBE" else "10"
    for flags in (0x00, 0x01, 0x03, 0x04, 0x0A):
        row(f"{title} with flags {flags:04b} closes the connection", {V311: f"3.{ten}.1-1", V5: f"3.{ten}.1-1"},
            a.joins(), a.sends(good(1, TOPIC, first=first & 0xF0 | flags)), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with packet id 0 closes the connection", {V311: "2.3.1-1", V5: "2.2.1-3"},
        a.joins(), a.sends(good(0, TOPIC)), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} without a filter closes the connection",
        {V311: "3.8.3-3" if ten == "8" else "3.10.3-2", V5: f"3.{ten}.3-2"},
        a.joins(), a.sends(good(1)), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with an empty filter closes the connection", {BOTH: "4.7.3-1"},
        a.joins(), a.sends(good(1, "")), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} without a packet id closes the connection", {V311: "2.3.1-1", V5: "2.2.1-3"},
        a.joins(), a.sends(bytes([first, 0])), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with half a packet id closes the connection", {V311: "2.3.1-1", V5: "2.2.1-3"},
        a.joins(), a.sends(bytes([first, 1, 0])), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with a filter longer than its packet closes the connection", {V311: "4.8.0-1", V5: "4.13.1-1"},
        a.joins(), a.sends(bytes([first, 7]) + raw('00 01 00 00 09 "ab"')), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with a filter that is not UTF-8 closes the connection",
        {V311: f"3.{ten}.3-1 1.5.3-1", V5: f"3.{ten}.3-1 1.5.4-1"},
        a.joins(), a.sends(good(1, b"a\xff")), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with U+0000 in a filter closes the connection",
        {V311: f"3.{ten}.3-1 1.5.3-2 4.7.3-2", V5: f"3.{ten}.3-1 1.5.4-2 4.7.3-2"},
        a.joins(), a.sends(good(1, b"a\0")), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} without properties closes the connection", {V5: "2.2.2-1"},
        a.joins(), a.sends(bytes([first, 7 + (ten == "8")]) + raw(BODY + rest)), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with a property of PUBLISH closes the connection", {V5: "4.13.1-1"},
        a.joins(), a.sends(good(1, TOPIC, props=b"\x01\x00")), a.closed(0x81, 0x82))  # fmt: skip
    row(f"{title} with user properties is read", {V5: "3.8.4-1" if ten == "8" else "3.10.4-4"},
        a.joins(), a.sends(good(1, TOPIC, props={"user": [("a", "b"), ("a", "b")]})),
        a.gets(Suback(1, 0) if ten == "8" else Unsuback(1, 0x11)))  # fmt: skip
    for name in ("#/a", "a#", "a/#b", "a/#/b", "a+", "+a", "a/+b/c", "a/b+"):
        statement = {V311: "4.7.1-2", V5: "4.7.1-1"} if "#" in name else {V311: "4.7.1-3", V5: "4.7.1-2"}
        row(f"{title} with the filter {name} closes the connection", statement,
            a.joins(), a.sends(good(1, name)), a.closed(0x81, 0x82, 0x8F))  # fmt: skip
row("a filter without its QoS closes the connection", {V311: "3.8.3-3", V5: "3.8.3-2"},
    a.joins(), a.sends(lambda run: raw('82 06 00 01 00 02 "ab"') if run.version < 5 else raw('82 07 00 01 00 00 02 "ab"')),
    a.closed(0x81, 0x82))  # fmt: skip
row("QoS 3 closes the connection", {V311: "3.8.3-4", V5: "4.13.1-1"},
    a.joins(), a.sends(subscribe(1, (TOPIC, 3))), a.closed(0x81, 0x82))  # fmt: skip
for bits in (0x04, 0x10, 0x40, 0x80, 0xFC):
    row(f"reserved bits {bits:08b} beside the QoS close the connection", {V311: "3.8.3-4"},
        a.joins(), a.sends(subscribe(1, (TOPIC, bits))), a.closed())  # fmt: skip
for bits in (0x40, 0x80, 0xC1):
    row(f"reserved bits {bits:08b} of the options close the connection", {V5: "3.8.3-5"},
        a.joins(), a.sends(subscribe(1, (TOPIC, bits))), a.closed(0x81, 0x82))  # fmt: skip
row("retain handling 3 closes the connection", {V5: "4.13.1-1"},
    a.joins(), a.sends(subscribe(1, (TOPIC, 0x30))), a.closed(0x81, 0x82))  # fmt: skip

# UNSUBSCRIBE.
row("UNSUBACK has the packet id", {OLD: "3.10.4-4 2.3.1-7", V5: "3.10.4-4 3.10.4-5 2.2.1-6"},
    listens(who=a), a.sends(unsubscribe(77, TOPIC)), a.gets(Unsuback(77, 0)))  # fmt: skip
row("UNSUBACK comes without a subscription too", {OLD: "3.10.4-5", V5: "3.10.4-5 3.11.3-2"},
    a.joins(), a.sends(unsubscribe(77, TOPIC)), a.gets(Unsuback(77, 0x11)))  # fmt: skip
row("UNSUBACK has a code for every filter, in their order", {V5: "3.11.3-1 3.10.4-6"},
    listens(who=a), a.sends(unsubscribe(2, OTHER, TOPIC, TOPIC)), a.gets(Unsuback(2, 0x11, 0, 0x11)))  # fmt: skip
row("several filters are unsubscribed with one UNSUBACK", {OLD: "3.10.4-6", V5: "3.10.4-6"},
    b.joins(), b.sends(subscribe(1, TOPIC, OTHER, f"{T}/v")), b.gets(Suback(1, 0, 0, 0)),
    b.sends(unsubscribe(2, TOPIC, OTHER)), b.gets(Unsuback(2, 0, 0)), a.joins(),
    a.sends(publish(TOPIC), publish(OTHER), publish(f"{T}/v")), b.gets(Publish(f"{T}/v")), b.gets_nothing())  # fmt: skip
row("after UNSUBACK nothing comes", {ALL: "3.10.4-2"},
    listens(), b.sends(unsubscribe(2, TOPIC)), b.gets(Unsuback(2, 0)), a.joins(), a.sends(publish(TOPIC)), a.gets_nothing(),
    b.gets_nothing())  # fmt: skip
row("a filter is unsubscribed character by character", {ALL: "3.10.4-1"},
    listens(name=f"{T}/+"), b.sends(unsubscribe(2, TOPIC, f"{T}/#", f"{T}/+/")), b.gets(Unsuback(2, 0x11, 0x11, 0x11)),
    a.joins(), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC)))  # fmt: skip
row("a wildcard filter is unsubscribed by its own name", {ALL: "3.10.4-1"},
    listens(name=f"{T}/+"), b.sends(unsubscribe(2, f"{T}/+")), b.gets(Unsuback(2, 0)), a.joins(), a.sends(publish(TOPIC)),
    a.gets_nothing(), b.gets_nothing())  # fmt: skip
row("delivery that has begun is completed after UNSUBSCRIBE", {ALL: "3.10.4-3"},
    listens(2), a.joins(), a.sends(publish(TOPIC, qos=2), pubrel(1)), a.gets(Pubrec(1), Pubcomp(1)),
    b.gets(Publish(TOPIC, qos=2, pid="m")), b.sends(unsubscribe(2, TOPIC)), b.gets(Unsuback(2, 0)), b.sends(pubrec("m")),
    b.gets(Pubrel("m")), b.sends(pubcomp("m")), b.gets_nothing())  # fmt: skip
row("subscribing, unsubscribing and a ping in one segment", {ALL: "3.10.4-4"},
    a.joins(), a.sends(subscribe(1, TOPIC), unsubscribe(2, TOPIC), ping),
    a.gets(Suback(1, 0), Unsuback(2, 0)), a.gets(Pong))  # fmt: skip

# Options of MQTT 5.
row("retain handling 0 sends retained messages at every SUBSCRIBE", {V5: "3.3.1-9 3.8.4-4"},
    RETAINED, b.joins(), *[b.sends(subscribe(1, TOPIC)) + b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True))] * 2,
    b.gets_nothing())  # fmt: skip
row("retain handling 1 sends retained messages to a new subscription only", {V5: "3.3.1-10"},
    RETAINED, b.joins(), b.sends(subscribe(1, (TOPIC, ONCE))), b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True)),
    b.sends(subscribe(2, (TOPIC, ONCE))), b.gets(Suback(2, 0)), b.gets_nothing(),
    b.sends(unsubscribe(3, TOPIC), subscribe(4, (TOPIC, ONCE))), b.gets(Unsuback(3, 0)),
    b.gets_any(Suback(4, 0), Publish(TOPIC, "old", retain=True)))  # fmt: skip
row("retain handling 2 sends no retained messages", {V5: "3.3.1-11"},
    RETAINED, b.joins(), b.sends(subscribe(1, (TOPIC, NEVER))), b.gets(Suback(1, 0)), b.gets_nothing())  # fmt: skip
row("retain as published keeps RETAIN", {V5: "3.3.1-13"},
    listens(AS_PUBLISHED), a.joins(), a.sends(publish(TOPIC, "1", retain=True), publish(TOPIC, "2")),
    b.gets(Publish(TOPIC, "1", retain=True), Publish(TOPIC, "2")))  # fmt: skip
row("without retain as published RETAIN is cleared", {V5: "3.3.1-12"},
    listens(), a.joins(), a.sends(publish(TOPIC, retain=True)), b.gets(Publish(TOPIC)))  # fmt: skip
row("no local: the publisher gets nothing, others do", {V5: "3.8.3-3"},
    listens(NO_LOCAL), listens(NO_LOCAL, who=a), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC)), a.gets_nothing())  # fmt: skip
row("no local is gone when the subscription is replaced", {V5: "3.8.3-3 3.8.4-3"},
    listens(NO_LOCAL, who=a), a.sends(subscribe(2, TOPIC)), a.gets(Suback(2, 0)), a.sends(publish(TOPIC)),
    a.gets(Publish(TOPIC)),
    mosquitto="keeps the old option")  # fmt: skip
row("no local on a shared subscription closes the connection", {V5: "3.8.3-4"},
    a.joins(), a.sends(subscribe(1, (f"$share/g/{TOPIC}", NO_LOCAL))), a.closed(0x82, 0x81),
    mosquitto="grants it")  # fmt: skip


# Subscription identifiers.
def identified(pid: int, number: int, name: str = TOPIC, who=b):  # type: ignore[no-untyped-def]
    return who.sends(subscribe(pid, name, props={"subscription_id": number})) + who.gets(Suback(pid, 0))


for number in (1, 127, 128, 268_435_455):
    row(f"the subscription identifier {number} comes with the message", {V5: "3.3.4-3"},
        b.joins(), identified(1, number), a.joins(), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC, subscription_id=[number])))  # fmt: skip
row("a retained message comes with the subscription identifier", {V5: "3.3.4-3"},
    RETAINED, b.joins(), b.sends(subscribe(1, TOPIC, props={"subscription_id": 7})),
    b.gets_any(Suback(1, 0), Publish(TOPIC, "old", retain=True, subscription_id=[7])))  # fmt: skip
row("a replaced subscription has the new identifier", {V5: "3.3.4-3 3.8.4-3"},
    b.joins(), identified(1, 1), identified(2, 2), a.joins(), a.sends(publish(TOPIC)),
    b.gets(Publish(TOPIC, subscription_id=[2])))  # fmt: skip
row("a replaced subscription may lose its identifier", {V5: "3.3.4-3 3.8.4-3"},
    b.joins(), identified(1, 1), b.sends(subscribe(2, TOPIC)), b.gets(Suback(2, 0)), a.joins(), a.sends(publish(TOPIC)),
    b.gets(Publish(TOPIC)))  # fmt: skip
row("one copy has the identifiers of all overlapping subscriptions", {V5: "3.3.4-3 3.3.4-4"},
    b.joins(), identified(1, 1), identified(2, 2, f"{T}/#"), a.joins(), a.sends(publish(TOPIC)),
    b.gets(Publish(TOPIC, subscription_id=lambda value: sorted(value) == [1, 2])), b.gets_nothing(),
    mosquitto="sends a copy for each subscription, which 3.3.4 allows; ours sends one")  # fmt: skip
row("the identifier 0 closes the connection", {V5: "4.13.1-1"},
    a.joins(), a.sends(subscribe(1, TOPIC, props=raw("0b 00"))), a.closed(0x81, 0x82))  # fmt: skip
row("two identifiers close the connection", {V5: "4.13.1-1"},
    a.joins(), a.sends(subscribe(1, TOPIC, props=raw("0b 01 0b 02"))), a.closed(0x81, 0x82))  # fmt: skip
row("an identifier of five bytes closes the connection", {V5: "4.13.1-1"},
    a.joins(), a.sends(subscribe(1, TOPIC, props=raw("0b ff ff ff ff 01"))), a.closed(0x81, 0x82))  # fmt: skip
