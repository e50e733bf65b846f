"""Crash trials of the broker: publishers and subscribers with sessions, kill -9 at a random moment, the same data again.

Every publisher numbers its messages; after a restart, and whenever it lost its connection, it goes on with its session. Some
subscribers are away for a life, and every client loses its connection now and then. When all has settled, what each subscriber was
given and what the channel holds must be every message: of a QoS 2 publisher exactly once, in a subscriber's case if it has subscribed
with QoS 2; otherwise at least once; in the order of sending, by first arrivals.

    python -m tests.crash.broker_trial --trials 200 --seed 1
"""

import contextlib
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.crash.broker_clients import Line, Publisher, Subscriber, packet, text
from tests.crash.trial import command
from tests.daemon import Daemon

WINDOW = 20
SETTLE_S = 30.0
LIVES = 5
SEAL_INTERVALS_S = ("0.2", "3600")


class Trial:
    """A data directory, and clients that live through many crashes of its daemon."""

    def __init__(self, directory: Path, seed: int) -> None:
        directory.mkdir()
        self.chance = random.Random(seed)
        self.daemon = Daemon(
            directory / "data",
            THINGSCALE_STORAGE_SEAL_INTERVAL_S=self.chance.choice(SEAL_INTERVALS_S),
            THINGSCALE_STORAGE_SEGMENT_BYTES=str(4 << 20),
            THINGSCALE_MQTT_QUEUED_MESSAGES_MAX="1000000",
            THINGSCALE_MQTT_QUEUED_BYTES_MAX=str(1 << 30),
        )
        self.publishers = [Publisher(f"q{qos}-{i}", qos) for qos in (1, 2) for i in range(2)]
        self.subscribers = [Subscriber(f"s{qos}-{i}", qos) for qos in (1, 2) for i in range(2)]
        self.stopping = threading.Event()
        self.settling = threading.Event()
        self.errors: list[BaseException] = []

    def prepare(self) -> None:
        self.daemon.start()
        self.daemon.add_user()
        self.user, self.token = (self.daemon.user[name].encode() for name in ("user_id", "device_token"))
        for number, publisher in enumerate(self.publishers):
            self.daemon.add_device(publisher.device, number)
        for publisher in self.publishers:
            with self.line() as line:
                assert not line.connect(publisher.device.encode(), self.user, self.token)
        for subscriber in self.subscribers:
            with self.line() as line:
                assert not line.connect(subscriber.client_id.encode(), self.user, self.token)
                asked = text(self.token + b"/json/+") + bytes([subscriber.qos])
                line.send(packet(0x82, b"\x00\x01" + asked))
                assert line.read() == (0x90, bytes([0, 1, subscriber.qos]))

    def line(self) -> Line:
        return Line(self.daemon.port("mqtt"))

    # ---- the clients' threads

    def keep_on(self, client_id: str, talk: Callable[[Line, random.Random], None], seed: int) -> None:
        """Connect again and again, until it is time to stop; ``talk`` returns when it wants to be cut off or is done."""
        chance = random.Random(seed)
        try:
            while not self.stopping.is_set():
                with contextlib.suppress(ConnectionError), self.line() as line:
                    assert line.connect(client_id.encode(), self.user, self.token), f"{client_id}: no session"
                    talk(line, chance)
        except BaseException as error:
            self.errors.append(error)

    def publish(self, publisher: Publisher, line: Line, chance: random.Random) -> None:
        topic = self.token + b"/json/" + publisher.device.encode()
        line.send(publisher.again(topic))
        while publisher.open or not self.stopping.is_set():
            burst = b""
            if not self.settling.is_set():
                while len(publisher.open) < WINDOW:
                    burst += publisher.new(topic)
            elif not publisher.open:
                self.stopping.wait(0.02)
                continue
            line.send(burst)
            if chance.random() < 0.005:
                return
            for _ in range(min(len(publisher.open), chance.randint(1, WINDOW))):
                answer = publisher.take(*line.read())
                if answer:
                    line.send(answer)

    def subscribe(self, subscriber: Subscriber, line: Line, chance: random.Random) -> None:
        line.socket.settimeout(None)
        while not self.stopping.is_set():
            line.send(subscriber.take(*line.read()))
            if chance.random() < 0.0005:
                return

    def threads(self) -> list[threading.Thread]:
        threads = []
        for publisher in self.publishers:

            def publish(line: Line, chance: random.Random, publisher: Publisher = publisher) -> None:
                self.publish(publisher, line, chance)

            threads.append(
                threading.Thread(
                    target=self.keep_on, args=(publisher.device, publish, self.chance.getrandbits(32))
                )
            )
        for subscriber in self.subscribers:
            if not self.settling.is_set() and self.chance.random() < 0.25:
                continue  # away for this life

            def subscribe(line: Line, chance: random.Random, subscriber: Subscriber = subscriber) -> None:
                self.subscribe(subscriber, line, chance)

            threads.append(
                threading.Thread(
                    target=self.keep_on, args=(subscriber.client_id, subscribe, self.chance.getrandbits(32))
                )
            )
        return threads

    # ---- one life

    def live_and_die(self, *, settles: bool) -> None:
        """Load, kill -9, start again; ``settles``: then wait until everything has arrived, and kill once more."""
        self.stopping.clear()
        self.settling.clear()
        self._live(lambda: time.sleep(self.chance.uniform(0.05, 0.9)))
        if settles:
            self.stopping.clear()
            self.settling.set()
            self._live(self.settle)

    def _live(self, wait: Callable[[], None]) -> None:
        threads = self.threads()
        for thread in threads:
            thread.start()
        try:
            wait()
        finally:
            self.stopping.set()
            self.daemon.kill()
            for thread in threads:
                thread.join()
        if self.errors:
            raise self.errors[0]
        self.daemon.start()

    def settle(self) -> None:
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end and not self.errors:
            if not any(publisher.open for publisher in self.publishers) and all(
                self.missing(subscriber, publisher) == 0
                for subscriber in self.subscribers
                for publisher in self.publishers
            ):
                time.sleep(0.2)  # what is given twice comes now
                return
            time.sleep(0.05)

    @staticmethod
    def missing(subscriber: Subscriber, publisher: Publisher) -> int:
        return publisher.sent - len(set(subscriber.arrived.get(publisher.device, ())))

    def check(self) -> dict[str, int]:
        """Compare everything; the counts. AssertionError names the first difference."""
        totals = {"sent": 0, "acknowledged": 0, "delivered": 0, "stored": 0}
        for number, publisher in enumerate(self.publishers):
            assert not publisher.open, (
                f"{publisher.device}: never acknowledged: {list(publisher.open.items())[:10]}"
            )
            stored = [entry["value"]["n"] for entry in self.daemon.stream(number)]
            compare(f"stored of {publisher.device}", stored, publisher.sent, is_once=publisher.qos == 2)
            totals["sent"] += publisher.sent
            totals["acknowledged"] += len(publisher.acknowledged)
            totals["stored"] += len(stored)
            for subscriber in self.subscribers:
                arrived = [json.loads(payload) for payload in subscriber.arrived.get(publisher.device, ())]
                assert all(each["text"] == "x" * (each["n"] % 50) for each in arrived), "changed on the way"
                numbers = [each["n"] for each in arrived]
                is_once = publisher.qos == subscriber.qos == 2
                compare(
                    f"{subscriber.client_id} from {publisher.device}",
                    numbers,
                    publisher.sent,
                    is_once=is_once,
                )
                totals["delivered"] += len(numbers)
        return totals


