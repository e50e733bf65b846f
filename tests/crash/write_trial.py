"""Crash trials of writes over REST with a key: kill -9 at a random moment, start again, send again what was not answered.

Each writer sends numbered rows, in requests of one row to several log batches. What was answered is there exactly once;
what was not is sent again with the same key until it is, and then is there exactly once, too, however often the daemon
died meanwhile, and in the order of the body.

    python -m tests.crash.write_trial --trials 200 --seed 1
"""

import contextlib
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.crash.trial import SEAL_INTERVALS_S, command
from tests.daemon import Daemon

WRITERS = 4
ROWS = (1, 3, 50, 2_000, 6_000)


@dataclass
class Writer:
    """One channel's writer: the request in hand, and how many rows were answered."""

    channel: int
    chance: random.Random
    number: int = 0
    answered: int = 0
    sent_again: int = 0
    body: bytes = b""
    rows: int = 0

    def next(self) -> None:
        self.rows = self.chance.choice(ROWS)
        rows = [{"value": {"n": self.answered + i, "text": "x" * (i % 60)}} for i in range(self.rows)]
        self.body = json.dumps(rows).encode()
        self.number += 1


class Trial:
    """A data directory that lives through many crashes."""

    def __init__(self, directory: Path, seed: int) -> None:
        directory.mkdir()
        self.chance = random.Random(seed)
        self.daemon = Daemon(
            directory / "data",
            THINGSCALE_STORAGE_SEAL_INTERVAL_S=self.chance.choice(SEAL_INTERVALS_S),
            THINGSCALE_STORAGE_SEGMENT_BYTES=str(4 << 20),
            THINGSCALE_STORAGE_BATCH_BYTES_MAX=str(self.chance.choice([1 << 18, 1 << 20])),
        )
        self.writers = [Writer(i, random.Random(seed * 100 + i)) for i in range(WRITERS)]
        self.stopping = threading.Event()

    def prepare(self) -> None:
        self.daemon.start()
        self.daemon.add_user()
        for writer in self.writers:
            self.daemon.request("POST", f"/v2/channel/{writer.channel}")
            writer.next()

    def send(self, writer: Writer) -> bool:
        """The request in hand, perhaps for the second time; whether it was answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port("http"), timeout=30)
        headers = {"X-APITOKEN": self.daemon.user["api_token"], "Idempotency-Key": f"request-{writer.number}"}
        try:
            connection.request("POST", f"/v2/stream/{writer.channel}", writer.body, headers)
            reply = connection.getresponse()
            found = reply.status, json.loads(reply.read())
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        assert found == (201, {"stored": writer.rows}), found
        writer.answered += writer.rows
        writer.next()
        return True

    def keep_sending(self, writer: Writer) -> None:
        while not self.stopping.is_set() and self.send(writer):
            pass

    def live_and_die(self) -> None:
        self.stopping.clear()
        threads = [threading.Thread(target=self.keep_sending, args=(writer,)) for writer in self.writers]
        for thread in threads:
            thread.start()
        time.sleep(self.chance.uniform(0.02, 0.7))
        self.daemon.kill()
        self.stopping.set()
        for thread in threads:
            thread.join()
        self.daemon.start()

    def check(self) -> None:
        """Everything that was answered, and of the request in hand a beginning; then that one again."""
        for writer in self.writers:
            numbers = [entry["value"]["n"] for entry in self.daemon.stream(writer.channel)]
            assert numbers == list(range(len(numbers))), (
                f"channel {writer.channel}: lost, doubled or out of order"
            )
            assert writer.answered <= len(numbers) <= writer.answered + writer.rows
            writer.sent_again += 1
            assert self.send(writer)
            numbers = [entry["value"]["n"] for entry in self.daemon.stream(writer.channel)]
            assert numbers == list(range(writer.answered)), f"channel {writer.channel}: after sending again"


def run(trials: int, seed: int, directory: Path, lives: int = 10) -> dict[str, int]:
    """That many kills, on a new data directory every ``lives``; totals over all."""
    totals = {"trials": 0, "rows": 0, "requests": 0, "sent_again": 0}
    while totals["trials"] < trials:
        trial = Trial(directory / f"seed-{seed}-{totals['trials']}", seed + totals["trials"])
        trial.prepare()
        with contextlib.ExitStack() as stack:
            stack.callback(trial.daemon.kill)
            for _ in range(min(lives, trials - totals["trials"])):
                trial.live_and_die()
                trial.check()
                totals["trials"] += 1
        totals["rows"] += sum(writer.answered for writer in trial.writers)
        totals["requests"] += sum(writer.number - 1 for writer in trial.writers)
        totals["sent_again"] += sum(writer.sent_again for writer in trial.writers)
    return totals


if __name__ == "__main__":
    command(__doc__, run)
