"""The short form of ``make crash-broker``."""

from pathlib import Path

from tests.crash.broker_trial import run


def test_sessions_lose_and_double_nothing_by_kill_9(tmp_path: Path) -> None:
    totals = run(trials=4, seed=7, directory=tmp_path)
    assert totals["trials"] == 4
    assert totals["acknowledged"] == totals["sent"] > 100
