"""The examples of aggregates and charts in docs/api.md, asked and compared with what the page shows."""

import json
import re
from pathlib import Path

import pytest

from tests.query.filled_store import FilledStore
from tests.query.test_api_page import PAGE

READINGS = [  # UTC; Berlin's clocks went from 02:00 to 03:00 at 01:00 UTC
    ("a", None, 10, {"temp": 4, "psi": 12}), ("b", None, 30, {"temp": 3}), ("a", None, 90, {"temp": 5}),
    ("a", "north", 190, {"temp": 9, "psi": 14}),
]  # fmt: skip
MIDNIGHT_UTC_US = 19_813 * 86_400_000_000
EXAMPLES = re.findall(
    r'```sh\ncurl "http://127.0.0.1:8080(/v2/stream[^?"]*)\?([^"]*)"[^\n]*\n```\n\n```(json|csv)\n(.*?)```',
    PAGE.read_text(),
    re.DOTALL,
)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("example", EXAMPLES, ids=[query for _, query, _, _ in EXAMPLES])
def test_an_example_is_answered_as_it_stands(tmp_path: Path, example: tuple[str, str, str, str]) -> None:
    path, query, shape, shown = example
    house = FilledStore(tmp_path / "data", ("a", "b"))
    for device, tag, minute, value in READINGS:
        house.append(value, MIDNIGHT_UTC_US + minute * 60_000_000, device, tag)
    house.commit()
    status, _, content = house.fetch(path, query)
    assert status == 200, content
    if shape == "json":
        assert list(json.loads(content)) == list(json.loads(shown))
        assert json.loads(content) == json.loads(shown)
    else:
        assert content.decode().replace("\r\n", "\n") == shown
    house.close()
