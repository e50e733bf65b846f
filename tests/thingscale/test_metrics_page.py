"""docs/metrics.md tells the truth: every metric with its type, labels and meaning, and what the labels may be."""

import re
from pathlib import Path

from thingscale.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def rows_of_the_page() -> list[tuple[str, str, tuple[str, ...], str]]:
    rows = re.findall(r"^\| `(thingscale_\w+)` \| (\w+) \|(.*?)\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), words) for name, kind, labels, words in rows]


def test_the_page_has_every_metric_as_it_is_shown() -> None:
    assert rows_of_the_page() == [(name, kind, labels, words) for name, kind, words, labels in METRICS]


def test_the_page_explains_every_label() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE))
    assert explained == {label for *_, labels in METRICS for label in labels}


def test_the_page_advises_on_metrics_that_there_are() -> None:
    suffixes = r"(?:_total|_bucket|_sum|_count)?"
    for name in re.findall(r"`(thingscale_\w+)`", PAGE.read_text()):
        assert any(re.fullmatch(known + suffixes, name) for known, *_ in METRICS), name
