"""The short form of ``make crash``."""

from pathlib import Path

from tests.crash.trial import run


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    totals = run(trials=12, seed=7, directory=tmp_path, lives=6)
    assert totals["trials"] == 12
    assert totals["acknowledged"] > 1000
