"""A stream's kind is the same wherever it is told: the first one, JSON only if there is no other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.query.filled_store import FilledStore


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", ("a",))
    yield house
    house.close()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([None, 1.5, "x"], "number"),
        ([[1], "x", 2], "text"),
        ([{"deep": 1}], "json"),
        ([None], "json"),
        ([True, None, 3], "boolean"),
        ([2**60, 1], "integer"),
    ],
)
def test_the_description_and_the_results_say_the_same_kind(
    house: FilledStore, values: list[Any], kind: str
) -> None:
    for i, value in enumerate(values):
        house.append({"t": value}, 10**15 + i, "a")
    house.commit()
    status, (described,) = house.get("/v2/channel/1/stream")
    assert (status, described["kind"]) == (200, kind)
    status, reply = house.get("/v2/stream/1", {"start": "2000-01-01", "end": "2999-01-01", "meta": "true"})
    assert (status, reply["streams"]["t"]["kind"]) == (200, kind)
