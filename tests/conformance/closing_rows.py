"""PINGREQ, DISCONNECT, AUTH (sections 3.12, 3.14, 3.15), and frames that are no packets (section 2)."""

from tests.conformance.packets import (
    Connack,
    Pong,
    Puback,
    Publish,
    T,
    auth,
    connect,
    disconnect,
    ping,
    publish,
    raw,
)
from tests.conformance.publish_rows import listens
from tests.conformance.script import V5, V31, V311, Table, a, b

TABLE = Table(8000)
row = TABLE.row
ALL = (V31, V311, V5)
OLD = (V31, V311)
BOTH = (V311, V5)
TOPIC = f"{T}/t"

row("PINGREQ is answered", {ALL: "3.12.4-1"}, a.joins(), a.sends(ping), a.gets(Pong), a.gets_nothing())
row(
    "five PINGREQs in one segment are answered five times",
    {ALL: "3.12.4-1"},
    a.joins(),
    a.sends(ping * 5),
    a.gets(*[Pong] * 5),
)
row("PINGREQ right behind CONNECT", {ALL: "3.12.4-1"}, a.sends(connect(a.id), ping), a.gets(Connack(), Pong))

# DISCONNECT.
row("DISCONNECT closes the connection", {OLD: "3.14.4-1", V5: "3.14.4-2"}, a.joins(), a.leaves())
row("DISCONNECT right behind CONNECT", {OLD: "3.14.4-1", V5: "3.14.4-2"},
    a.sends(connect(a.id), disconnect()), a.gets(Connack()), a.closed_silently())  # fmt: skip
row("what follows DISCONNECT is not processed", {OLD: "3.14.4-2", V5: "3.14.4-1"},
    listens(), a.joins(), a.leaves(disconnect(), publish(TOPIC)), b.gets_nothing())  # fmt: skip
row("what comes before DISCONNECT is processed", {OLD: "3.14.4-1", V5: "3.14.4-1"},
    listens(), a.joins(), a.leaves(publish(TOPIC), disconnect()), b.gets(Publish(TOPIC)))  # fmt: skip
for first in (0xE1, 0xE2, 0xEF):
    row(f"DISCONNECT with the flags {first & 15:04b} closes the connection", {V311: "3.14.1-1", V5: "3.14.1-1"},
        a.joins(), a.sends(disconnect(first=first)), a.closed(0x81, 0x82))  # fmt: skip
row(
    "DISCONNECT with a body closes the connection",
    {V311: "4.8.0-1"},
    a.joins(),
    a.sends(raw("e0 01 00")),
    a.closed(),
)
for code in (0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99):
    row(
        f"DISCONNECT with reason 0x{code:02X} from a client",
        {V5: "3.14.2-1"},
        a.joins(),
        a.leaves(disconnect(code)),
    )
row("DISCONNECT with all its properties", {V5: "3.14.2-1"},
    a.joins(keep=True),
    a.leaves(disconnect(0, {"session_expiry": 0, "reason_string": "r", "user": [("a", "b"), ("a", "b")]})))  # fmt: skip
for code in (0x01, 0x03, 0x7F, 0xFF):
    row(f"DISCONNECT with reason 0x{code:02X}, which there is not, closes the connection", {V5: "3.14.2-1"},
        a.joins(), a.sends(disconnect(code)), a.closed(0x81, 0x82))  # fmt: skip
for title, hexadecimal in {
    "a property of CONNECT": "e0 05 00 03 21 00 01", "two session expiries": "e0 0c 00 0a 11 00 00 00 00 11 00 00 00 00",
    "properties longer than itself": "e0 02 00 05", "two reason strings": 'e0 0a 00 08 1f 00 01 "a" 1f 00 01 "b"',
}.items():  # fmt: skip
    row(f"DISCONNECT with {title} closes the connection", {V5: "4.13.1-1"},
        a.joins(), a.sends(raw(hexadecimal)), a.closed(0x81, 0x82))  # fmt: skip
row("a server's DISCONNECT gives a reason for a second CONNECT", {V5: "4.13.2-1 3.14.0-1"},
    a.joins(), a.sends(connect(a.id)), a.told(0x82),
    mosquitto="closes without DISCONNECT")  # fmt: skip
row("a server's DISCONNECT gives a reason for a topic with a wildcard", {V5: "4.13.2-1 3.14.2-1"},
    a.joins(), a.sends(publish(f"{T}/#")), a.told(0x81, 0x82, 0x90))  # fmt: skip
row("a server's DISCONNECT gives a reason for a malformed packet", {V5: "4.13.2-1 3.14.2-2"},
    a.joins(), a.sends(raw("82 00")), a.told(0x81, 0x82))  # fmt: skip
row(
    "a server says nothing but CONNACK to who is not connected",
    {V5: "3.14.0-1"},
    a.sends(publish(TOPIC)),
    a.closed_silently(),
)

# AUTH.
for code in (0x00, 0x18, 0x19):
    row(f"AUTH 0x{code:02X} without an authentication method in CONNECT closes the connection", {V5: "4.12.0-7 4.13.1-1"},
        a.joins(), a.sends(auth(code, {"auth_method": "m"})), a.closed(0x82, 0x81, 0x8C))  # fmt: skip
