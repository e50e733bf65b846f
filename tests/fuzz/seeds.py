"""Write the corpus anew from the tables of the other tests: ``python -m tests.fuzz.seeds``.

Files that no table has any more stay, and so does whatever was put there because a bug was found with it.
"""

from collections import defaultdict
from typing import Any

from storage.journal import Journal, Limits
from storage.kinds import PayloadKind
from storage.notes import encode_note
from storage.ring import Ring
from storage.schema import Schema
from storage.wal import MAGIC
from tests.conformance.packets import PING, T, connect, disconnect
from tests.conformance.script import Row
from tests.conformance.tables import ROWS
from tests.fuzz.corpus import CASE_BYTES_MAX, ROOT, name_of
from tests.fuzz.mqtt_targets import SWITCH
from tests.fuzz.storage_targets import LOG_ID, repaired
from tests.ingest.test_transports import GET, OPENING, frame
from tests.query.rfc9112_cases import CASES
from tests.storage.test_notes import BYTES
from tests.twins.mqtt_packets import PROPERTIES, STREAMS, STREAMS_5, connect_5, properties
from tests.twins.mqtt_packets import connect as connect_with_token
from tests.twins.posts import PLAIN, RARE

TOKEN = "corpus"
ANNOUNCED = {"receive_maximum": 3, "topic_alias_maximum": 16, "maximum_packet_size": 400}
NUMBERS = {"v": (300,), "s": b"a/b", "p": ((b"name", b"value"), (b"name", b"again"))}

Cases = dict[str, bytes]


class Script:
    """What the clients of a conformance row send, as one conversation. The run that the row's encoders ask about."""

    def __init__(self, row: Row) -> None:
        self.version = row.version
        self.said = ANNOUNCED
        self.ids: dict[str, int] = defaultdict(lambda: len(self.ids) + 1)
        self.data = b""
        self._last = "a"
        for step in row.steps:
            self._take(step.who, step.verb, step.what)

    def _take(self, who: str, verb: str, what: tuple[Any, ...]) -> None:
        packets: tuple[Any, ...] = ()
        match verb:
            case "joins":
                packets = (connect(**{"client": T + who} | what[2]),)
            case "sends" | "leaves":
                packets = what or (disconnect(),)
            case "gets_nothing" | "lives_or_closes":
                packets = (PING,)
        sent = b"".join(one(self) if callable(one) else one for one in packets)
        if sent and who != self._last:
            self.data += SWITCH + b"%d" % "abcd".index(who)
            self._last = who
        self.data += sent


def mqtt() -> Cases:
    found = {}
    for row in ROWS:
        script = Script(row)
        found[f"{row.name.partition('] ')[2]} {' '.join(row.statements)}"] = script.data.replace(
            T.encode(), TOKEN.encode()
        )
    for name, stream in STREAMS.items():
        found[f"readings: {name}"] = connect_with_token() + stream
    for name, stream in STREAMS_5.items():
        found[f"5.0 readings: {name}"] = connect_5() + stream
    return found


def http() -> Cases:
    posts = {f"posts: {name}": sent for name, sent in {**PLAIN, **RARE}.items()}
    return posts | {case.name: case.sent for case in CASES}


