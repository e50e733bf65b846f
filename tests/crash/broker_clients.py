"""MQTT 3.1.1 clients of a crash trial, on plain sockets: each keeps to the standard with what it must remember.

Their state is that of a persistent session and outlives every socket. A publisher sends again what was not acknowledged,
PUBLISH with DUP or PUBREL, in its order [MQTT-4.4.0-1]. A subscriber knows a QoS 2 message that comes again by its packet id.
"""

import socket
import struct
from dataclasses import dataclass, field
from typing import Self

READ_S = 10.0


def text(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    size = len(body)
    return bytes([first]) + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + body


def reply(first: int, packet_id: int) -> bytes:
    return struct.pack(">BBH", first, 2, packet_id)


class Line:
    """A socket that speaks packets. ConnectionError when the other side is gone."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(READ_S)
        self._replies = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> tuple[int, bytes]:
        """First byte and body."""
        first = self._exactly(1)[0]
        size = shift = 0
        while True:
            byte = self._exactly(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = self._replies.read(size)
        if len(data) < size:
            raise ConnectionResetError
        return data

    def connect(self, client_id: bytes, user: bytes, token: bytes) -> bool:
        """With a session to keep; whether it was there."""
        self.send(packet(0x10, b"\x00\x04MQTT\x04\xc0\x00\x3c" + text(client_id) + text(user) + text(token)))
        first, body = self.read()
        assert (first, body[1]) == (0x20, 0), (first, body)
        return bool(body[0])


@dataclass
class Publisher:
    """What one device has sent.

    Attributes:
        sent: how many messages; they are numbered from 0.
        open: by packet id, in the order of sending: the number, and whether PUBREC came.
        acknowledged: those whose PUBACK or PUBCOMP came.
    """

    device: str
    qos: int
    sent: int = 0
    open: dict[int, tuple[int, bool]] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    _last_id: int = 0

    def new(self, topic: bytes) -> bytes:
        """The next message."""
        while True:
            self._last_id = self._last_id % 65_535 + 1
            if self._last_id not in self.open:
                break
        self.open[self._last_id] = self.sent, False
        self.sent += 1
        return self._publish(topic, self._last_id, dup=False)

    def again(self, topic: bytes) -> bytes:
        """What a new connection begins with."""
        return b"".join(
            reply(0x62, packet_id) if is_received else self._publish(topic, packet_id, dup=True)
            for packet_id, (_, is_received) in self.open.items()
        )

    def _publish(self, topic: bytes, packet_id: int, *, dup: bool) -> bytes:
        number = self.open[packet_id][0]
        payload = b'{"n":%d,"text":"%s"}' % (number, b"x" * (number % 50))
        return packet(0x30 | dup << 3 | self.qos << 1, text(topic) + struct.pack(">H", packet_id) + payload)

    def take(self, first: int, body: bytes) -> bytes:
        """An acknowledgement; what is to be answered."""
        packet_id = int.from_bytes(body[:2], "big")
        if first == 0x50:
            assert self.qos == 2
            self.open[packet_id] = self.open[packet_id][0], True
            return reply(0x62, packet_id)
        assert first == (0x40 if self.qos == 1 else 0x70), hex(first)
        number, is_received = self.open.pop(packet_id)
        assert is_received == (self.qos == 2)
        self.acknowledged.add(number)
        return b""


@dataclass
class Subscriber:
    """What one client was given.

    Attributes:
        arrived: by device: payloads of deliveries, a repeated one of QoS 2 once.
        open: QoS 2 messages between PUBLISH and PUBREL.
    """

    client_id: str
    qos: int
    arrived: dict[str, list[bytes]] = field(default_factory=dict)
    open: dict[int, bytes] = field(default_factory=dict)

    def take(self, first: int, body: bytes) -> bytes:
        """A packet; what is to be answered."""
        if first == 0x62:
            self.open.pop(int.from_bytes(body, "big"), None)
            return reply(0x70, int.from_bytes(body, "big"))
        assert first >> 4 == 3, hex(first)
        end = 2 + int.from_bytes(body[:2], "big")
        device = body[2:end].rpartition(b"/")[2].decode()
        qos, packet_id, payload = first >> 1 & 3, int.from_bytes(body[end : end + 2], "big"), body[end + 2 :]
        assert qos, "QoS 0, and it was published with more"
        if qos == 2:
            known = self.open.setdefault(packet_id, body)
            if known is not body:
                assert known == body, f"{self.client_id}: packet id {packet_id} for another message"
                return reply(0x50, packet_id)
        self.arrived.setdefault(device, []).append(payload)
        return reply(0x40 if qos == 1 else 0x50, packet_id)
