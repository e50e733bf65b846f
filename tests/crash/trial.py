"""One crash trial: load over MQTT and HTTP, kill -9 at a random moment, start again, compare.

Every client sends a numbered sequence on its own device and remembers which numbers were acknowledged. After the restart
the channel must hold, per device: every acknowledged number exactly once per send, nothing that was never sent, in
the order of sending. A number that was sent but not acknowledged may be there once or not at all.

    python -m tests.crash.trial --trials 200 --seed 1
"""

import argparse
import contextlib
import http.client
import json
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemon import Daemon

MQTT_CLIENTS = 4
HTTP_CLIENTS = 2
WINDOW = 20
SEAL_INTERVALS_S = ("0.2", "3600")  # all the time, and never by itself


@dataclass
class Sender:
    """What one device sent and what was acknowledged, over all its connections."""

    device: str
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)


class Trial:
    """A data directory that lives through many crashes."""

    def __init__(self, directory: Path, seed: int) -> None:
        directory.mkdir()
        self.chance = random.Random(seed)
        self.daemon = Daemon(
            directory / "data",
            THINGSCALE_STORAGE_SEAL_INTERVAL_S=self.chance.choice(SEAL_INTERVALS_S),
            THINGSCALE_STORAGE_SEGMENT_BYTES=str(4 << 20),
            THINGSCALE_STORAGE_PUBLISH_GRACE_S="1",
        )
        self.senders = [Sender(f"m{i}") for i in range(MQTT_CLIENTS)] + [
            Sender(f"h{i}") for i in range(HTTP_CLIENTS)
        ]
        self.stopping = threading.Event()

    def prepare(self) -> None:
        self.daemon.start()
        self.daemon.add_user()
        for number, sender in enumerate(self.senders):
            self.daemon.add_device(sender.device, number)

    # ---- the load

    def send_mqtt(self, sender: Sender) -> None:
        user, token = self.daemon.user["user_id"].encode(), self.daemon.user["device_token"].encode()
        topic = token + b"/json/" + sender.device.encode()
        fields = (sender.device.encode(), user, token)
        body = b"\x00\x04MQTT\x04\xc2\x00\x3c" + b"".join(
            struct.pack(">H", len(text)) + text for text in fields
        )
        waiting: dict[int, int] = {}
        packet_id = 0
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.daemon.port("mqtt"))) as client,
        ):
            client.settimeout(10)
            client.sendall(b"\x10" + bytes([len(body)]) + body)
            replies = client.makefile("rb")
            if replies.read(4) != b"\x20\x02\x00\x00":
                return
            while not self.stopping.is_set():
                burst = b""
                while len(waiting) < WINDOW:
                    packet_id = packet_id % 65535 + 1
                    payload = b'{"n":%d,"text":"%s"}' % (sender.sent, b"x" * (sender.sent % 50))
                    publish = struct.pack(">H", len(topic)) + topic + struct.pack(">H", packet_id) + payload
                    size = len(publish)
                    burst += (
                        b"\x32"
                        + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7]))
                        + publish
                    )
                    waiting[packet_id] = sender.sent
                    sender.sent += 1
                client.sendall(burst)
                for _ in range(WINDOW // 2):
                    reply = replies.read(4)
                    if len(reply) < 4:
                        return
                    sender.acknowledged.add(waiting.pop(int.from_bytes(reply[2:], "big")))
            while waiting:
                reply = replies.read(4)
                if len(reply) < 4:
                    return
                sender.acknowledged.add(waiting.pop(int.from_bytes(reply[2:], "big")))

    def send_http(self, sender: Sender) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port("http"), timeout=10)
        headers = {"X-DEVICETOKEN": self.daemon.user["device_token"], "X-DEVICEID": sender.device}
        if sender.device.endswith("1"):
            headers["Expect"] = "100-continue"  # not for the lane
        with contextlib.suppress(OSError, http.client.HTTPException):
            while not self.stopping.is_set():
                number = sender.sent
                sender.sent += 1
                connection.request("POST", "/post_v2/", json.dumps({"n": number, "text": "y"}), headers)
                reply = connection.getresponse()
                if reply.status == 200 and reply.read() == b"OK":
                    sender.acknowledged.add(number)
        connection.close()

    def publish_now(self) -> None:
        """Publishing goes on in some trials."""
        with contextlib.suppress(AssertionError, OSError):
            self.daemon.run("publish", "--now")

    # ---- one life

    def live_and_die(self) -> None:
        self.stopping.clear()
        threads = [
            threading.Thread(target=self.send_mqtt, args=(sender,)) for sender in self.senders[:MQTT_CLIENTS]
        ]
        threads += [
            threading.Thread(target=self.send_http, args=(sender,)) for sender in self.senders[MQTT_CLIENTS:]
        ]
        if self.chance.random() < 0.2:
            threads.append(threading.Thread(target=self.publish_now))
        for thread in threads:
            thread.start()
        time.sleep(self.chance.uniform(0.05, 0.9))
        self.daemon.kill()
        self.stopping.set()
        for thread in threads:
            thread.join()
        self.daemon.start()

    def check(self) -> dict[str, int]:
        """Compare everything; the counts. AssertionError names the first difference."""
        total = {"sent": 0, "acknowledged": 0, "present": 0}
        for number, sender in enumerate(self.senders):
            found = [(entry["value"]["n"], entry["value"]["text"]) for entry in self.daemon.stream(number)]
            numbers = [n for n, _ in found]
            assert len(set(numbers)) == len(numbers), f"{sender.device}: doubled: {doubled(numbers)}"
            lost = sender.acknowledged - set(numbers)
            assert not lost, f"{sender.device}: acknowledged and lost: {sorted(lost)[:10]}"
            assert numbers == sorted(numbers), f"{sender.device}: out of order"
            assert all(n < sender.sent for n in numbers), f"{sender.device}: never sent"
            text = "x" if sender.device.startswith("m") else "y"
            assert all(value == (text * (n % 50) if text == "x" else text) for n, value in found), (
                f"{sender.device}: changed"
            )
            total["sent"] += sender.sent
            total["acknowledged"] += len(sender.acknowledged)
            total["present"] += len(numbers)
        return total


