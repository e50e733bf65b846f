"""A registry that another process keeps locked: the command says so and ends."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.registry import file
from tests.thingscale.commands import done, refused


@pytest.fixture(autouse=True)
def _locked(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    done("user", "add", "--data", data)
    monkeypatch.setattr(file, "BUSY_MS", 20)
    database = sqlite3.connect(data / "registry.sqlite3", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    yield
    database.close()


@pytest.mark.parametrize("command", [("add",), ("add", "--json"), ("rotate", "U000001", "--api")])
def test_a_change_ends_with_a_message(data: Path, command: tuple[str, ...]) -> None:
    assert refused(1, "user", *command, "--data", data) == (
        f"{data / 'registry.sqlite3'} has been locked by another process for 0.02 s"
    )


def test_reading_needs_no_lock(data: Path) -> None:
    assert "U000001" in done("user", "list", "--data", data)
