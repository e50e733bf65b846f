"""REST while nothing can be written: the registry is locked by another process, or the disk is full."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.disk import DiskFullError
from storage.registry import Registry
from tests.query.filled_store import FilledStore

CHANGES: list[tuple[str, str, Any, int]] = [
    ("POST", "/v2/channel/9", {"channel_name": "x"}, 201),
    ("PUT", "/v2/channel/1", {"channel_name": "x"}, 200),
    ("DELETE", "/v2/channel/2", {}, 200),
    ("POST", "/v2/device/new", {"enabled": True}, 201),
    ("PUT", "/v2/device/a", {"location": "x"}, 200),
    ("DELETE", "/v2/device/b", {}, 200),
    ("PUT", "/v2/user", {"user_alias": "x"}, 200),
]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[FilledStore]:
    house = FilledStore(tmp_path / "data", ("a", "b"))
    yield house
    house.close()


def everything(house: FilledStore) -> list[Any]:
    seen = [house.get(path) for path in ("/v2/user", "/v2/device", "/v2/channel")]
    for status, reply in seen:
        assert status == 200
        for row in reply:
            row.pop("storage", None)
    return seen


def check_refused_and_then_done(house: FilledStore, free: Callable[[], None]) -> None:
    before = everything(house)
    for method, path, body, _ in CHANGES:
        status, reply = house.send(method, path, body)
        assert (status, reply["error"]) == (503, "UNAVAILABLE"), (method, path)
    assert everything(house) == before
    free()
    for method, path, body, wanted in CHANGES:
        assert house.send(method, path, body)[0] == wanted, (method, path)


def test_a_locked_registry_can_be_read_but_not_changed(house: FilledStore, tmp_path: Path) -> None:
    house.store.registry._database.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "data" / "registry.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    check_refused_and_then_done(house, lambda: other.execute("ROLLBACK") and None)
    other.close()


def test_a_full_disk_changes_nothing(house: FilledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_registry: Registry) -> None:
        raise DiskFullError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "_begin", full)
        check_refused_and_then_done(house, patch.undo)
