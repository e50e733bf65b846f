"""A running daemon's ports under mutated conversations, with a witness on each port: ``python -m tests.fuzz.live``.

What the crowd sends are the corpus's conversations, cut, spliced, flipped and reordered, over TCP, within TLS, within
WebSocket and within both, where the layer around may be what goes wrong; its connections end in every way. It is a user
of its own that may use any topic. The witnesses are another user's ordinary clients: each publishes numbered readings,
waits for every acknowledgement, and for its own message back where it has subscribed. Nothing of the crowd may show: no
witness is disturbed, every reading that was acknowledged is stored once and in order, the daemon lives, logs no fault,
and keeps its memory.
"""

import argparse
import contextlib
import http.client
import queue
import re
import socket
import ssl
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import paho.mqtt.client as paho

from tests.daemon import Daemon
from tests.fuzz.corpus import cases
from tests.fuzz.mqtt_targets import stream_of
from tests.fuzz.mutation import mutate, mutate_packets, split_packets
from tests.ingest.test_transports import OPENING, frame
from tests.live.honest import ANSWER_S, Honest
from thingscale.devcert import make_development_files

MQTT_WAYS, HTTP_WAYS = ("mqtt", "mqtts", "ws", "wss"), ("http", "https")
WAYS = (*MQTT_WAYS, *HTTP_WAYS)
TLS_WAYS = ("mqtts", "wss", "https")
KEPT_MAX = 60  # connections that the crowd leaves open
SEND_S = 2.0
LISTEN_S = 0.005
# The slowest acknowledgement that a witness may see: the machine's, not the crowd's, share of it is most.
PROMPT_S = 10.0
GROWTH_BYTES_MAX = 96 << 20
SHORT_S = "2"


def context_of(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))


def mqtt_witness(way: str, ca: Path) -> Callable[[Honest], None]:
    def talk(client: Honest) -> None:
        user = client.daemon_process.user
        device = paho.Client(
            paho.CallbackAPIVersion.VERSION2, f"witness-{way}", protocol=paho.MQTTv311,
            transport="websockets" if way.startswith("ws") else "tcp",
        )  # fmt: skip
        device.username_pw_set(user["user_id"], user["device_token"])
        if way in TLS_WAYS:
            device.tls_set_context(context_of(ca))
        came: queue.Queue[bytes] = queue.Queue()
        lost: list[object] = []
        device.on_disconnect = lambda *_: lost.append(1)
        device.on_message = lambda _, __, message: came.put(message.payload)
        device.on_connect = lambda *_: device.subscribe(client.topic, 1)
        ready: queue.Queue[int] = queue.Queue()
        device.on_subscribe = lambda *_: ready.put(1)
        device.connect("127.0.0.1", client.daemon_process.port(way))
        device.loop_start()
        try:
            ready.get(timeout=ANSWER_S)
            for (number,) in client.numbers():
                message = device.publish(client.topic, str(number), 1)
                message.wait_for_publish(ANSWER_S)
                assert message.is_published(), f"{number} was not acknowledged"
                assert came.get(timeout=ANSWER_S) == b"%d" % number
                assert not lost, "the connection was lost"
        finally:
            device.disconnect()
            device.loop_stop()

    talk.__name__ = f"witness on {way}"
    return talk


def http_witness(way: str, ca: Path) -> Callable[[Honest], None]:
    def talk(client: Honest) -> None:
        port = client.daemon_process.port(way)
        if way in TLS_WAYS:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=ANSWER_S, context=context_of(ca)
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
        for (number,) in client.numbers():
            connection.request("POST", "/post_v2/", str(number), client.fields)
            reply = connection.getresponse()
            assert (reply.status, reply.read()) == (200, b"OK")
        connection.close()

    talk.__name__ = f"witness on {way}"
    return talk


