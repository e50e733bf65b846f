"""CONNECT and CONNACK (sections 3.1 and 3.2)."""

from tests.conformance.packets import (
    ABSENT,
    Connack,
    Publish,
    Suback,
    T,
    Will,
    auth,
    between,
    connect,
    one_of,
    ping,
    publish,
    raw,
    subscribe,
)  # fmt: skip
from tests.conformance.script import V5, V31, V311, Table, a, b

TABLE = Table(0)
row = TABLE.row
ALL = (V31, V311, V5)
BOTH = (V311, V5)
# Whether a name and a password are right is the broker's affair; that they are read is ours.
JUDGED = one_of(0, 4, 5, 0x86, 0x87)

row(
    "a plain CONNECT is accepted",
    {(V31, V311): "3.2.0-1 3.1.3-3", V5: "3.2.0-1 3.1.3-3 3.2.2-1 3.2.2-8"},
    a.joins(),
    a.gets_nothing(),
)
row("CONNACK with code 0 acknowledges a valid CONNECT", {(V31, V311): "3.1.4-4", V5: "3.1.4-5"}, a.joins())
row("one CONNACK, and no more", {V5: "3.2.0-2"}, a.joins(), a.gets_nothing(), a.gets_nothing())
row("packets may follow CONNECT in the same segment", {ALL: "3.2.0-1"},
    a.sends(connect(a.id), subscribe(1, f"{T}/t")), a.gets(Connack(), Suback(1, 0)), a.gets_nothing())  # fmt: skip

# The first packet, and only the first.
for title, packet in {
    "PINGREQ": ping,
    "PUBLISH": publish(f"{T}/t"),
    "SUBSCRIBE": subscribe(1, f"{T}/t"),
    "UNSUBSCRIBE": raw('a2 06 00 01 00 02 "ab"'),
    "PUBACK": raw("40 02 00 01"),
    "DISCONNECT": raw("e0 00"),
    "CONNACK": raw("20 02 00 00"),
    "a reserved type": raw("00 00"),
}.items():
    row(f"{title} before CONNECT closes the connection", {ALL: "3.1.0-1"}, a.sends(packet), a.closed())
row(
    "AUTH before CONNECT closes the connection",
    {V5: "3.1.0-1"},
    a.sends(auth(0x18, {"auth_method": "m"})),
    a.closed(),
)
row("a second CONNECT closes the connection", {ALL: "3.1.0-2"},
    a.joins(), a.sends(connect(a.id)), a.closed(0x82))  # fmt: skip
row("a second CONNECT of another client closes the connection", {ALL: "3.1.0-2"},
    a.joins(), a.sends(connect(T + "z")), a.closed(0x82))  # fmt: skip
row("a second CONNECT behind the first in one segment closes the connection", {ALL: "3.1.0-2"},
    a.sends(connect(a.id), connect(a.id)), a.gets(Connack()), a.closed(0x82))  # fmt: skip

# Protocol name and level.
for bad in ("mqtt", "MQTTX", "MQT", "", "HTTP"):
    row(
        f"the protocol name {bad!r} closes the connection without a word of MQTT",
        {BOTH: "3.1.2-1"},
        a.sends(connect(a.id, name=bad)),
        a.closed_silently(),
    )
row("the protocol name MQTT at level 3 is refused", {V31: "3.1.2-2"},
    a.sends(connect(a.id, name="MQTT")), a.gets(Connack(None, 1)), a.closed())  # fmt: skip
row("the protocol name MQIsdp at level 4 is refused", {V311: "3.1.2-2"},
    a.sends(connect(a.id, name="MQIsdp")), a.closed(1))  # fmt: skip
for level in (0, 1, 2, 6, 255):
    row(f"protocol level {level} is answered with 'unacceptable protocol level'", {V311: "3.1.2-2 3.2.2-4 3.2.2-5"},
        a.sends(connect(a.id, level=level)), a.gets(Connack(0, one_of(1, 0x84))), a.closed())  # fmt: skip