def websocket() -> Cases:
    hello = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
    frames = {
        "a binary frame": frame(2, hello),
        "fragments with a ping between them": frame(2, hello[:5], fin=False)
        + frame(9, b"hi")
        + frame(0, hello[5:]),
        "an empty frame": frame(2) + frame(2, hello),
        "a long frame": frame(2, bytes(200)),
        "a text frame": frame(1, b"text"),
        "a text frame that is not UTF-8": frame(1, b"\xff"),
        "an unmasked frame": frame(2, hello, mask=None),
        "a pong that nobody asked for": frame(10, b"x") + frame(2, hello),
        "a long ping": frame(9, bytes(126)),
        "a ping in fragments": frame(9, b"x", fin=False),
        "a close with a code": frame(2, hello) + frame(8, b"\x03\xe8bye"),
        "a close without a code": frame(8),
        "a close of one byte": frame(8, b"\x03"),
        "a close with a code that is reserved": frame(8, b"\x03\xed"),
        "a close whose reason is not UTF-8": frame(8, b"\x03\xe8\xff"),
        "reserved bits": bytes([0xF2]) + frame(2, hello)[1:],
        "a reserved opcode": frame(3, hello),
        "a continuation of nothing": frame(0, hello),
        "a length of 64 bits": b"\x82\xff" + (5).to_bytes(8, "big") + b"\0\0\0\0hello",
        "a length beyond all": b"\x82\xff" + b"\xff" * 8 + b"\0\0\0\0",
        "frames behind a close": frame(8, b"\x03\xe8") + frame(2, hello),
    }
    found = {f"frames: {name}": OPENING + data for name, data in frames.items()}
    return found | {
        "opening: no subprotocol": GET + b"\r\n" + frame(2, hello),
        "opening: another subprotocol": GET + b"Sec-WebSocket-Protocol: chat\r\n\r\n",
        "opening: another version": GET.replace(b"Version: 13", b"Version: 8") + b"\r\n",
        "opening: no key": OPENING.replace(b"Sec-WebSocket-Key", b"X-Key"),
        "opening: no upgrade": OPENING.replace(b"Upgrade: websocket\r\n", b""),
        "opening: a body": GET + b"Content-Length: 5\r\n\r\nhello",
        "opening: a post": b"POST" + OPENING[3:],
        "opening: HTTP 1.0": OPENING.replace(b"HTTP/1.1", b"HTTP/1.0"),
        "opening: half of it": OPENING[:80],
        "opening: extensions": GET
        + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        + frame(2, hello),
        "opening: bare line feeds": OPENING.replace(b"\r\n", b"\n"),
    }


def tls() -> Cases:
    return {
        "nothing but zeros": bytes(64),
        "MQTT": b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
        "HTTP": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(99),
        "an empty record": b"\x16\x03\x01\x00\x00",
        "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
        "a close notify": b"\x15\x03\x03\x00\x02\x01\x00",
        "application data": b"\x17\x03\x03\x00\x20" + bytes(32),
        "a change of the cipher": b"\x14\x03\x03\x00\x01\x01",
        "a hello of SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
        "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
        "a hello without ciphers": b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03"
        + bytes(32)
        + b"\0\0\0\x01\0\0\0",
    }


def properties_blocks() -> Cases:
    found = {"none": b"\0"}
    for number, form in PROPERTIES.items():
        found[f"property {number:02x}"] = properties({number: NUMBERS.get(form, 1)})  # type: ignore[dict-item]
    found["all of them"] = properties({number: NUMBERS.get(form, 1) for number, form in PROPERTIES.items()})  # type: ignore[misc]
    found["one twice"] = b"\x04\x01\x00\x01\x00"
    found["longer than it is"] = b"\x7f\x01\x00"
    found["a length with more bytes than it needs"] = b"\x82\x00\x01\x00"
    return found


def filters() -> Cases:
    return {
        "plain": b"+a/b\na/b\na\na/b/c",
        "one level": b"+a/+\na/b\na/\na\na/b/c",
        "all levels": b"+#\na\n/\n$SYS/x\n+$SYS/#\n$SYS/x",
        "the parent too": b"+a/#\na\na/\nab",
        "empty levels": b"+/+\n+//\n/a\n//\n/",
        "overlapping": b"+a/#\n+a/+\n+a/b\n+#\na/b\n-a/+\na/b",
        "shared": b"+$share/g/a/+\n+$share/h/a/#\na/b\n-$share/g/a/+\na/b",
        "shared and not": b"+$share/g/a\n+a\na\n-a\na\n-$share/g/a\na",
        "wildcards out of place": b"+a#\n+a+/b\n+#/a\na#\na+/b",
        "a share without a name": b"+$share//a\n+$share/g\n+$share/+/a\na",
        "remove what is not there": b"-a/b\n+a\n-a/b\n-a\na",
        "beyond ASCII": b"+\xc3\xa9/+\n\xc3\xa9/x\n+\xff\n\xff",
    }


