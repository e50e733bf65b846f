"""The short form of ``make crash``."""

from pathlib import Path

from tests.crash import write_trial
from tests.crash.trial import run


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    totals = run(trials=8, seed=7, directory=tmp_path, lives=4)
    assert totals["trials"] == 8
    assert totals["acknowledged"] > 1000


def test_a_write_with_a_key_is_stored_once_whatever_dies_meanwhile(tmp_path: Path) -> None:
    totals = write_trial.run(trials=6, seed=7, directory=tmp_path, lives=3)
    assert totals["trials"] == 6
    assert totals["sent_again"] == 24
    assert totals["rows"] > 100
