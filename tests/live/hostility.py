"""A hostile crowd for one port: ``python -m tests.live.hostility mqtt|http PORT SEED CONNECTIONS`` with a JSON on stdin.

Its messages are valid traffic, mutated by a seeded random source; its connections end in every way a connection can.
It runs in a process of its own, so that it does not slow down the honest clients of the test, and it says at the end
what it has done. The JSON on stdin names the user whose tokens its valid traffic has, and that user's device.
"""

import json
import random
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable

from tests.twins.mqtt_packets import PING, connect, packet, publish

OPEN_MAX = 64  # connections that are being talked to at a time
KEPT_MAX = 200  # connections that are never closed by this side before the end
TRICKLES = 30  # slow ones: a byte now and then
ENDLESS_BYTES_MAX = 4 << 20
ENDINGS = ("close", "reset", "half", "read", "keep")
ANNOUNCED = b"\xff\xff\xff\x7f"  # 256 MB, the most that a remaining length can say


def mqtt_streams(user: dict[str, str]) -> list[bytes]:
    """Valid MQTT, from CONNECT on; a keepalive of one second, so that who is kept is soon let go."""
    name, token = user["user_id"].encode(), user["device_token"].encode()
    topic = token + b"/json/" + user["device"].encode()
    hello = connect(b"crowd", name, token).replace(b"\x00\x3c", b"\x00\x01", 1)
    return [
        hello + publish(topic, b'{"a":1,"b":[2,{"c":"x"}]}', 0x30) * 5,
        hello + b"".join(publish(topic, b"%d" % i, 0x32, i) for i in range(1, 20)) + PING,
        hello + publish(topic, b"7", 0x34) + packet(0x62, b"\x00\x07") + b"\xe0\x00",
        hello + packet(0x82, b"\x00\x01\x00\x03a/b\x01") + packet(0xA2, b"\x00\x02\x00\x03a/b") + PING * 3,
        hello + publish(token + b"/state/" + user["device"].encode(), b"health=OK&load=1"),
        hello + publish(token + b"/binary/" + user["device"].encode(), bytes(range(256))),
        hello + publish(topic, b'"' + b"x" * 70_000 + b'"'),
    ]


def http_streams(user: dict[str, str]) -> list[bytes]:
    """Valid HTTP: lane and slow path of the connector, REST, pipelined."""
    fields = f"Host: h\r\nX-DEVICETOKEN: {user['device_token']}\r\nX-DEVICEID: {user['device']}\r\n".encode()
    rest = f"Host: h\r\nX-APITOKEN: {user['api_token']}\r\n".encode()
    plain = b"POST /post_v2/ HTTP/1.1\r\n" + fields + b"Content-Length: 17\r\n\r\n" + b'{"a":1,"b":[2,3]}'
    form = b"POST /post_v1/ HTTP/1.1\r\n" + fields + b"Content-Length: 8\r\n\r\nv=1&v2=2"
    chunks = b"5\r\n[1,2,\r\n2;x=y\r\n3]\r\n0\r\nX: y\r\n\r\n"
    chunked = b"POST /post_v2/ HTTP/1.1\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    get = b"GET /v2/stream/1 HTTP/1.1\r\n" + rest + b"X-ENDTIME: last\r\nX-PAGELIMIT: 5\r\n\r\n"
    put = b"PUT /v2/user HTTP/1.1\r\n" + rest + b'Content-Length: 14\r\n\r\n{"locale":"x"}'
    expect = b"POST /post/ HTTP/1.1\r\n" + fields + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nv=1"
    large = b"POST /post_v2/ HTTP/1.1\r\n" + fields + b'Content-Length: 60002\r\n\r\n"' + b"x" * 60_000 + b'"'
    return [plain * 5, form, chunked * 2, get, put, expect, plain + get + chunked + form, large]


def mutate(chance: random.Random, streams: list[bytes]) -> bytes:
    """One of the streams with a few things wrong, or nothing but noise."""
    data = bytearray(chance.choice(streams))
    for _ in range(chance.randrange(5)):
        begin = chance.randrange(len(data) + 1)
        end = min(len(data), begin + chance.randrange(1, 40))
        match chance.randrange(8):
            case 0 if begin < len(data):
                data[begin] ^= 1 << chance.randrange(8)
            case 1 if begin < len(data):
                data[begin] = chance.choice((0, 0x0A, 0x0D, 0x20, 0x7F, 0x80, 0xFF))
            case 2:
                del data[begin:end]
            case 3:
                data[begin:begin] = chance.randbytes(end - begin)
            case 4:
                data[begin:begin] = data[begin:end]
            case 5:
                data[begin:] = chance.choice(streams)[-(end - begin) :]
            case 6:
                del data[begin:]
            case _:
                data[begin:begin] = chance.choice(
                    (b"\r\n", b"9" * 30, b"\x00\x00", ANNOUNCED, b"\r\n\r\n", b": ")
                )
    return bytes(data) if chance.random() < 0.95 else chance.randbytes(chance.randrange(1, 3_000))