def payload() -> Cases:
    return {
        "json: an object": b'{"temp":21.5,"ok":true,"s":"x"}',
        "json: nested": b'{"a":{"b":[1,2,{"c":null}]},"d":[]}',
        "json: a bare number": b"-12.5e-3",
        "json: an array": b'[1, 2.5, "x", null]',
        "json: text": b'"\\u00e9\\ud83d\\ude00\\n\\/\\""',
        "json: half a pair": b'{"a":"\\ud83d"}',
        "json: keys twice": b'{"a":1,"a":"x","b":2,"a":true}',
        "json: integers": b"[9007199254740993, 9223372036854775808, -0, 18446744073709551616]",
        "json: numbers at the edge": b"[1e308, 4.9e-324, 2.2250738585072011e-308, 1e400]",
        "json: many digits": b"123456789012345678901234567890.12345678901234567890e-20",
        "json: an empty key": b'{"":1,"\\u0000":2}',
        "json: white space": b' \t\r\n{ "a" : 1 , "b" : [ ] } ',
        "json: cut": b'{"a":[1,2',
        "json: more behind": b"{}x",
        "json: not JSON": b"{'a': NaN, // no\n}",
        "json: deep": b"[" * 33 + b"]" * 33,
        "json: a long key": b'{"' + b"k" * 257 + b'":1}',
        "json: a byte order mark": b"\xef\xbb\xbf1",
        "json: not UTF-8": b'{"a":"\xff"}',
        "form: values": b"v=5.0&v2=-3&v3=x&v4=+1",
        "form: escapes": b"v=%2B5&v2=%e2%82%ac&v3=%&v4=%4g",
        "form: odd": b"&&v==1&=v&v&vv=1&V=2",
        "form: numbers of other kinds": b"v=nan&v2=1_0&v3=0x1&v4=inf",
        "form: a state": b"health=OK&load=0.5&up=10&n=%D9%A1",
        "binary": bytes(range(32)),
    }


def journal() -> Cases:
    # kind, channel and length of the tag as characters: 0x05 is kind 1 (JSON), 0x06 a form and so on.
    return {
        "readings": b'\x05\x01\x00{"a":1}\n\x05\x01\x00{"a":2,"b":"x"}\n\x06\x02\x00v=1&v2=x',
        "a tag": b'\x05\x01\x05north{"a":1}\n\x05\x01\x05south{"a":2}',
        "a column of two kinds": b'\x05\x01\x00{"a":1}\n\x05\x01\x00{"a":"x"}\n\x05\x01\x00{"a":true}\n\x05\x01\x00{"a":[1]}',
        "refused ones between": b'\x05\x01\x00{"a":1}\n\x05\x01\x00{"a":\n\x06\x01\x00x=1\n\x05\x01\x00{"a":3}',
        "binary, a state, a note": b"\x07\x01\x00\x01\x02\x03\n\x08\x01\x00a=1\n\x09\x01\x00note\n\x05\x01\x001",
        "many streams": b"\x05\x01\x00{%b}" % b",".join(b'"s%d":%d' % (i, i) for i in range(45)),
        "text": b'\x05\x01\x00{"a":"%b"}' % (b"x" * 600) * 2,
    }


def written() -> Journal:
    made = Journal(Ring(64, 512, 16_384), Schema(), Limits(payload_bytes_max=2_000), 4_096)
    made.append(1, PayloadKind.JSON, 7, 1, b"", b'{"a":1,"b":"x"}')
    made.append(2, PayloadKind.FORM, 7, 1, b"tag", b"v=1&v2=x")
    made.append(3, PayloadKind.BINARY, 8, 2, b"", b"\x00\xff")
    made.append(4, PayloadKind.STATE, 8, 2, b"", b"a=1")
    made.append(5, PayloadKind.NOTE, 0, 0, b"", encode_note(1, BYTES[0][0]))
    return made


