"""The Channel service of a running daemon (contract 3.2)."""

import re
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call, refused

AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0900")


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    return rest


def row(number: int, name: str, tag: str | None = None, last_update: str | None = None) -> dict[str, Any]:
    return {"channel": number, "tag": tag, "channel_name": name, "last_update": last_update}


def test_without_channels_the_list_is_empty_and_a_number_is_not_there(daemon: Daemon) -> None:
    assert call(daemon, "GET", "/v2/channel") == call(daemon, "GET", "/v2/channel/") == (200, [])
    for method, body in (("GET", None), ("PUT", {"channel_name": "x"}), ("DELETE", None)):
        assert refused(daemon, method, "/v2/channel/1", body) == (404, "NO_CHANNEL")


@pytest.mark.parametrize("number", [0, 3, 2**31 - 1])
def test_a_channel_is_made_renamed_and_deleted(daemon: Daemon, number: int) -> None:
    path = f"/v2/channel/{number}"
    assert call(daemon, "POST", f"{path}/") == (201, row(number, f"NEW_CH{number}"))
    assert refused(daemon, "POST", path) == (403, "CHANNEL_INUSE")
    assert refused(daemon, "POST", path, {"channel_name": "other"}) == (403, "CHANNEL_INUSE")
    assert call(daemon, "GET", path) == (200, [row(number, f"NEW_CH{number}")])
    assert call(daemon, "PUT", path, {"channel_name": "Boiler room ü"}) == (200, row(number, "Boiler room ü"))
    assert call(daemon, "PUT", path, {"nonsense": 1}) == (200, row(number, "Boiler room ü"))
    assert call(daemon, "GET", "/v2/channel")[1] == [row(number, "Boiler room ü")]
    assert call(daemon, "DELETE", path) == (200, {})
    assert refused(daemon, "GET", path) == (404, "NO_CHANNEL")


def test_a_channel_may_be_made_with_its_name(daemon: Daemon) -> None:
    assert call(daemon, "POST", "/v2/channel/4", {"channel_name": "Room"}) == (201, row(4, "Room"))
    assert call(daemon, "DELETE", "/v2/channel/4")[0] == 200


@pytest.mark.parametrize("number", ["-1", "x", "1.5", str(2**31), "9" * 30, "%EF%BC%91", "1e3", "0x1"])
def test_what_cannot_be_a_channels_number(daemon: Daemon, number: str) -> None:
    for method, body in (("GET", None), ("POST", None), ("PUT", {}), ("DELETE", None)):
        assert refused(daemon, method, f"/v2/channel/{number}", body) == (404, "NO_CHANNEL")


@pytest.mark.parametrize("name", [None, 7, True, [], {}, "x" * 1_025])
def test_a_name_is_a_text(daemon: Daemon, name: object) -> None:
    call(daemon, "POST", "/v2/channel/5")
    body = {"channel_name": name}
    if name is not None:
        assert refused(daemon, "POST", "/v2/channel/6", body) == (400, "BAD_JSON_FORMAT")
        assert refused(daemon, "PUT", "/v2/channel/5", body) == (400, "BAD_JSON_FORMAT")
    assert call(daemon, "GET", "/v2/channel/5") == (200, [row(5, "NEW_CH5")])
    assert refused(daemon, "GET", "/v2/channel/6") == (404, "NO_CHANNEL")


def test_tags_are_listed_when_they_are_asked_for(daemon: Daemon) -> None:
    daemon.add_device("tagged", 20)
    call(daemon, "PUT", "/v2/channel/20", {"channel_name": "Room"})
    assert daemon.post("tagged", "1") == (200, "OK")
    assert daemon.post("tagged", "2", **{"X-TAGNAME": "north"}) == (200, "OK")
    assert daemon.post("tagged", "3", **{"X-TAGNAME": "süd".encode().decode("latin-1")}) == (200, "OK")
    for word in ("", "false", "0", "no", "off", "False"):
        (only,) = call(daemon, "GET", "/v2/channel/20", X_WITHTAG=word)[1]
        assert (only["tag"], only["channel_name"]) == (None, "Room")
        assert AT.fullmatch(only["last_update"])
    for word in ("true", "1", "TRUE", "yes", "anything"):
        rows = call(daemon, "GET", "/v2/channel/20", X_WITHTAG=word)[1]
        assert [(each["channel"], each["tag"], each["channel_name"]) for each in rows] == [
            (20, None, "Room"), (20, "north", "Room"), (20, "süd", "Room"),
        ]  # fmt: skip
        assert all(AT.fullmatch(each["last_update"]) for each in rows)
        assert [
            each for each in call(daemon, "GET", "/v2/channel", X_WITHTAG=word)[1] if each["channel"] == 20
        ] == rows