class Crowd:
    """See the module. All of it happens in one thread, turn by turn."""

    def __init__(self, speaks: str, port: int, seed: int, user: dict[str, str]) -> None:
        self.speaks = speaks
        self.address = ("127.0.0.1", port)
        self.chance = random.Random(seed)
        self.streams = mqtt_streams(user) if speaks == "mqtt" else http_streams(user)
        self.done: Counter[str] = Counter()
        self._open: deque[socket.socket] = deque()
        self._kept: deque[socket.socket] = deque()
        self._trickles: list[tuple[socket.socket, bytes]] = []
        self._endless: tuple[socket.socket, int] | None = None

    def run(self, connections: int) -> dict[str, int]:
        while self.done["connections"] < connections:
            client = self._connect()
            self._send(client, mutate(self.chance, self.streams))
            self._open.append(client)
            if len(self._open) > OPEN_MAX:
                self._end(self._open.popleft(), self.chance.choice(ENDINGS))
            self._trickle()
            if self.done["connections"] % 5 == 0:
                self._go_on_endlessly()
            if self.done["connections"] % 25 == 0:
                self._announce()
        return dict(self.done)

    def close(self) -> None:
        everybody = [*self._open, *self._kept, *(client for client, _ in self._trickles)]
        for client in everybody:
            client.close()

    def _connect(self) -> socket.socket:
        client = socket.create_connection(self.address, 10)
        client.setblocking(False)
        self.done["connections"] += 1
        return client

    def _send(self, client: socket.socket, data: bytes) -> int:
        """Whatever the socket takes at once; -1 when the daemon has closed it."""
        try:
            return client.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return -1

    def _end(self, client: socket.socket, how: str) -> None:
        self.done[how] += 1
        match how:
            case "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            case "half":
                self._quietly(lambda: client.shutdown(socket.SHUT_WR))
                return self._keep(client)
            case "read":
                self._quietly(lambda: client.recv(100))
            case "keep":
                return self._keep(client)
        client.close()
        return None

    def _keep(self, client: socket.socket) -> None:
        self._kept.append(client)
        if len(self._kept) > KEPT_MAX:
            self._kept.popleft().close()

    def _quietly(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError:
            self.done["closed by the daemon"] += 1

    def _trickle(self) -> None:
        """Slowloris: one byte more for everybody; who was let go or is through begins anew."""
        while len(self._trickles) < TRICKLES:
            self._trickles.append((self._connect(), self.chance.choice(self.streams)))
        for i, (client, rest) in enumerate(self._trickles):
            if self._send(client, rest[:1]) < 0 or len(rest) == 1:
                client.close()
                self._trickles[i] = self._connect(), self.chance.choice(self.streams)
                self.done["slow ones that ended"] += 1
            else:
                self._trickles[i] = client, rest[1:]

    def _go_on_endlessly(self) -> None:
        """A head that never ends; counts how far the daemon listened."""
        if self._endless is None:
            client = self._connect()
            self._send(
                client,
                b"POST /post_v2/ HTTP/1.1\r\nHost: h\r\n" if self.speaks == "http" else b"\x10\xff\xff\x07",
            )
            self._endless = client, 0
        client, sent = self._endless
        taken = self._send(client, b"X-Endless: header\r\n" * 200)
        self._endless = client, sent + max(taken, 0)
        if taken < 0 or sent > ENDLESS_BYTES_MAX:
            self.done["endless heads refused" if taken < 0 else "endless heads taken"] += 1
            client.close()
            self._endless = None

    def _announce(self) -> None:
        """256 MB announced, a little sent; the daemon must hang up, or say no, at once."""
        with self._connect() as client:
            client.settimeout(10)
            if self.speaks == "mqtt":
                greeting = self.streams[0][: 2 + self.streams[0][1]] if self.chance.random() < 0.5 else b""
                client.sendall(greeting + b"\x30" + ANNOUNCED + b"\x00\x05topic")
            else:
                client.sendall(b"POST /post_v2/ HTTP/1.1\r\nHost: h\r\nContent-Length: 268435456\r\n\r\n{")
            try:
                while client.recv(65_536):
                    pass
            except ConnectionResetError:
                pass
            self.done["announcements refused"] += 1


def main() -> None:
    speaks, port, seed, connections = sys.argv[1:]
    crowd = Crowd(speaks, int(port), int(seed), json.load(sys.stdin))
    print(json.dumps(crowd.run(int(connections))))
    crowd.close()


if __name__ == "__main__":
    main()