row("protocol level 100 is answered too", {V311: "3.1.2-2"},
    a.sends(connect(a.id, level=100)), a.gets(Connack(0, one_of(1, 0x84))), a.closed())  # fmt: skip
row("protocol level 6 is refused", {V5: "3.1.2-2"},
    a.sends(connect(a.id, level=6)), a.closed(1, 0x84))  # fmt: skip

# Connect flags.
row("the reserved connect flag closes the connection", {BOTH: "3.1.2-3"},
    a.sends(connect(a.id, flags=3)), a.closed(0x81, 0x82))  # fmt: skip
row("3.1 has no use for the lowest of the connect flags", {V31: "3.1.4-4"},
    a.sends(connect(a.id, flags=3)), a.gets(Connack()), a.gets_nothing())  # fmt: skip
row("a malformed CONNECT is answered with the reason", {V5: "3.1.4-1 4.13.1-1"},
    a.sends(connect(a.id, flags=3)), a.told(0x81, 0x82), mosquitto="closes without a word")  # fmt: skip
row("reserved bits of the fixed header close the connection", {V311: "2.2.2-1 2.2.2-2", V5: "2.1.3-1"},
    a.sends(connect(a.id, first=0x11)), a.closed(0x81, 0x82))  # fmt: skip
row("will QoS 3 closes the connection", {(V31, V311): "3.1.2-14", V5: "3.1.2-12"},
    a.sends(connect(a.id, will=Will(f"{T}/w"), flags=0x1E)), a.closed(0x81, 0x82))  # fmt: skip
for qos in (1, 2, 3):
    row(f"will QoS {qos} without a will closes the connection", {V311: "3.1.2-11 3.1.2-13", V5: "3.1.2-11"},
        a.sends(connect(a.id, flags=2 | qos << 3)), a.closed(0x81, 0x82))  # fmt: skip
row("will retain without a will closes the connection", {V311: "3.1.2-15", V5: "3.1.2-13"},
    a.sends(connect(a.id, flags=0x22)), a.closed(0x81, 0x82))  # fmt: skip
row("a will without its topic closes the connection", {ALL: "3.1.2-9"},
    a.sends(connect(a.id, flags=6)), a.closed(0x81, 0x82))  # fmt: skip
row("a will without its payload closes the connection", {V311: "3.1.2-9"},
    a.sends(connect(a.id, flags=6, tail=raw('00 01 "w"'))), a.closed())  # fmt: skip
row("a will's topic and payload without the flag close the connection", {V311: "3.1.2-11"},
    a.sends(connect(a.id, will=Will(f"{T}/w"), flags=2)), a.closed())  # fmt: skip

# User name and password.
row("a user name alone is read", {BOTH: "3.1.3-1"},
    a.sends(connect(a.id, user="u")), a.gets(Connack(0, JUDGED)))  # fmt: skip
row("user name and password are read", {V311: "3.1.2-19 3.1.2-21", V5: "3.1.2-17 3.1.2-19"},
    a.sends(connect(a.id, user="u", password="p")), a.gets(Connack(0, JUDGED)))  # fmt: skip
row("will, user name and password are read in their order", {BOTH: "3.1.3-1"},
    a.sends(connect(a.id, will=Will(f"{T}/w"), user="u", password=b"\0\xff")), a.gets(Connack(0, JUDGED)))  # fmt: skip
row("a password without a user name closes the connection", {V311: "3.1.2-22"},
    a.sends(connect(a.id, password="p")), a.closed())  # fmt: skip
row("a password without a user name is read", {V5: "3.1.2-19"},
    a.sends(connect(a.id, password="p")), a.gets(Connack(0, JUDGED)))  # fmt: skip
row("the user name's flag without a user name", {V311: "3.1.2-19", V5: "3.1.2-17"},
    a.sends(connect(a.id, flags=0x82)), a.closed(0x81, 0x82))  # fmt: skip
