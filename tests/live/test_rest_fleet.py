"""Large fleets over REST: pages, filters, tables of devices; streams and what people say of them."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call, refused


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """An account with 60 devices, 40 at most to come."""
    with Daemon(
        tmp_path_factory.mktemp("fleet") / "data", THINGSCALE_LIMITS_DEVICES_PER_USER_MAX="100"
    ) as daemon:
        daemon.add_user()
        for channel in (1, 2):
            call(daemon, "POST", f"/v2/channel/{channel}")
        devices = [
            {
                "device_id": f"d{i:02}", "enabled": i % 2 == 0, "mapped_ch": (1, 2, None)[i % 3],
                "location": f"hall {i % 4}", "description": f"Ünit {i}",
            }
            for i in range(60)
        ]  # fmt: skip
        status, report = call(daemon, "POST", "/v2/device", devices)
        assert (status, report["created"], report["failed"]) == (200, 60, 0)
        yield daemon


def listed(daemon: Daemon, query: str = "") -> list[dict[str, Any]]:
    status, devices = call(daemon, "GET", f"/v2/device{query}")
    assert status == 200, devices
    found: list[dict[str, Any]] = devices
    return found


def pages(daemon: Daemon, query: str) -> Iterator[list[dict[str, Any]]]:
    path = f"/v2/device?{query}"
    while True:
        status, devices, headers = daemon.request("GET", path)
        assert status == 200, devices
        yield devices
        if "link" not in headers:
            assert "x-next-cursor" not in headers
            return
        assert f"cursor={quote(headers['x-next-cursor'])}" in headers["link"]
        path = headers["link"].partition(">")[0].removeprefix("<")


@pytest.mark.parametrize(
    "sort", ["device_id", "-device_id", "location", "-mapped_ch", "activate_at", "-description"]
)
@pytest.mark.parametrize("limit", [1, 7, 60, 100])
def test_pages_are_the_list_cut_into_pieces(daemon: Daemon, sort: str, limit: int) -> None:
    whole = listed(daemon, f"?sort={sort}")
    key = sort.removeprefix("-")
    expected = sorted(
        listed(daemon),
        key=lambda device: (-1 if device[key] is None else device[key], device["device_id"]),
        reverse=sort.startswith("-"),
    )
    assert [device["device_id"] for device in whole] == [device["device_id"] for device in expected]
    cut = list(pages(daemon, f"sort={sort}&limit={limit}"))
    assert [len(page) for page in cut[:-1]] == [limit] * (len(cut) - 1)
    assert [device for page in cut for device in page] == whole


def test_a_page_is_stable_while_devices_come_and_go(daemon: Daemon) -> None:
    walk = pages(daemon, "limit=20")
    first = next(walk)
    assert call(daemon, "POST", "/v2/device/a-new-one")[0] == 201
    rest = [device["device_id"] for page in walk for device in page]
    call(daemon, "DELETE", "/v2/device/a-new-one")
    assert [device["device_id"] for device in first] + rest == [f"d{i:02}" for i in range(60)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("enabled=true", [i for i in range(60) if i % 2 == 0]),
        ("enabled=false&mapped_ch=2", [i for i in range(60) if i % 2 and i % 3 == 1]),
        ("mapped_ch=none", [i for i in range(60) if i % 3 == 2]),
        ("location=hall%203", [i for i in range(60) if i % 4 == 3]),
        ("search=NIT%201", [1, *range(10, 20)]),
        ("search=d5", list(range(50, 60))),
        ("search=%25", []),
        ("mapped_ch=77", []),
    ],
)
def test_a_filter_leaves_what_it_names(daemon: Daemon, query: str, expected: list[int]) -> None:
    assert [device["device_id"] for device in listed(daemon, f"?{query}")] == [f"d{i:02}" for i in expected]


@pytest.mark.parametrize(
    "query",
    [
        "enabled=1", "mapped_ch=x", "sort=what", "sort=--device_id", "limit=0", "limit=10001", "limit=x", "what=1",
        "cursor=x", "cursor=" + quote("bnVsbA"), "sort=location&cursor=WyJkZXZpY2VfaWQiLCJhIiwiYSJd",
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_is_refused(daemon: Daemon, query: str) -> None:
    assert refused(daemon, "GET", f"/v2/device?{query}") == (400, "BAD_PARAMETER")


# ---- tables

CSV = """device_id,enabled,mapped_ch,location
c1,true,1,"roof, north"
c2,,none,
0,true,1,
c3,perhaps,1,
c4,true,99,
d01,true,1,moved
c5,true,1
"""


def provision(daemon: Daemon, query: str, body: object, media_type: str = "text/csv") -> tuple[int, Any]:
    return call(daemon, "POST", f"/v2/device{query}", body, Content_Type=media_type)


def delete(daemon: Daemon, *names: str) -> None:
    for name in names:
        assert call(daemon, "DELETE", f"/v2/device/{name}")[0] == 200


def test_a_table_of_csv_is_done_line_by_line(daemon: Daemon) -> None:
    status, report = provision(daemon, "", CSV)
    assert status == 200
    assert [
        (line["line"], line["device_id"], line["result"], line.get("error")) for line in report["devices"]
    ] == [
        (2, "c1", "created", None),
        (3, "c2", "created", None),
        (4, "0", "failed", "DEVICE_ID_ZERO"),
        (5, "c3", "failed", "BAD_JSON_FORMAT"),
        (6, "c4", "failed", "NO_CHANNEL"),
        (7, "d01", "failed", "DEVICE_INUSE"),
        (8, None, "failed", "BAD_JSON_FORMAT"),
    ]
    assert {name: report[name] for name in ("created", "updated", "skipped", "failed")} == {
        "created": 2, "updated": 0, "skipped": 0, "failed": 5,
    }  # fmt: skip
    c1, c2 = (call(daemon, "GET", f"/v2/device/{name}")[1][0] for name in ("c1", "c2"))
    assert (c1["enabled"], c1["mapped_ch"], c1["location"]) == (True, 1, "roof, north")
    assert (c2["enabled"], c2["mapped_ch"], c2["location"]) == (False, None, "")
    delete(daemon, "c1", "c2")


def test_what_exists_is_skipped_or_changed_if_that_is_said(daemon: Daemon) -> None:
    before = call(daemon, "GET", "/v2/device/d01")[1][0]
    table = [{"device_id": "d01", "location": "moved"}]
    assert provision(daemon, "?on_existing=skip", table, "")[1]["devices"][0]["result"] == "skipped"
    assert call(daemon, "GET", "/v2/device/d01")[1][0] == before
    assert provision(daemon, "?on_existing=update", table, "")[1]["devices"][0]["result"] == "updated"
    assert call(daemon, "GET", "/v2/device/d01")[1][0] == {**before, "location": "moved"}
    call(daemon, "PUT", "/v2/device/d01", {"location": before["location"]})


def test_all_or_nothing_is_nothing_if_one_line_is_wrong(daemon: Daemon) -> None:
    before = listed(daemon)
    status, report = provision(daemon, "?atomic=true&on_existing=update", CSV)
    assert (status, report["error"]) == (400, "BULK_REFUSED")
    assert [line["line"] for line in report["devices"]] == [4, 5, 6, 8]
    assert listed(daemon) == before
    status, report = provision(daemon, "?atomic=true", [{"device_id": f"e{i}"} for i in range(41)], "")
    assert (status, report["devices"][0]["error"]) == (400, "MAX_DEVICE_REACH")
    assert listed(daemon) == before
    status, report = provision(daemon, "?atomic=true", [{"device_id": f"e{i}"} for i in range(40)], "")
    assert (status, report["created"]) == (200, 40)
    delete(daemon, *(f"e{i}" for i in range(40)))


def test_the_limit_of_devices_holds_line_by_line(daemon: Daemon) -> None:
    status, report = provision(daemon, "", [{"device_id": f"e{i}"} for i in range(43)], "")
    assert (status, report["created"], report["failed"]) == (200, 40, 3)
    assert {line.get("error") for line in report["devices"][40:]} == {"MAX_DEVICE_REACH"}
    delete(daemon, *(f"e{i}" for i in range(40)))


@pytest.mark.parametrize(
    ("body", "media_type", "answer"),
    [
        ("{}", "", (400, "BAD_JSON_FORMAT")),
        ("[", "", (400, "BAD_JSON_FORMAT")),
        ("", "text/csv", (400, "BAD_CSV_FORMAT")),
        ("name\na\n", "text/csv", (400, "BAD_CSV_FORMAT")),
        ("device_id,device_id\na,a\n", "text/csv; charset=utf-8", (400, "BAD_CSV_FORMAT")),
        ('device_id\n"a', "text/csv", (400, "BAD_CSV_FORMAT")),
        (b"device_id\n\xff\n", "TEXT/CSV", (400, "BAD_CSV_FORMAT")),
        ("device_id\n" + "x\n" * 10_001, "text/csv", (400, "BAD_CSV_FORMAT")),
        (json.dumps([{}] * 10_001), "", (400, "BAD_JSON_FORMAT")),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_whole(
    daemon: Daemon, body: str | bytes, media_type: str, answer: tuple[int, str]
) -> None:
    status, reply = provision(daemon, "", body, media_type)
    assert (status, reply["error"]) == answer


def test_parameters_of_a_table_are_checked(daemon: Daemon) -> None:
    assert provision(daemon, "?on_existing=what", [], "")[1]["error"] == "BAD_PARAMETER"
    for wrong in ("atomc=true", "atomic=1", "atomic=maybe"):
        assert provision(daemon, f"?{wrong}", [], "")[1]["error"] == "BAD_PARAMETER"
    many = [{"device_id": str(i)} for i in range(1, 2_002)]
    assert provision(daemon, "?atomic=true", many, "")[1]["error"] == "BULK_REFUSED"
    assert provision(daemon, "", [1, None], "")[1]["failed"] == 2


# ---- streams


def test_streams_have_kinds_and_what_people_say_of_them(daemon: Daemon) -> None:
    call(daemon, "PUT", "/v2/device/d00", {"enabled": True, "mapped_ch": 1})
    assert daemon.post("d00", '{"temp": 1.5, "ok": true, "a/b": "x"}') == (200, "OK")
    assert daemon.post("d00", '{"temp": "warm"}') == (200, "OK")
    blank = {"label": "", "unit": "", "description": ""}
    status, streams = call(daemon, "GET", "/v2/channel/1/stream")
    assert (status, streams) == (
        200,
        [
            {"channel": 1, "stream": "a/b", "kind": "text", "kinds": ["text"], **blank},
            {"channel": 1, "stream": "ok", "kind": "boolean", "kinds": ["boolean"], **blank},
            {"channel": 1, "stream": "temp", "kind": "number", "kinds": ["number", "text"], **blank},
        ],
    )
    said = {"label": "Temperature", "unit": "°C", "description": "of the boiler"}
    assert call(daemon, "PUT", "/v2/channel/1/stream/temp", {**said, "kind": "text"}) == (
        200,
        {**streams[2], **said},
    )
    assert call(daemon, "PUT", "/v2/channel/1/stream/temp", {"unit": "K"})[1] == {
        **streams[2],
        **said,
        "unit": "K",
    }
    assert call(daemon, "GET", "/v2/channel/1/stream/temp/")[1] == [{**streams[2], **said, "unit": "K"}]
    assert call(daemon, "PUT", "/v2/channel/1/stream/a/b", {"label": "slash"})[1]["stream"] == "a/b"
    assert call(daemon, "PUT", "/v2/channel/1/stream/later", {"unit": "bar"})[1] == {
        "channel": 1, "stream": "later", "kind": None, "kinds": [], **blank, "unit": "bar",
    }  # fmt: skip
    assert call(daemon, "DELETE", "/v2/channel/1/stream/temp") == (200, {})
    assert call(daemon, "GET", "/v2/channel/1/stream/temp")[1] == [streams[2]]
    assert call(daemon, "DELETE", "/v2/channel/1/stream/later") == (200, {})
    assert refused(daemon, "GET", "/v2/channel/1/stream/later") == (404, "NO_STREAM")
    assert refused(daemon, "DELETE", "/v2/channel/1/stream/later") == (404, "NO_STREAM")


def test_a_description_that_cannot_be_is_refused(daemon: Daemon) -> None:
    assert refused(daemon, "PUT", "/v2/channel/1/stream/x", {"unit": 1}) == (400, "BAD_JSON_FORMAT")
    assert refused(daemon, "PUT", "/v2/channel/1/stream/x", {"unit": "x" * 1_025}) == (400, "BAD_JSON_FORMAT")
    assert refused(daemon, "PUT", "/v2/channel/1/stream/x", "x") == (400, "BAD_JSON_FORMAT")
    assert refused(daemon, "PUT", "/v2/channel/9/stream/x", {}) == (404, "NO_CHANNEL")
    assert refused(daemon, "GET", "/v2/channel/9/stream") == (404, "NO_CHANNEL")