@pytest.mark.parametrize("tag", ["west", "öst"])
def test_a_tag_can_be_made_renamed_and_deleted(daemon: Daemon, tag: str) -> None:
    header = tag.encode().decode("latin-1")
    path = "/v2/channel/21"
    assert call(daemon, "POST", path, X_TAGNAME=header) == (201, row(21, "NEW_CH21", tag))
    assert refused(daemon, "POST", path, X_TAGNAME=header) == (403, "CHANNEL_INUSE")
    assert call(daemon, "POST", path, {"channel_name": "East"}, X_TAGNAME="east") == (
        201,
        row(21, "East", "east"),
    )
    assert call(daemon, "PUT", path, {"channel_name": "New"}, X_TAGNAME=header) == (200, row(21, "New", tag))
    assert call(daemon, "GET", path, X_WITHTAG="1")[1] == [
        row(21, "NEW_CH21"), *sorted([row(21, "East", "east"), row(21, "New", tag)], key=lambda each: each["tag"]),
    ]  # fmt: skip
    assert refused(daemon, "PUT", path, {"channel_name": "x"}, X_TAGNAME="never") == (404, "NO_CHANNEL")
    assert refused(daemon, "DELETE", path, X_TAGNAME="never") == (404, "NO_CHANNEL")
    assert call(daemon, "DELETE", path, X_TAGNAME=header) == (200, {})
    assert [each["tag"] for each in call(daemon, "GET", path, X_WITHTAG="1")[1]] == [None, "east"]
    assert call(daemon, "DELETE", path) == (200, {})


def test_deleting_a_channel_refuses_what_it_does_not_know(daemon: Daemon) -> None:
    path = "/v2/channel/26"
    assert call(daemon, "POST", path)[0] == 201
    for words in ("data=kept", "data=", "dat=keep", "keep"):
        assert refused(daemon, "DELETE", f"{path}?{words}") == (400, "BAD_PARAMETER")
    assert call(daemon, "POST", path, X_TAGNAME="north")[0] == 201
    assert refused(daemon, "DELETE", f"{path}?data=keep", X_TAGNAME="north") == (400, "BAD_PARAMETER")
    assert call(daemon, "GET", path)[0] == 200
    assert call(daemon, "DELETE", path) == (200, {})


def test_a_tag_that_no_reading_could_have_cannot_be_made(daemon: Daemon) -> None:
    path = "/v2/channel/25"
    assert call(daemon, "POST", path, X_TAGNAME="x" * 128) == (201, row(25, "NEW_CH25", "x" * 128))
    assert refused(daemon, "POST", path, X_TAGNAME="x" * 129) == (400, "TAG_INVALID")
    assert refused(daemon, "POST", path, X_TAGNAME="a\tb") == (400, "TAG_INVALID")
    assert call(daemon, "DELETE", path) == (200, {})


def test_a_deleted_tag_takes_its_entries_along_and_no_others(daemon: Daemon) -> None:
    daemon.add_device("keeps", 22)
    for value, tag in ((1, "north"), (2, "south"), (3, "north")):
        assert daemon.post("keeps", str(value), **{"X-TAGNAME": tag}) == (200, "OK")
    assert call(daemon, "DELETE", "/v2/channel/22", X_TAGNAME="north") == (200, {})
    assert refused(daemon, "DELETE", "/v2/channel/22", X_TAGNAME="north") == (404, "NO_CHANNEL")
    assert [each["tag"] for each in call(daemon, "GET", "/v2/channel/22", X_WITHTAG="1")[1]] == [
        None,
        "south",
    ]
    assert [entry["value"] for entry in daemon.stream(22)] == [2]
    assert daemon.post("keeps", "4", **{"X-TAGNAME": "north"}) == (200, "OK")
    newest = call(daemon, "GET", "/v2/stream/22", X_ENDTIME="last", X_PAGELIMIT="9")[1]["stream"]
    assert [(entry["value"], entry["tag"]) for entry in newest] == [(2, "south"), (4, "north")]
    entry = call(daemon, "GET", "/v2/user/audit")[1][0]
    assert (entry["action"], entry["subject"]) == ("tag.delete", "22/north")


def test_a_tag_without_entries_goes_also_when_the_channel_has_some(daemon: Daemon) -> None:
    daemon.add_device("plain", 24)
    assert daemon.post("plain", "1") == (200, "OK")
    assert call(daemon, "POST", "/v2/channel/24", X_TAGNAME="made")[0] == 201
    assert call(daemon, "DELETE", "/v2/channel/24", X_TAGNAME="made") == (200, {})
    assert len(daemon.stream(24)) == 1


def test_a_deleted_channel_takes_its_entries_along_and_unmaps_its_devices(daemon: Daemon) -> None:
    daemon.add_device("orphan", 23)
    assert daemon.post("orphan", "1", **{"X-TAGNAME": "north"}) == (200, "OK")
    assert call(daemon, "DELETE", "/v2/channel/23") == (200, {})
    assert refused(daemon, "GET", "/v2/stream/23", X_ENDTIME="last") == (404, "NO_CHANNEL")
    ((device,),) = (call(daemon, "GET", "/v2/device/orphan")[1],)
    assert (device["mapped_ch"], device["enabled"]) == (None, True)
    assert daemon.post("orphan", "2") == (403, "NO_MAPPED_CH")
    assert call(daemon, "POST", "/v2/channel/23") == (201, row(23, "NEW_CH23"))
    assert call(daemon, "GET", "/v2/channel/23", X_WITHTAG="1") == (200, [row(23, "NEW_CH23")])
    assert daemon.stream(23) == []
