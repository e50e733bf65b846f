"""``thingscale device``, ``channel`` and ``event`` against a running daemon."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.thingscale.commands import done, refused, run


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("cli") / "data") as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """With a new account, which the environment names."""
    user = running.add_user()
    monkeypatch.setenv("THINGSCALE_URL", f"http://127.0.0.1:{running.port('http')}")
    monkeypatch.setenv("THINGSCALE_TOKEN", user["api_token"])
    return running


def lines(*arguments: object) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done(*arguments, "--json").splitlines()]


# ---- devices


def test_a_device_is_added_shown_changed_and_deleted(daemon: Daemon) -> None:
    done("channel", "add", 3, "--name", "Boiler room")
    (added,) = lines("device", "add", "pump 7/ü", "--enabled", "--channel", 3, "--location", "roof")
    assert (added["device_id"], added["enabled"], added["mapped_ch"]) == ("pump 7/ü", True, 3)
    assert lines("device", "show", "pump 7/ü") == [added]
    (changed,) = lines("device", "set", "pump 7/ü", "--disabled", "--channel", "none", "--type", "pump")
    assert changed == {**added, "enabled": False, "mapped_ch": None, "device_type": "pump"}
    assert daemon.request("GET", "/v2/device")[1] == [changed]
    told = done("device", "delete", "pump 7/ü", "--json")
    assert json.loads(told) == {"device_id": "pump 7/ü", "deleted": True}
    assert daemon.request("GET", "/v2/device")[1] == []


def test_a_list_of_devices_is_filtered_and_sorted(daemon: Daemon) -> None:
    done("channel", "add", 1)
    done("device", "add", "a", "--location", "roof", "--channel", 1)
    done("device", "add", "b", "--location", "cellar", "--enabled")
    done("device", "add", "c", "--location", "roof", "--enabled", "--type", "t", "--manufacturer", "m")

    def names(*options: object) -> list[str]:
        return [each["device_id"] for each in lines("device", "list", *options)]

    assert names() == ["a", "b", "c"]
    assert names("--location", "roof", "--sort", "-device_id") == ["c", "a"]
    assert names("--enabled") == ["b", "c"]
    assert names("--disabled") == ["a"]
    assert (names("--channel", 1), names("--channel", "none")) == (["a"], ["b", "c"])
    assert names("--type", "t") == names("--manufacturer", "m") == names("--search", "C") == ["c"]


def test_a_list_of_devices_is_a_table_in_which_nothing_commands_the_terminal(daemon: Daemon) -> None:
    done("device", "add", "d", "--description", "[red]x\x1b[2J")
    head, row = done("device", "list").splitlines()
    assert head.split() == ["device", "id", "enabled", "channel", "type", "location", "description"]
    assert row.split() == ["d", "no", "-", "[red]x\\x1b[2J"]


def test_more_devices_than_a_page_are_all_listed_and_were_all_imported(
    daemon: Daemon, tmp_path: Path
) -> None:
    file = tmp_path / "fleet.csv"
    names = [f"d{number:05}" for number in range(2_345)]
    file.write_text(
        "device_id,enabled,location\n" + "".join(f'{name},true,"roof,\nnorth"\n' for name in names)
    )
    assert [each["device_id"] for each in lines("device", "import", file)] == names
    listed = lines("device", "list")
    assert [each["device_id"] for each in listed] == names
    assert {each["location"] for each in listed} == {"roof,\nnorth"}


def test_a_table_says_which_of_its_lines_failed_and_the_others_are_done(
    daemon: Daemon, tmp_path: Path
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text('device_id,description\na,"two\nlines"\n0,\n\nb,\n')
    result = run("device", "import", file)
    assert result.exit_code == 1
    assert result.stderr == "thingscale: line 4: 0: DEVICE_ID_ZERO: a device id is neither empty nor 0\n"
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["created", "updated", "skipped", "failed"],
        ["2", "0", "0", "1"],
    ]
    assert [each["device_id"] for each in lines("device", "list")] == ["a", "b"]


def test_a_table_that_is_all_or_nothing_does_nothing(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "fleet.csv"
    file.write_text("device_id\na\n0\n")
    result = run("device", "import", "--atomic", file)
    assert result.exit_code == 1
    assert result.stderr.startswith("thingscale: line 3: 0: DEVICE_ID_ZERO: ")
    assert lines("device", "list") == []
    file.write_text("device_id\na\nb\n")
    assert [each["result"] for each in lines("device", "import", "--atomic", file)] == ["created", "created"]
    skipped = lines("device", "import", "--on-existing", "skip", file)
    assert [each["result"] for each in skipped] == ["skipped", "skipped"]


@pytest.mark.parametrize(("text", "words"), [
    ('device_id\n"a', "line 2: unexpected end of data"),
    (b"device_id\n\xff\n", "'utf-8' codec can't decode"),
])  # fmt: skip
def test_what_is_no_table_is_wrong_usage(
    daemon: Daemon, tmp_path: Path, text: str | bytes, words: str
) -> None:
    file = tmp_path / "fleet.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in refused(2, "device", "import", file)


# ---- channels


def test_a_channel_is_added_renamed_described_and_deleted(daemon: Daemon) -> None:
    (added,) = lines("channel", "add", 0)
    assert (added["channel"], added["channel_name"]) == (0, "NEW_CH0")
    (renamed,) = lines("channel", "rename", 0, "Boiler room")
    assert lines("channel", "show", 0) == lines("channel", "list") == [renamed]
    assert renamed["channel_name"] == "Boiler room"
    daemon.add_device("pump-7", 0)
    daemon.post("pump-7", '{"temp": 1}', **{"X-TAGNAME": "north"})
    assert [each["tag"] for each in lines("channel", "list", "--tags")] == [None, "north"]
    (described,) = lines("channel", "describe", 0, "temp", "--unit", "°C", "--label", "Temperature")
    assert lines("channel", "streams", 0) == [described]
    assert (described["unit"], described["label"], described["kind"]) == ("°C", "Temperature", "number")
    assert done("channel", "describe", 0, "temp", "--forget") == ""
    assert lines("channel", "streams", 0)[0]["unit"] == ""
    assert done("channel", "delete", 0, "--tag", "north", "--yes") == ""
    assert [each["tag"] for each in lines("channel", "list", "--tags")] == [None]
    assert json.loads(done("channel", "delete", 0, "--yes", "--json")) == {"channel": 0, "deleted": True}
    assert lines("channel", "list") == []


def test_deleting_a_channel_needs_a_yes(daemon: Daemon) -> None:
    done("channel", "add", 1)
    assert refused(2, "channel", "delete", 1) == "Delete channel 1 with all readings? Say --yes."
    assert len(lines("channel", "list")) == 1


def test_describing_a_stream_needs_words(daemon: Daemon) -> None:
    refused(2, "channel", "describe", 1, "temp")
    refused(2, "channel", "describe", 1, "temp", "--forget", "--unit", "K")


# ---- events


def test_an_event_is_added_changed_listed_and_deleted(daemon: Daemon) -> None:
    done("channel", "add", 3)
    condition = ("--channel", 3, "--source", "temp", "--operator", ">=", "--threshold", 75)
    (added,) = lines("event", "add", *condition, "--post", "http://127.0.0.1:9/x", "--enabled")
    assert {key: added[key] for key in ("mapped_ch", "source", "operator", "threshold", "notify_type", "enabled")} == {
        "mapped_ch": 3, "source": "temp", "operator": ">=", "threshold": "75", "notify_type": "http", "enabled": True,
    }  # fmt: skip
    number = added["event_id"]
    (changed,) = lines("event", "set", number, "--disabled", "--email", "--description", "hot")
    assert changed == {**added, "enabled": False, "notify_type": "email", "description": "hot"}
    assert lines("event", "list") == [changed]
    assert "hot" in done("event", "list")
    assert json.loads(done("event", "delete", number, "--json")) == {"event_id": number, "deleted": True}
    assert lines("event", "list") == []


def test_an_event_tells_one_way(daemon: Daemon) -> None:
    refused(2, "event", "add", "--email", "--post", "http://127.0.0.1:9/x")


# ---- what goes wrong


def test_errors_of_the_api_are_told_by_token(daemon: Daemon) -> None:
    assert refused(1, "device", "show", "nobody") == "NO_DEVICE: there is no device nobody"
    done("channel", "add", 1)
    assert refused(1, "channel", "add", 1).startswith("CHANNEL_INUSE: ")
    assert refused(1, "event", "delete", 99).startswith("NO_EVENT: ")
    assert refused(1, "device", "set", "nobody", "--enabled").startswith("NO_DEVICE: ")
    assert refused(1, "device", "list", "--token", "wrong").startswith("AUTH_REQUIRED: ")


@pytest.mark.parametrize("command", [("device", "set", "x"), ("event", "set", "1")])
def test_a_change_of_nothing_is_wrong_usage(daemon: Daemon, command: tuple[str, ...]) -> None:
    assert refused(2, *command) == "nothing to change: say what"


def test_a_daemon_that_is_not_there_is_told(daemon: Daemon) -> None:
    assert refused(1, "device", "list", "--url", "http://127.0.0.1:1").startswith(
        "http://127.0.0.1:1 does not answer: "
    )


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x:y"])
def test_an_address_that_is_none_is_wrong_usage(daemon: Daemon, url: str) -> None:
    assert refused(2, "device", "list", "--url", url).startswith(repr(url))


def test_without_a_token_the_command_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(2, "device", "list") == "no API token: give --token or THINGSCALE_TOKEN, or --data DIR"


def test_a_rate_limit_is_waited_for(tmp_path: Path) -> None:
    with Daemon(tmp_path / "limited", THINGSCALE_LIMITS_REST_PER_S="1") as limited:
        token = limited.add_user()["api_token"]
        for number in range(2):  # the second has to wait
            done(
                "channel",
                "add",
                number,
                "--url",
                f"http://127.0.0.1:{limited.port('http')}",
                "--token",
                token,
            )