def compare(what: str, numbers: list[int], sent: int, *, is_once: bool) -> None:
    """Every number is there, first arrivals are in order, and ``is_once`` says that there are no others."""
    firsts = list(dict.fromkeys(numbers))
    lost = set(range(sent)) - set(firsts)
    assert not lost, f"{what}: lost: {sorted(lost)[:10]} of {sent}"
    assert firsts == list(range(sent)), f"{what}: out of order or never sent"
    if is_once:
        seen: set[int] = set()
        doubled = [n for n in numbers if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
        assert not doubled, f"{what}: doubled: {doubled[:10]}"


def run(trials: int, seed: int, directory: Path) -> dict[str, int]:
    """That many kills under load, on a new data directory every LIVES; totals over all."""
    totals = {"trials": 0, "sent": 0, "acknowledged": 0, "delivered": 0, "stored": 0}
    while totals["trials"] < trials:
        trial = Trial(directory / f"seed-{seed}-{totals['trials']}", seed + totals["trials"])
        trial.prepare()
        try:
            lives = min(LIVES, trials - totals["trials"])
            for life in range(lives):
                settles = life == lives - 1 or trial.chance.random() < 0.4
                trial.live_and_die(settles=settles)
                totals["trials"] += 1
                if settles:
                    counts = trial.check()
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


if __name__ == "__main__":
    command(__doc__, run)