row("the password's flag without a password", {V311: "3.1.2-21", V5: "3.1.2-19"},
    a.sends(connect(a.id, user="u", flags=0xC2)), a.closed(0x81, 0x82))  # fmt: skip
row("a user name without its flag", {V311: "3.1.2-18", V5: "3.1.2-16"},
    a.sends(connect(a.id, user="u", flags=2)), a.closed(0x81, 0x82))  # fmt: skip
row("a password without its flag", {V311: "3.1.2-20", V5: "3.1.2-18"},
    a.sends(connect(a.id, user="u", password="p", flags=0x82)), a.closed(0x81, 0x82))  # fmt: skip
row("a user name that is not UTF-8", {V311: "3.1.3-11 1.5.3-1", V5: "3.1.3-12 1.5.4-1"},
    a.sends(connect(a.id, user=b"\xff\xfe", password="p")), a.closed(0x81, 0x82))  # fmt: skip
row("a user name with U+0000", {V311: "3.1.3-11 1.5.3-2", V5: "3.1.3-12 1.5.4-2"},
    a.sends(connect(a.id, user=b"a\0b", password="p")), a.closed(0x81, 0x82))  # fmt: skip

# Client ids.
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
for start in range(0, len(DIGITS), 17):
    row(f"the client id {T}{DIGITS[start : start + 17]} of 23 letters and digits", {ALL: "3.1.3-5"},
        a.sends(connect(T + DIGITS[start : start + 17])), a.gets(Connack()))  # fmt: skip
row("a client id of one letter", {ALL: "3.1.3-5"}, a.sends(connect("q")), a.gets(Connack()))
row("a client id that is not UTF-8", {V311: "3.1.3-4 1.5.3-1", V5: "3.1.3-4 1.5.4-1"},
    a.sends(connect(b"\xc3\x28")), a.closed(0x81, 0x82, 0x85))  # fmt: skip
row("a client id with U+0000", {V311: "3.1.3-4 1.5.3-2", V5: "3.1.3-4 1.5.4-2"},
    a.sends(connect(b"a\0b")), a.closed(0x81, 0x82, 0x85))  # fmt: skip
row("a client id with a surrogate", {V311: "3.1.3-4 1.5.3-1", V5: "3.1.3-4 1.5.4-1"},
    a.sends(connect(b"a\xed\xa0\x80")), a.closed(0x81, 0x82, 0x85))  # fmt: skip
row("no client id at all", {ALL: "3.1.3-3"}, a.sends(raw('10 0a 00 04 "MQTT" 04 02 00 3c')), a.closed())
row("an empty client id, clean", {V311: "3.1.3-6 3.1.3-7"}, a.joins(client=""), a.gets_nothing())
row("an empty client id, not clean, is refused with code 2", {V311: "3.1.3-8 3.2.2-4 3.2.2-5"},
    a.sends(connect("", clean=False)), a.gets(Connack(0, 2)), a.closed())  # fmt: skip
row("an empty client id is given one", {V5: "3.1.3-6 3.1.3-7 3.2.2-16"},
    a.joins(client="", answer={"assigned_id": lambda value: value is not ABSENT and len(value) > 0}))  # fmt: skip
row("an empty client id without clean start is given one", {V5: "3.1.3-6 3.2.2-16"},
    a.joins(client="", clean=False, answer={"assigned_id": lambda value: value is not ABSENT and len(value) > 0}))  # fmt: skip
row("a client id of its own is not assigned", {V5: "3.2.2-16"}, a.joins(answer={"assigned_id": ABSENT}))
row("two clients without an id are two clients", {BOTH: "3.1.3-6"},
    a.joins(client=""), b.joins(client=""), a.gets_nothing(), b.gets_nothing())  # fmt: skip
