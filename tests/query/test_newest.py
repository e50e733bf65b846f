"""query/newest.py: what is kept is the answer as long as it is, while rows come, are sealed and leave the ring."""

import random
from pathlib import Path

import pytest

from query.newest import EVERYTHING
from query.plan import Selection
from tests.query.filled_store import FilledStore

RING_ROWS = 64
DEVICES = ("a", "b", "c")


@pytest.mark.parametrize("seed", range(4))
def test_the_newest_are_the_newest_whoever_asks_how_often(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    house = FilledStore(tmp_path / "data", DEVICES, RING_ROWS)
    channel = house.channels[0]
    device = house.store.registry.device_by_name(house.user.user_id, "b")
    assert device is not None
    one = Selection(EVERYTHING.start_us, EVERYTHING.end_us, devices=(("b", device),))
    answered = 0
    for _ in range(60):
        for _ in range(source.choice((0, 0, 1, 1, 2, 9, 70))):
            at_us = 1_700_000_000_000_000 + len(house.readings)
            house.append({"n": len(house.readings)}, at_us, source.choice(DEVICES))
        house.commit()
        if source.random() < 0.2:
            house.seal()
        for selection in (EVERYTHING, one):
            count = source.choice((1, 2, 5, 20))
            found = house.backend.newest.from_memory(channel, selection, count)
            if found is None:
                continue
            answered += 1
            of = [each for each in house.readings if selection is EVERYTHING or each.device == "b"]
            _, table = found
            assert sorted(table.column("seq").to_pylist()) == [each.seq for each in of[-count:]]
            assert sorted(table.column("n").to_pylist()) == [each.value["n"] for each in of[-count:]]
    house.close()
    assert answered > 40


def test_the_ring_is_walked_back_to_the_first_that_counts(tmp_path: Path) -> None:
    house = FilledStore(tmp_path / "data", DEVICES, RING_ROWS)
    for number in range(9):
        house.append({"n": number}, 1_700_000_000_000_000 + number, DEVICES[number % 3])
    house.commit()
    channel, ring = house.channels[0].id, house.store.ring
    a = house.store.registry.device_by_name(house.user.user_id, "a")
    assert a is not None
    assert ring.newest(channel, 9, first=5).tolist() == [8, 7, 6, 5]
    assert ring.newest(channel, 9, device=a, first=3).tolist() == [6, 3]
    house.close()