def entries() -> Cases:
    found: Cases = {"nothing": b""}
    for kind, content in ((1, b'{"a":[1]}'), (2, b"v=1"), (3, b"\x00"), (4, b"a=1"), (5, b"note")):
        made = Journal(Ring(64, 512, 16_384), Schema(), Limits(payload_bytes_max=2_000), 4_096)
        made.append(1, PayloadKind(kind), 7, 1, b"" if kind == 5 else b"t", content)
        found[f"one of kind {kind}"] = body_of(made)
    found["one of every kind"] = body_of(written())
    found["a channel that no registry has"] = (
        found["one of kind 1"][:12] + b"\xff" * 4 + found["one of kind 1"][16:]
    )
    found["half an entry"] = found["one of every kind"][:-3]
    return found


def body_of(made: Journal) -> bytes:
    batch = made.take_batch()
    assert batch is not None
    return bytes(batch.buffer[48 : 48 + batch.body_bytes])


def record(lsn: int, first: int, last: int, body: bytes) -> bytes:
    from storage.wal import HEADER

    head = HEADER.pack(MAGIC, 1, 0, len(body), 0, lsn, first, last, last - first, LOG_ID)
    return (head + body).ljust(-(-(48 + len(body)) // 8) * 8, b"\0")


def segments() -> Cases:
    body = entries()["one of every kind"]
    one, two = record(1, 0, 3, body), record(2, 3, 6, body)
    return {
        "one record": repaired(one),
        "two records": repaired(one + two),
        "two records in two segments": repaired(one) + repaired(two),
        "a torn record": repaired(one + two)[:-9],
        "a record that is missing": repaired(one + record(3, 6, 9, body)),
        "a record of another log": one + two,
        "rows that do not follow": repaired(one + record(2, 4, 7, body)),
        "a record without entries": repaired(record(1, 0, 0, b"")),
        "a checksum that is wrong": repaired(one)[:-1] + b"\xff" + repaired(two),
        "zeros": bytes(96),
    }


def notes() -> Cases:
    return {"a text that is not UTF-8": bytes.fromhex("92 01 92 0f a2 d6 fa")} | {
        f"{type(note).__name__} {number}": encode_note(number + 1, note)
        for number, (note, _) in enumerate(BYTES)
    }


def times() -> Cases:
    texts = (
        "2026-01-02", "2026-01-02 03:04", "2026-01-02T03:04:05", "2026-01-02 03:04:05.678901234", "2026-03-08 02:30",
        "2026-11-01 01:30", "2026-04-05 01:45", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05+09:00", "0001-01-01",
        "9999-12-31 23:59:59", "2026-02-29", "2026-01-02 24:00", " 2026-01-02 ", "2026-1-2", "1969-12-31 23:59:59.999999",
        "2026-01-02 03:04:05-2359", "2026-01-02 03:04:05+2400", "\u0662\u0660\u0662\u0666", "last", "",
    )  # fmt: skip
    return {text or "nothing": text.encode() for text in texts}


LANGUAGES = {
    "mqtt": mqtt, "http": http, "websocket": websocket, "tls": tls, "properties": properties_blocks, "filters": filters,
    "payload": payload, "journal": journal, "entries": entries, "segments": segments, "notes": notes, "times": times,
}  # fmt: skip


def main() -> None:
    for language, make in LANGUAGES.items():
        directory = ROOT / language
        directory.mkdir(parents=True, exist_ok=True)
        written: dict[str, bytes] = {}
        for title, data in make().items():
            if len(data) > CASE_BYTES_MAX or data in written.values():
                continue
            name = name_of(title) or "bytes"
            while name in written:
                name += "+"
            written[name] = data
        for name, data in written.items():
            (directory / name).write_bytes(data)
        print(f"{language}: {len(written)}")


if __name__ == "__main__":
    main()