def doubled(numbers: list[int]) -> list[int]:
    seen: set[int] = set()
    return [n for n in numbers if n in seen or seen.add(n)][:10]  # type: ignore[func-returns-value]


def run(trials: int, seed: int, directory: Path, lives: int = 10) -> dict[str, int]:
    """That many kills, on a new data directory every ``lives``; totals over all."""
    totals = {"trials": 0, "sent": 0, "acknowledged": 0, "present": 0}
    while totals["trials"] < trials:
        trial = Trial(directory / f"seed-{seed}-{totals['trials']}", seed + totals["trials"])
        trial.prepare()
        try:
            for _ in range(min(lives, trials - totals["trials"])):
                trial.live_and_die()
                counts = trial.check()
                totals["trials"] += 1
                if sys.stderr.isatty():
                    print(f"\r{totals['trials']}/{trials}", end="", file=sys.stderr)
            assert trial.daemon.stop() == 0
            trial.daemon.process.communicate()
        except BaseException:
            if trial.daemon.process.poll() is None:
                trial.daemon.kill()
            raise
        for name, count in counts.items():
            totals[name] += count
    return totals


def command(description: str | None, run: Callable[[int, int, Path], dict[str, int]]) -> None:
    """The command line of a crash suite; ``run`` is given the number of trials, a seed and a directory."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thingscale-crash-") as directory:
        began = time.monotonic()
        totals = run(arguments.trials, arguments.seed, Path(directory))
    print(json.dumps({**totals, "lost": 0, "doubled": 0, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    command(__doc__, run)