row("an empty client id is refused", {V31: "3.1.3-9"},
    a.sends(connect("")), a.gets(Connack(None, 2)), a.closed())  # fmt: skip
row("client ids are told apart by case", {ALL: "3.1.3-2"},
    a.joins(client=f"{T}x"), b.joins(client=f"{T}X"), a.gets_nothing(), b.gets_nothing())  # fmt: skip

# Lengths.
row("bytes behind the payload", {V311: "3.1.4-1", V5: "3.1.4-1"},
    a.sends(connect(a.id, tail=b"\0")), a.closed(0x81, 0x82))  # fmt: skip
row("a client id longer than its packet", {ALL: "3.1.4-1"},
    a.sends(raw('10 10 00 04 "MQTT" 04 02 00 3c 00 ff "abcd"')), a.closed())  # fmt: skip
row(
    "a CONNECT that ends in its keepalive",
    {V311: "3.1.4-1"},
    a.sends(raw('10 09 00 04 "MQTT" 04 02 00')),
    a.closed(),
)
row("a CONNECT without anything", {ALL: "3.1.4-1"}, a.sends(raw("10 00")), a.closed())
row("a CONNECT without properties", {V5: "3.1.4-1 2.2.2-1"},
    a.sends(raw('10 0a 00 04 "MQTT" 05 02 00 3c')), a.closed(0x81, 0x82))  # fmt: skip
row("properties longer than their packet", {V5: "3.1.4-1"},
    a.sends(raw('10 0e 00 04 "MQTT" 05 02 00 3c 7f 00 01 "a"')), a.closed(0x81, 0x82))  # fmt: skip
row("what follows a refused CONNECT is not processed", {V311: "3.1.4-5", V5: "3.1.4-6"},
    b.joins(), b.sends(subscribe(1, f"{T}/t")), b.gets(Suback(1, 0)),
    a.sends(connect(a.id, flags=3), publish(f"{T}/t")), a.closed(), b.gets_nothing())  # fmt: skip

# Properties of CONNECT, each right and wrong.
RIGHT = {
    "session_expiry": 0xFFFFFFFF, "receive_maximum": 1, "maximum_packet_size": 1000, "topic_alias_maximum": 0,
    "request_response": 1, "request_problem": 0, "user": [("a", "b"), ("a", "b")],
}  # fmt: skip
for name, value in RIGHT.items():
    row(f"the property {name}", {V5: "3.1.4-5"}, a.joins(props={name: value}), a.gets_nothing(), a.leaves())
row("all properties", {V5: "3.1.4-5"}, a.joins(props={**RIGHT, "session_expiry": 0}), a.gets_nothing())
WRONG = {
    "a receive maximum of 0": "21 00 00",
    "a maximum packet size of 0": "27 00 00 00 00",
    "request problem information 2": "17 02",
    "request response information 2": "19 02",
    "a session expiry twice": "11 00 00 00 01 11 00 00 00 01",
    "a receive maximum twice": "21 00 05 21 00 05",
    "a topic alias maximum twice": "22 00 05 22 00 05",
    "a property of PUBLISH": "01 01",
    "a property of CONNACK": "24 01",
    "a property that there is not": "7e 00",
    "a property of two bytes": "a6 00 00 00 00 00",
    "a user property that is no UTF-8": "26 00 01 ff 00 01 61",
    "a user property's value with U+0000": "26 00 01 61 00 01 00",
    "half a user property": "26 00 01 61",
    "half a session expiry": "11 00 00",
}
for title, hexadecimal in WRONG.items():
    statement = "1.5.7-1" if "user property" in title else "4.13.1-1"
    row(f"{title} closes the connection", {V5: f"3.1.4-1 {statement}"},
        a.sends(connect(a.id, props=raw(hexadecimal))), a.closed(0x81, 0x82))  # fmt: skip
row("authentication data without a method", {V5: "3.1.4-1 4.13.1-1"},
    a.sends(connect(a.id, props={"auth_data": b"A"})), a.closed(0x81, 0x82),
    mosquitto="ignores authentication data")  # fmt: skip
