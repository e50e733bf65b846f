"""Live viewers: how long a datapoint takes from a device's send until each viewer has it, and what ingest notices.

    python -m benchmarks.bench_live [--viewers 500] [--per-s 1000] [--seconds 20]

One MQTT client publishes with QoS 1 at a steady rate; the time of sending stands in each datapoint. Viewers are sockets
of this process, read as they become ready; one in ten is timed for every datapoint, all are counted. First without
viewers, for the acknowledgements' times. Sender, viewers and daemon share the machine.
"""

import argparse
import contextlib
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine

TIMED_EVERY = 10
PACE_S = 0.01
DEVICE = b"d"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Milliseconds; ``events`` are all that all viewers got, ``wanted`` all that they should have got."""

    viewers: int
    per_s: int
    sent: int
    ack_p50_ms: float
    ack_p99_ms: float
    seen_p50_ms: float | None
    seen_p99_ms: float | None
    seen_max_ms: float | None
    events: int
    wanted: int


@contextlib.contextmanager
def daemon(data: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """A daemon with one user, device and channel: its ready line, and the user."""
    limits = {"THINGSCALE_LIMITS_REST_PER_S": "0", "THINGSCALE_LIVE_VIEWERS_PER_USER_MAX": "10000"}
    command = [sys.executable, "-m", "thingscale", "serve", "--data", str(data)]
    process = subprocess.Popen(
        [*command, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **limits},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        add = [sys.executable, "-m", "thingscale", "user", "add", "--json", "--data", str(data)]
        user = json.loads(subprocess.run(add, check=True, capture_output=True, text=True).stdout)
        for path, body in (("channel/1", b"{}"), ("device/d", b'{"enabled":true,"mapped_ch":1}')):
            with connect(ready["http"]) as client:
                head = f"POST /v2/{path} HTTP/1.1\r\nHost: x\r\nX-APITOKEN: {user['api_token']}\r\n"
                client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                assert b" 201 " in client.recv(4_096)
        yield ready, user
    finally:
        process.terminate()
        process.communicate()


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


class Sender:
    """Publishes at a steady rate and times the acknowledgements."""

    def __init__(self, ready: dict[str, Any], user: dict[str, Any]) -> None:
        fields = (DEVICE, user["user_id"].encode(), user["device_token"].encode())
        self._topic = fields[2] + b"/json/" + DEVICE
        body = b"\x00\x04MQTT\x04\xc2\x00\x00" + b"".join(
            struct.pack(">H", len(each)) + each for each in fields
        )
        self._socket = connect(ready["mqtt"])
        self._socket.sendall(b"\x10" + bytes([len(body)]) + body)
        assert self._socket.recv(4) == b"\x20\x02\x00\x00"
        self._sent_at: dict[int, int] = {}
        self.acks_ms: list[float] = []
        self.sent = 0

    def run(self, per_s: int, seconds: float) -> None:
        reader = threading.Thread(target=self._read)
        reader.start()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            burst = b""
            while self.sent < passed * per_s:
                packet_id = self.sent % 65_535 + 1
                now = time.monotonic_ns()
                self._sent_at[packet_id] = now
                payload = b'{"t":%d,"temp":21.5,"humidity":50}' % now
                packet = (
                    struct.pack(">H", len(self._topic)) + self._topic + struct.pack(">H", packet_id) + payload
                )
                size = len(packet)
                head = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
                burst += b"\x32" + head + packet
                self.sent += 1
            self._socket.sendall(burst)
            time.sleep(PACE_S)
        reader.join()
        self._socket.close()

    def _read(self) -> None:
        self._socket.settimeout(3)
        waiting = b""
        with contextlib.suppress(TimeoutError):
            while received := self._socket.recv(65_536):
                now = time.monotonic_ns()
                waiting += received
                whole = len(waiting) // 4 * 4
                for at in range(2, whole, 4):
                    sent_at = self._sent_at.pop(int.from_bytes(waiting[at : at + 2], "big"))
                    self.acks_ms.append((now - sent_at) / 1e6)
                waiting = waiting[whole:]


class Viewers:
    """Many viewers on one selector, read by a thread."""

    def __init__(self, ready: dict[str, Any], user: dict[str, Any], count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self.events = 0
        self.seen_ms: list[float] = []
        for number in range(count):
            client = connect(ready["http"])
            token = user["api_token"]
            client.sendall(f"GET /v2/live HTTP/1.1\r\nHost: x\r\nX-APITOKEN: {token}\r\n\r\n".encode())
            assert client.recv(4_096).startswith(b"HTTP/1.1 200")
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ, number)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        rest: dict[int, bytes] = {}
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.2):
                number: int = key.data
                data = key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
                now = time.monotonic_ns()
                if number % TIMED_EVERY:
                    text = rest.get(number, b"") + data
                    self.events += text.count(b"event: datapoint")
                    rest[number] = text[-15:] if not text.endswith(b"\n\n") else b""
                    continue
                text = rest.get(number, b"") + data
                *events, rest[number] = text.split(b"\n\n")
                for event in events:
                    at = event.find(b'"t":')
                    if at > 0:
                        self.events += 1
                        self.seen_ms.append((now - int(event[at + 4 : event.index(b",", at)])) / 1e6)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]


def run(viewers: int, per_s: int, seconds: float) -> Outcome:
    """One run on a new data directory."""
    with tempfile.TemporaryDirectory() as directory, daemon(Path(directory) / "data") as (ready, user):
        watching = Viewers(ready, user, viewers)
        sender = Sender(ready, user)
        sender.run(per_s, seconds)
        watching.stop()
    acks, seen = np.array(sender.acks_ms), np.array(watching.seen_ms)
    p50, p99, most = np.percentile(seen, [50, 99, 100]).round(1).tolist() if len(seen) else [None] * 3
    return Outcome(
        viewers, per_s, sender.sent, *np.percentile(acks, [50, 99]).round(2).tolist(), p50, p99, most,
        watching.events, sender.sent * viewers,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--viewers", type=int, default=500)
    parser.add_argument("--per-s", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    print(json.dumps(machine.describe(Path(tempfile.gettempdir()))))
    for viewers in (0, arguments.viewers):
        outcome = run(viewers, arguments.per_s, arguments.seconds)
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
