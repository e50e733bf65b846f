"""A data directory with one channel of generated readings, for benches of queries.

The rows go the way that real ones go (journal, ring, seal, publish), only their times are made up: an even spread over
the days up to now. The last, open day stays in hot files, as it would in a running daemon.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

from storage.catalog_change import Cursor
from storage.kinds import PayloadKind
from storage.registry import User
from storage.store import Store
from thingscale.config import load
from thingscale.settings import store_options

DAY_US = 86_400_000_000
PAYLOADS = 4_096
SEAL_ROWS = 500_000
BATCH_ROWS = 2_000


def payloads(seed: int = 1, streams: int = 4) -> list[bytes]:
    """So many streams of decimals, four at most, as sensors send them."""
    source = random.Random(seed)
    made = []
    for i in range(PAYLOADS):
        wave = math.sin(i * 2 * math.pi / PAYLOADS)
        values = {
            "temp": round(21 + 5 * wave + source.gauss(0, 0.05), 2),
            "humidity": round(50 + 10 * wave + source.gauss(0, 0.2), 1),
            "pressure": round(1013 + wave + source.gauss(0, 0.1), 1),
            "battery": round(3.7 + source.gauss(0, 0.01), 3),
        }
        made.append(json.dumps(dict(list(values.items())[:streams])).encode())
    return made


def fill(
    data: Path, rows: int, days: int, devices: int, end_us: int | None = None, *, has_narrow: bool = False
) -> User:
    """Make the channel 1 of a new user in an empty directory; rows in order of time, devices in turn.

    Args:
        has_narrow: also channel 2, with as many rows of one stream.
    """
    data.mkdir(parents=True, exist_ok=True)
    store = Store.open(data, store_options(load(environment={})))
    try:
        user = store.registry.add_user(0, user_alias="bench", locale="Asia/Tokyo")
        channels = [store.registry.add_channel(user.user_id, 1, "Bench")]
        if has_narrow:
            channels.append(store.registry.add_channel(user.user_id, 2, "Narrow"))
        ids = [
            store.registry.add_device(
                user.user_id, f"sensor-{i:03d}", 0, enabled=True, channel=channels[0].id
            ).id
            for i in range(devices)
        ]
        end_us = end_us or time.time_ns() // 1000
        for channel, bodies in zip(channels, (payloads(), payloads(streams=1)), strict=False):
            _append(store, channel.id, ids, bodies, rows, (end_us - days * DAY_US, end_us))
        return user
    finally:
        store.close()


def _append(
    store: Store, channel_id: int, ids: list[int], bodies: list[bytes], rows: int, span_us: tuple[int, int]
) -> None:
    """The rows of a channel, evenly over the span; published as far as its days have closed."""
    (start_us, end_us), append, journal = span_us, store.journal.append, store.journal
    step = (end_us - start_us) / rows

    def commit() -> None:
        batch = journal.take_batch()
        if batch is not None:
            journal.release(batch)

    for i in range(rows):
        at_us = start_us + int(i * step)
        body = bodies[i % len(bodies)]
        if append(at_us, PayloadKind.JSON, ids[i % len(ids)], channel_id, b"", body) < 0:
            raise RuntimeError("the journal refused a generated reading")
        if i % BATCH_ROWS == BATCH_ROWS - 1:
            commit()
            if store.ring.durable - store.catalog.cursor.seq >= SEAL_ROWS:
                store.apply(store.seal(Cursor(0, store.ring.durable)))
                for each, day in store.publisher.due(at_us, 0):
                    store.apply(store.publisher.publish(each, day))
    commit()
    store.apply(store.seal(Cursor(0, store.ring.durable)))
    for each, day in store.publisher.due(end_us, 0):
        store.apply(store.publisher.publish(each, day))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--devices", type=int, default=50)
    options = parser.parse_args()
    user = fill(options.data, options.rows, options.days, options.devices)
    print(json.dumps({"user_id": user.user_id, "api_token": user.api_token}))


if __name__ == "__main__":
    main()