row("an unknown authentication method is refused", {V5: "4.12.0-1 3.2.2-7"},
    a.sends(connect(a.id, props={"auth_method": "no such"})), a.closed(0x8C, 0x87))  # fmt: skip
row("an unknown authentication method with data is refused with bad authentication method", {V5: "4.12.0-1"},
    a.sends(connect(a.id, props={"auth_method": "no such", "auth_data": b"\0"})), a.told(0x8C, 0x87))  # fmt: skip
row("no authentication is not answered with one", {V5: "4.12.0-6"},
    a.joins(answer={"auth_method": ABSENT, "auth_data": ABSENT}), a.gets_nothing())  # fmt: skip
row("response information is not sent unasked", {V5: "3.1.2-28"},
    a.joins(answer={"response_information": ABSENT}, props={"request_response": 0}))  # fmt: skip
row("a keepalive stays, or is replaced by what CONNACK says", {V5: "3.2.2-22"},
    a.joins(keepalive=65535, answer={"server_keepalive": between(1, 65534, optional=True)}))  # fmt: skip
row("a small keepalive is not raised", {V5: "3.2.2-22"},
    a.joins(keepalive=5, answer={"server_keepalive": between(1, 5, optional=True)}))  # fmt: skip
row(
    "the announced maximum QoS is not 2",
    {V5: "3.2.2-9"},
    a.joins(answer={"maximum_qos": between(0, 1, optional=True)}),
)
row("the announced receive maximum is not 0", {V5: "4.9.0-1"},
    a.joins(answer={"receive_maximum": between(1, 65535, optional=True)}))  # fmt: skip
row("the announced maximum packet size is not 0", {V5: "3.2.2-15"},
    a.joins(answer={"maximum_packet_size": between(1, 0xFFFFFFFF, optional=True)}))  # fmt: skip

# Keepalive, and taking over.
row("a client silent for 1.5 times its keepalive is closed", {(V31, V311): "3.1.2-24", V5: "3.1.2-22"},
    a.joins(keepalive=1), a.closed(0x8D, after_s=1.4, within_s=4.0), a.waits(0),
    mosquitto="sometimes later: it looks every five seconds")  # fmt: skip
row("pings keep a connection", {(V311,): "3.1.2-24", V5: "3.1.2-22"},
    a.joins(keepalive=1), *[a.waits(0.8) + a.gets_nothing()] * 4)  # fmt: skip
row("publishing keeps a connection", {(V311,): "3.1.2-24", V5: "3.1.2-22"},
    a.joins(keepalive=1), *[a.waits(0.8) + a.sends(publish(f"{T}/t"))] * 3, a.gets_nothing())  # fmt: skip
row("without a keepalive nobody is closed", {(V311,): "3.1.2-24", V5: "3.1.2-22"},
    a.joins(keepalive=0), a.waits(2.5), a.gets_nothing())  # fmt: skip
row("a client id that connects again takes over", {(V31, V311): "3.1.4-2"},
    a.joins(), b.joins(client=a.id), a.closed(), b.gets_nothing())  # fmt: skip
row("a client id that connects again takes over, and the first is told", {V5: "3.1.4-3 4.13.2-1"},
    a.joins(), b.joins(client=a.id), a.told(0x8E), b.gets_nothing(),
    mosquitto="closes without DISCONNECT")  # fmt: skip
row("the taken-over session goes on", {V311: "3.1.4-2 3.1.2-4", V5: "3.1.4-3 3.1.2-5"},
    a.joins(keep=True), a.sends(subscribe(1, f"{T}/t")), a.gets(Suback(1, 0)),
    b.joins(1, client=a.id, keep=True), a.closed(0x8E), b.sends(publish(f"{T}/t")), b.gets(Publish(f"{T}/t")))  # fmt: skip
