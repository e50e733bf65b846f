"""The command line: publish, config, version, and its exit codes 0 (done), 1 (failed), 2 (wrong usage)."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.thingscale.commands import done, refused, run
from thingscale.config import SETTINGS
from thingscale.control import address, open_listener

# ---- publish, config, version


def test_publish_without_now_is_wrong_usage_and_opens_nothing(data: Path) -> None:
    message = refused(2, "publish", "--data", data)
    assert message == "days are published by themselves; --now publishes what there is"
    assert not data.exists()


@pytest.fixture
def asked(data: Path) -> Iterator[Callable[[bytes], Future[bytes]]]:
    """A daemon on this data directory that answers one request with these bytes; what it was asked."""
    data.mkdir()
    with ThreadPoolExecutor(1) as thread, open_listener(address(data)) as listener:
        listener.settimeout(10)

        def answer(reply: bytes) -> bytes:
            with listener.accept()[0] as client:
                request = client.makefile("rb").readline()
                client.sendall(reply)
            return request

        yield lambda reply: thread.submit(answer, reply)


def test_publish_asks_the_daemon_that_runs_and_prints_its_reply(
    data: Path, asked: Callable[[bytes], Future[bytes]]
) -> None:
    request = asked(b'{"ok": true, "files": 2}\n')
    printed = done("publish", "--now", "--channel", 7, "--user", "U000001", "--data", data)
    assert json.loads(printed) == {"ok": True, "files": 2}
    assert json.loads(request.result()) == {"do": "publish", "channel": 7, "user": "U000001"}


@pytest.mark.parametrize(("reply", "message"), [
    (b'{"error": "the disk is full"}\n', "the disk is full"),
    (b"", "the daemon closed the control socket without an answer"),
])  # fmt: skip
def test_publish_fails_with_what_the_daemon_says(
    data: Path, asked: Callable[[bytes], Future[bytes]], reply: bytes, message: str
) -> None:
    request = asked(reply)
    assert refused(1, "publish", "--now", "--data", data) == message
    assert json.loads(request.result()) == {"do": "publish", "channel": None, "user": None}


def test_the_configuration_is_a_table_of_every_setting(data: Path) -> None:
    lines = done("config", "--data", data).splitlines()
    assert lines[0].split() == ["setting", "value", "from", "meaning"]
    assert [line.split()[0] for line in lines[1:]] == [setting.path for setting in SETTINGS]
    assert not data.exists()


def test_the_configuration_as_json_has_values_and_origins(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "thingscale.toml"
    file.write_text('[log]\nlevel = "error"\n')
    printed: dict[str, Any] = json.loads(done("config", "--data", data, "--config", file, "--json"))
    assert printed["values"] == {
        **{setting.path: setting.default for setting in SETTINGS},
        "server.data": str(data),
        "log.level": "error",
    }
    assert {path: origin for path, origin in printed["origins"].items() if origin != "default"} == {
        "server.data": "flag",
        "log.level": str(file),
    }


def test_version_is_the_installed_version() -> None:
    assert done("version") == metadata.version("thingscale") + "\n"


# ---- exit codes


@pytest.mark.parametrize(
    "command",
    [
        ("serve",),
        ("publish", "--now"),
        ("config",),
        ("user", "add"),
        ("user", "list"),
        ("user", "rotate", "U000001", "--api"),
    ],
)
def test_a_wrong_configuration_is_wrong_usage_of_every_command(
    data: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "thingscale.toml"
    file.write_text("[limits]\nbytes = 1\n")
    assert refused(2, *command, "--data", data, "--config", file) == "limits.bytes: no such setting"
    assert refused(2, *command, "--config", tmp_path / "none").endswith("none: No such file or directory")
    assert not data.exists()


def test_a_wrong_variable_is_wrong_usage(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINGSCALE_LOG_LEVEL", "loud")
    assert refused(2, "user", "list", "--data", data).startswith("log.level: expected one of debug, ")


def test_a_data_directory_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "File exists" in refused(1, "user", "add", "--data", tmp_path / "file")
    assert "Not a directory" in refused(1, "user", "add", "--data", tmp_path / "file" / "below")


def test_the_registry_of_another_version_fails(data: Path) -> None:
    done("user", "add", "--data", data)
    database = sqlite3.connect(data / "registry.sqlite3")
    database.execute("PRAGMA user_version = 99")
    database.close()
    assert "has format 99" in refused(1, "user", "list", "--data", data)


def test_a_registry_that_is_no_database_fails(data: Path) -> None:
    data.mkdir()
    (data / "registry.sqlite3").write_text("Dear diary, " * 100)
    assert "not a database" in refused(1, "user", "list", "--data", data)


@pytest.mark.parametrize("arguments", [("nonsense",), ("user", "add", "--colour", "x"), ("user", "rotate")])
def test_a_command_that_does_not_exist_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.slow
def test_the_module_is_the_command_and_passes_its_exit_codes_on(data: Path) -> None:
    def python(*arguments: object) -> tuple[int, str]:
        command = [sys.executable, "-m", "thingscale", *map(str, arguments)]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return finished.returncode, finished.stdout

    code, output = python("user", "add", "--data", data, "--json")
    assert (code, json.loads(output)["user_id"]) == (0, "U000001")
    assert python("user", "rotate", "nobody", "--api", "--data", data) == (1, "")
    assert python("user", "rotate", "U000001", "--data", data) == (2, "")