row("AUTH with wrong flags closes the connection", {V5: "3.15.1-1"},
    a.joins(), a.sends(raw('f1 06 18 04 15 00 01 "m"')), a.closed(0x81, 0x82))  # fmt: skip
row("AUTH with a reason that there is not closes the connection", {V5: "3.15.2-1"},
    a.joins(), a.sends(auth(0x17, {"auth_method": "m"})), a.closed(0x81, 0x82, 0x8C))  # fmt: skip
row(
    "AUTH of nothing closes the connection",
    {V5: "4.12.0-7"},
    a.joins(),
    a.sends(raw("f0 00")),
    a.closed(0x81, 0x82, 0x8C),
)
row("the type of AUTH closes the connection", {V311: "2.2.2-2"}, a.joins(), a.sends(raw("f0 00")), a.closed())

# Packets that only a server sends, and types that there are not.
PASSED_BY_MOSQUITTO = {
    "SUBACK": "passes over it", "UNSUBACK": "passes over it", "PINGRESP": "passes over it",
    "type 0": "sometimes waits: a first byte of 0 that comes alone is forgotten",
}  # fmt: skip
for title, hexadecimal in {
    "CONNACK": "20 02 00 00", "SUBACK": "90 03 00 01 00", "UNSUBACK": "b0 02 00 01", "PINGRESP": "d0 00", "type 0": "00 00",
    "type 0 with a body": "00 02 00 00",
}.items():  # fmt: skip
    row(f"{title} from a client closes the connection", {V311: "4.8.0-1", V5: "4.13.1-1"},
        a.joins(), a.sends(raw(hexadecimal)), a.closed(0x81, 0x82),
        mosquitto=PASSED_BY_MOSQUITTO.get(title, ""), mosquitto_in=OLD if title in ("SUBACK", "UNSUBACK") else ALL)  # fmt: skip
for flags in (1, 2, 8, 15):
    row(f"PINGREQ with the flags {flags:04b} closes the connection", {V311: "2.2.2-1 2.2.2-2", V5: "2.1.3-1"},
        a.joins(), a.sends(bytes([0xC0 | flags, 0])), a.closed(0x81, 0x82), mosquitto="does not look at the flags")  # fmt: skip
row("PINGREQ with a body closes the connection", {V311: "4.8.0-1", V5: "4.13.1-1"},
    a.joins(), a.sends(raw("c0 01 00")), a.closed(0x81, 0x82), mosquitto="does not look at the body")  # fmt: skip

# The remaining length.
for byte in ("10", "30", "82", "c0"):
    row(f"a remaining length of five bytes closes the connection, first byte {byte}", {V311: "4.8.0-1", V5: "4.13.1-1"},
        a.joins(), a.sends(raw(byte + "ff ff ff ff 7f")), a.closed(0x81, 0x82, 0x95))  # fmt: skip
row("a remaining length of five bytes before CONNECT closes the connection", {V311: "4.8.0-1", V5: "4.13.1-1"},
    a.sends(raw("10 80 80 80 80 01")), a.closed(0x81, 0x82, 0x95))  # fmt: skip
for length in (2, 3, 4):
    row(f"a remaining length of {length} bytes where one would do is read", {V311: "4.3.2-2"},
        listens(), a.joins(), a.sends(publish(TOPIC, qos=1, length=length)), a.gets(Puback(1)), b.gets(Publish(TOPIC)))  # fmt: skip
    row(f"a remaining length of {length} bytes where one would do is read, or closes", {V5: "1.5.5-1"},
        a.joins(), a.sends(publish(TOPIC, length=length)), a.lives_or_closes(0x81, 0x82))  # fmt: skip
row("half a packet and then the end hurts nobody", {ALL: "4.5.0-1"},
    listens(), a.joins(), a.sends(raw('30 10 00 04 "ab"')), a.drops(), b.gets_nothing())  # fmt: skip
row("a packet in two segments is one packet", {V311: "7.1.1-1", V5: "4.2.0-1"},
    listens(), a.joins(), a.sends(b"\x30"), a.sends(lambda run: publish(TOPIC)(run)[1:3]), a.sends(lambda run: publish(TOPIC)(run)[3:]),
    b.gets(Publish(TOPIC)))  # fmt: skip
row("one client's malformed packet does not hurt another", {V311: "4.8.0-1", V5: "4.13.1-1"},
    listens(), a.joins(), a.sends(raw("36 00")), a.closed(0x81, 0x82), a.joins(), a.sends(publish(TOPIC)), b.gets(Publish(TOPIC)))  # fmt: skip
row(
    "a client of another protocol is closed",
    {V311: "3.1.0-1"},
    a.sends(b"GET / HTTP/1.1\r\n\r\n"),
    a.closed(),
)
row("a TLS client is closed", {V311: "3.1.0-1"}, a.sends(raw("16 03 01 00 05 01 00 00 01 00")), a.closed())