class Crowd:
    """The hostile user's clients, one connection after the other."""

    def __init__(self, daemon: Daemon, ca: Path, seed: int) -> None:
        self.daemon = daemon
        self.chance = Random(seed)
        self.context = context_of(ca)
        self.mqtt = [stream_of(data) for data in cases("mqtt").values()]
        self.http = [
            data.replace(b"/healthz", chosen)
            for data in cases("http").values()
            for chosen in (b"/healthz", b"/v2/stream/1")
        ]
        self.websocket = list(cases("websocket").values())
        self.tls = list(cases("tls").values())
        self.done: Counter[str] = Counter()
        self.kept: deque[socket.socket] = deque()

    def bytes_for(self, way: str) -> bytes:
        """What is said within TLS, if there is TLS."""
        chance = self.chance
        if way in HTTP_WAYS:
            data = chance.choice(self.http)
            return data if chance.random() < 0.1 else mutate(chance, data, self.http)
        data = chance.choice(self.mqtt)
        if chance.random() < 0.9:
            data = (mutate if chance.random() < 0.3 else mutate_packets)(chance, data, self.mqtt)
        if way in ("ws", "wss"):
            pieces = split_packets(data) or [b""]
            data = OPENING + b"".join(frame(2, piece) for piece in pieces if len(piece) < 65_536)
            if chance.random() < 0.5:
                data = mutate(chance, data, self.websocket)
        return data

    def visit(self, way: str) -> None:
        """One connection."""
        chance = self.chance
        client = socket.create_connection(("127.0.0.1", self.daemon.port(way)), SEND_S)
        client.settimeout(SEND_S)
        self.done[way] += 1
        try:
            data = self.bytes_for(way)
            if way in TLS_WAYS and chance.random() < 0.8:
                plain = client
                client = self.context.wrap_socket(client, server_hostname="localhost")
                del plain
            elif way in TLS_WAYS:
                data = mutate(chance, chance.choice(self.tls), self.tls)
            for piece in self.pieces_of(data):
                client.sendall(piece)
            client.settimeout(LISTEN_S)
            while chance.random() < 0.7 and client.recv(65_536):
                pass
        except (OSError, ssl.SSLError):
            self.done["cut short"] += 1
        self.end(client, chance.choice(("close", "reset", "half", "keep", "keep")))

    def pieces_of(self, data: bytes) -> list[bytes]:
        cuts = sorted(self.chance.randrange(len(data) + 1) for _ in range(self.chance.randrange(4)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if b > a]

    def end(self, client: socket.socket, how: str) -> None:
        self.done[how] += 1
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        if how == "half":
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        if how in ("close", "reset"):
            client.close()
            return
        self.kept.append(client)
        while len(self.kept) > KEPT_MAX:
            self.kept.popleft().close()

    def close(self) -> None:
        for client in self.kept:
            client.close()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it."""

    connections: Counter[str]
    readings: dict[str, int]
    slowest_s: float
    growth_bytes: int


def height(daemon: Daemon, which: str = "VmRSS") -> int:
    """The daemon's memory in bytes; VmHWM is its height so far."""
    found = re.search(rf"{which}:\s+([0-9]+) kB", Path(f"/proc/{daemon.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def run_live(directory: Path, seed: int, seconds: float, connections_max: int) -> Result:
    """Fuzz a daemon's ports for so long, or with so many connections. Raises AssertionError for what may not be."""
    made = make_development_files(directory, ["localhost", "127.0.0.1"], force=True)
    daemon = Daemon(
        directory / "data",
        THINGSCALE_TLS_CERTIFICATE=str(made.certificate),
        THINGSCALE_TLS_KEY=str(made.key),
        THINGSCALE_MQTT_TOPICS="any",
        THINGSCALE_LIMITS_CONNECT_TIMEOUT_S=SHORT_S,
        THINGSCALE_LIMITS_PARTIAL_TIMEOUT_S=SHORT_S,
        THINGSCALE_LIMITS_HTTP_IDLE_S=SHORT_S,
        THINGSCALE_STORAGE_RING_TEXT_BYTES=str(16 << 20),
        **{f"THINGSCALE_SERVER_{way.upper()}": "127.0.0.1:0" for way in ("mqtts", "ws", "wss", "https")},
    )
    with daemon:
        hostile = daemon.add_user()
    daemon.environment["THINGSCALE_MQTT_ANONYMOUS"] = hostile["user_id"]
    with daemon:
        daemon.add_user()
        daemon.wait_until(lambda: daemon.request("GET", "/v2/user")[0] == 200)
        witnesses = [
            Honest(daemon, number, (mqtt_witness if way in MQTT_WAYS else http_witness)(way, made.ca))
            for number, way in enumerate(WAYS, 1)
        ]
        before = height(daemon)
        for witness in witnesses:
            witness.start()
        crowd = Crowd(daemon, made.ca, seed)
        try:
            end = time.monotonic() + seconds
            for number in range(connections_max):
                if time.monotonic() > end:
                    break
                assert daemon.process.poll() is None, f"the daemon died:\n{daemon.log.read_text()[-3_000:]}"
                crowd.visit(WAYS[number % len(WAYS)])
        finally:
            crowd.close()
            for witness in witnesses:
                witness.stop()
        assert [(witness.name, witness.problem) for witness in witnesses if witness.problem] == []
        for witness in witnesses:
            stored = [int(value) for value in witness.stored()]
            assert stored == list(range(witness.acknowledged)), witness.name
            assert witness.acknowledged > 0, witness.name
        slowest_s = max(witness.slowest_s for witness in witnesses)
        growth = height(daemon, "VmHWM") - before
        log = daemon.log.read_text()
        assert "Traceback" not in log, log[-3_000:]
        assert slowest_s < PROMPT_S
        assert growth < GROWTH_BYTES_MAX, f"{growth >> 20} MiB more"
    return Result(crowd.done, {one.name: one.acknowledged for one in witnesses}, slowest_s, growth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    print(f"live ports: seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        result = run_live(Path(name), arguments.seed, arguments.seconds, sys.maxsize)
    print(f"connections: {dict(result.connections)}")
    print(f"readings of the witnesses, all of them stored once: {result.readings}")
    print(
        f"slowest acknowledgement {result.slowest_s:.2f} s, {result.growth_bytes >> 20} MiB more memory at its height"
    )


if __name__ == "__main__":
    main()
