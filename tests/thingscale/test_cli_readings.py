"""``thingscale export``, ``sql`` and ``tail``: with a daemon that runs, and on a data directory without one."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.filesize import decimal

from tests.daemon import Daemon
from tests.thingscale.commands import done, refused, run

READINGS = 60


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Channel 3 has READINGS of pump-7, every other one with a tag; channel 4 has one text."""
    with Daemon(tmp_path_factory.mktemp("cli") / "data") as daemon:
        daemon.add_user("--locale", "Asia/Tokyo")
        daemon.add_device("pump-7", 3)
        daemon.add_device("a,b", 4)
        for number in range(READINGS):
            tag = {"X-TAGNAME": "north"} if number % 2 else {}
            daemon.post("pump-7", json.dumps({"temp": number, "psi": number / 2}), **tag)
        daemon.post("a,b", '"hello"')
        yield daemon


@pytest.fixture
def daemon(filled: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    monkeypatch.setenv("THINGSCALE_URL", f"http://127.0.0.1:{filled.port('http')}")
    monkeypatch.setenv("THINGSCALE_TOKEN", filled.user["api_token"])
    return filled


# ---- export


def test_an_export_without_more_words_is_csv_on_stdout(daemon: Daemon) -> None:
    head, *rows = done("export", 3).splitlines()
    assert head == "seq,at,device,tag,temp,psi"
    assert [float(row.split(",")[4]) for row in rows] == list(range(READINGS))


def test_an_export_is_in_the_format_that_the_name_of_the_file_says(daemon: Daemon, tmp_path: Path) -> None:
    assert done("export", 3, "-o", tmp_path / "x.parquet") == ""
    assert pq.read_table(tmp_path / "x.parquet")["temp"].to_pylist() == list(range(READINGS))
    done("export", 3, "-o", tmp_path / "x.arrow")
    with pa.ipc.open_stream((tmp_path / "x.arrow").read_bytes()) as reader:
        assert reader.read_all()["temp"].to_pylist() == list(range(READINGS))
    done("export", 3, "-o", tmp_path / "x.ndjson")
    rows = [json.loads(line) for line in (tmp_path / "x.ndjson").read_text().splitlines()]
    assert [row["value"]["temp"] for row in rows] == list(range(READINGS))
    done("export", 3, "-o", tmp_path / "x.json")
    assert len(json.loads((tmp_path / "x.json").read_text())["stream"]) == READINGS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.arrow", "x.json", "x.ndjson", "x.parquet"]


def test_an_export_has_what_is_asked_for(daemon: Daemon) -> None:
    narrow = ("--tag", "north", "--device", "pump-7", "--stream", "psi", "--zone", "UTC", "--sort", "desc")
    rows = [json.loads(line) for line in done("export", 3, "--format", "ndjson", *narrow).splitlines()]
    assert [row["value"] for row in rows] == [{"psi": number / 2} for number in range(READINGS - 1, 0, -2)]
    assert all(row["at"].endswith("+00:00") for row in rows)
    assert done("export", 3, "--json", "--end", "2020-01-01") == ""
    assert done("export", 3, "--json", "--start", "2999-01-01") == ""
    (row,) = (json.loads(line) for line in done("export", 3, 4, "--json", "--device", "a,b").splitlines())
    assert (row["channel"], row["value"]) == (4, "hello")


def test_an_export_that_fails_leaves_no_file_and_the_old_one_alone(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("old")
    assert refused(1, "export", 9, "-o", file).startswith("NO_CHANNEL: ")
    assert refused(1, "export", 3, "--start", "soon", "-o", file).startswith("BAD_TIME_FORMAT: ")
    assert refused(2, "export", 3, "--format", "xml").startswith("--format: expected one of csv")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.csv", "old")]
    assert "nowhere" in refused(1, "export", 3, "-o", tmp_path / "nowhere" / "x.csv")


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "json", "arrow"])
def test_on_a_terminal_an_export_and_an_import_say_how_far_they_are(
    daemon: Daemon, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"x.{suffix}"
    assert "100%" in on_a_terminal("export", "3", "-o", str(file))
    if suffix != "json":
        daemon.request("POST", "/v2/channel/5")
        assert "100%" in on_a_terminal("import", "5", str(file))


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "arrow", "parquet"])
def test_on_a_terminal_rows_are_told(daemon: Daemon, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"x.{suffix}"
    for arguments in (("export", "3"), ("sql", "SELECT * FROM channel_3")):
        told = on_a_terminal(*arguments, "-o", str(file))
        assert f"x.{suffix}: {READINGS} rows, {decimal(file.stat().st_size)}" in told


def on_a_terminal(*arguments: str) -> str:
    """What a command that succeeds shows on stderr, which is a terminal."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "thingscale", *arguments],
        stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # that is how the end of the last writer looks
        while piece := os.read(ours, 4_096):
            told += piece
    os.close(ours)
    assert command.wait(60) == 0, told
    return told.decode()


# ---- sql


def test_sql_is_answered_as_a_table(daemon: Daemon) -> None:
    output = done("sql", "SELECT device, count(*) AS n, max(temp) AS hottest FROM channel_3 GROUP BY device")
    assert [line.split() for line in output.splitlines()] == [
        ["device", "n", "hottest"],
        ["pump-7", str(READINGS), str(float(READINGS - 1))],
    ]


def test_sql_takes_parameters_and_gives_every_format(daemon: Daemon, tmp_path: Path) -> None:
    select = "SELECT temp FROM channel_3 WHERE temp < ? AND device = ? ORDER BY temp"
    given = ("-p", "3", "-p", "pump-7")
    told = done("sql", select, *given, "--json")
    assert [json.loads(line)["temp"] for line in told.splitlines()] == [0, 1, 2]
    assert done("sql", select, *given, "--format", "csv").splitlines()[0] == "temp"
    done("sql", select, *given, "-o", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet")["temp"].to_pylist() == [0, 1, 2]
    assert json.loads(done("sql", select, *given, "--format", "json"))["row_count"] == 3


def test_a_table_that_is_cut_says_so(daemon: Daemon) -> None:
    result = run("sql", "SELECT temp FROM channel_3", "--limit", 5)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 6)
    assert result.stderr == "thingscale: there are more rows than 5; --limit\n"


def test_sql_that_is_wrong_is_told_in_one_piece(daemon: Daemon) -> None:
    result = run("sql", "SELECT nothing FROM channel_3")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("thingscale: BAD_SQL: ")
    assert run("sql", "DROP TABLE channel_3").stderr.startswith("thingscale: SQL_FORBIDDEN: ")
    assert refused(2, "sql", "SELECT 1", "--json", "--format", "csv") == "--json is --format ndjson"


# ---- tail


def tailing(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "THINGSCALE_URL": f"http://127.0.0.1:{daemon.port('http')}",
        "THINGSCALE_TOKEN": daemon.user["api_token"],
    }
    command = [sys.executable, "-m", "thingscale", "tail", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_a_tail_shows_what_was_and_what_comes_each_once_until_ctrl_c(daemon: Daemon) -> None:
    daemon.add_device("t", 5)
    daemon.add_device("u", 6)
    daemon.post("t", '{"n": 0}')
    daemon.post("t", '{"n": 1}')
    process = tailing(daemon, "5", "6", "-n", "1", "--json")
    assert process.stdout is not None
    found: list[dict[str, Any]] = [json.loads(process.stdout.readline())]
    for number in range(2, 150, 2):
        daemon.post("t", json.dumps({"n": number}))
        daemon.post("u", json.dumps({"n": number + 1}))
    found += [json.loads(process.stdout.readline()) for _ in range(148)]
    process.send_signal(signal.SIGINT)
    rest, words = process.communicate(timeout=30)
    assert (process.returncode, rest, words) == (0, "", "")
    assert [each["value"]["n"] for each in found] == list(range(1, 150))
    assert {each["channel"] for each in found} == {5, 6}


def test_a_tail_for_people_is_a_line_of_words(daemon: Daemon) -> None:
    daemon.add_device("v", 7)
    daemon.post("v", '{"n": 1, "text": "a\\u001b[2J"}', **{"X-TAGNAME": "north"})
    process = tailing(daemon, "7")
    assert process.stdout is not None
    told = process.stdout.readline().split()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert told[1:] == ["7", "v/north", "n=1", "text=a\\x1b[2J"]


def test_a_tail_of_a_channel_that_is_not_there_fails(daemon: Daemon) -> None:
    assert refused(1, "tail", 99).startswith("NO_CHANNEL: ")


# ---- a data directory without a daemon


def test_a_data_directory_is_read_and_changed_without_a_daemon(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Daemon(data) as daemon:
        user = daemon.add_user()["user_id"]
        daemon.add_device("pump-7", 3)
        daemon.post("pump-7", '{"temp": 61.5}')
        in_use = refused(1, "export", 3, "--data", data, "--user", user)
        assert f"(pid {daemon.process.pid})" in in_use
        assert in_use.endswith("speak to it with --url and --token")
        whole = daemon.run("user", "list", "--json")
    assert len(whole.splitlines()) == 2  # the first user, and this one
    assert (
        refused(2, "device", "list", "--data", data) == f"there are 2 users in {data}: say which with --user"
    )
    where = ("--data", data, "--user", user)
    assert [json.loads(line)["value"] for line in done("export", 3, "--json", *where).splitlines()] == [
        {"temp": 61.5}
    ]
    assert "61.5" in done("sql", "SELECT temp FROM channel_3", *where)
    done("device", "add", "pump-8", *where)
    with Daemon(data) as daemon:
        (daemon.user,) = [u for u in map(json.loads, whole.splitlines()) if u["user_id"] == user]
        devices = daemon.request("GET", "/v2/device")[1]
    assert [each["device_id"] for each in devices] == ["pump-7", "pump-8"]


def test_what_is_no_data_directory_is_not_made_one(tmp_path: Path) -> None:
    assert refused(2, "device", "list", "--data", tmp_path / "none").endswith("it has no registry.sqlite3")
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_needs_no_address_and_an_address_no_directory(tmp_path: Path) -> None:
    assert refused(2, "device", "list", "--data", tmp_path, "--url", "http://127.0.0.1:1") == (
        "--data is instead of --url and --token"
    )
    assert refused(2, "device", "list", "--user", "U000001") == "--user and --config belong to --data"


# ---- import


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "arrow", "parquet"])
def test_what_was_exported_is_imported_once(
    daemon: Daemon, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thingscale.commands.pieces.PIECE_ROWS", 7)
    channel = 100 + ["csv", "ndjson", "arrow", "parquet"].index(suffix)
    done("channel", "add", channel)
    file = tmp_path / f"x.{suffix}"
    done("export", 3, "-o", file)
    assert done("import", channel, file) == f"{READINGS} readings\n"
    assert json.loads(done("import", channel, file, "--json")) == {"channel": channel, "stored": READINGS}

    def exported(number: int) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in done("export", number, "--json").splitlines()]
        return [{key: row[key] for key in ("at", "device", "tag", "value")} for row in rows]

    assert exported(channel) == exported(3)
    done("import", channel, file, "--again")
    assert len(exported(channel)) == 2 * READINGS


def test_csv_is_divided_between_its_rows_and_not_within_quotation_marks(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thingscale.commands.pieces.PIECE_ROWS", 1)
    done("channel", "add", 110)
    file = tmp_path / "x.txt"
    file.write_text('at,a,b\n2024-05-01,"two\nlines, ""so""",\n2024-05-02,,1\n2024-05-03,3,2')
    assert done("import", 110, file, "--format", "csv", "--device", "pump-7", "--tag", "t") == "3 readings\n"
    rows = [json.loads(line) for line in done("export", 110, "--json").splitlines()]
    assert [row["value"] for row in rows] == [{"a": 'two\nlines, "so"'}, {"b": 1}, {"a": 3, "b": 2}]
    assert {(row["device"], row["tag"]) for row in rows} == {("pump-7", "t")}


def test_an_import_that_is_refused_says_how_far_it_came(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thingscale.commands.pieces.PIECE_ROWS", 2)
    done("channel", "add", 111)
    file = tmp_path / "x.ndjson"
    file.write_text('{"value":1}\n{"value":2}\n{"value":3,"device":"nobody"}\n')
    assert refused(1, "import", 111, file).endswith("(after 2 readings that are stored)")
    file.write_text('{"value":1}\n{"value":2}\n{"value":3}\n')
    assert done("import", 111, file) == "3 readings\n"
    values = [json.loads(line)["value"] for line in done("export", 111, "--json").splitlines()]
    assert values == [1, 2, 3]


def test_a_file_that_cannot_be_imported_is_wrong_usage(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "x.what"
    file.write_bytes(b"no table")
    assert "say with --format" in refused(2, "import", 3, file)
    for shape in ("arrow", "parquet"):
        assert refused(2, "import", 3, file, "--format", shape).startswith(str(file))
    assert "No such file" in refused(1, "import", 3, tmp_path / "nothing.csv")
