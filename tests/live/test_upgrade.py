"""A data directory of an older daemon: the running daemon upgrades it, and refuses what is newer than itself."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from storage.registry import FORMAT
from tests.daemon import Daemon
from tests.storage.test_registry_upgrade import FORMAT_1, format_of

API_TOKEN = "F12EB4AC89D7C66C541EB5C0513A7DA5"
DEVICE_TOKEN = "1BF611906E834BEA9EA5C5CCC3B9DDF0"


def test_the_daemon_upgrades_at_its_start_and_the_old_tokens_and_devices_go_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(FORMAT_1, data / "registry.sqlite3")
    with Daemon(data) as daemon:
        assert format_of(data / "registry.sqlite3") == FORMAT
        daemon.user = {"api_token": API_TOKEN, "device_token": DEVICE_TOKEN}
        status, (device,), _ = daemon.request("GET", "/v2/device")
        assert (status, device["device_id"], device["mapped_ch"]) == (200, "pump-7", 1)
        assert device["state"]["load"] == 5.5
        assert daemon.post("pump-7", '{"temp":21.5}') == (200, "OK")
        assert [entry["value"] for entry in daemon.stream()] == [{"temp": 21.5}]


def test_a_command_upgrades_where_no_daemon_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(FORMAT_1, data / "registry.sqlite3")
    assert "U000002" in Daemon(data).run("user", "list")
    assert format_of(data / "registry.sqlite3") == FORMAT


def test_neither_daemon_nor_command_touch_what_is_newer(tmp_path: Path) -> None:
    shutil.copy(FORMAT_1, tmp_path / "registry.sqlite3")
    database = sqlite3.connect(tmp_path / "registry.sqlite3")
    database.execute("PRAGMA user_version = 99")
    database.close()
    for command in (("serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"), ("user", "list")):
        done = subprocess.run(
            [sys.executable, "-m", "thingscale", *command, "--data", str(tmp_path)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert f"registry.sqlite3 has format 99, this daemon reads {FORMAT}" in done.stderr
    assert format_of(tmp_path / "registry.sqlite3") == 99
