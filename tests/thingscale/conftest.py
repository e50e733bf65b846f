"""What every test of the command line begins with: no settings from outside, a data directory that is not there yet."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings nor the terminal of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("THINGSCALE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"
