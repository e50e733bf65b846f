"""The Stream service of a running daemon (contract 3.3): headers and parameters, bounds, order, aggregates."""

import calendar
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call, refused

PATH = "/v2/stream/3"
VALUES: list[Any] = [
    {"temp": 61.5, "psi": 12}, {"temp": 60.5}, 7, "süd", None, [1, {"a": 2}], {}, {"temp": "off"}, True,
    {"in": {"x": 1, "y": [2]}},
]  # fmt: skip
NAMES = {
    "X-STARTTIME": "start", "X-ENDTIME": "end", "X-PAGELIMIT": "limit", "X-PAGESORT": "sort", "X-TAGNAME": "tag",
    "X-AGGREGATE": "aggregate", "X-DEVICEID": "device",
}  # fmt: skip
ALWAYS = "2999-01-01 00:00"


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    daemon = rest
    daemon.add_device("pump-7", 3)
    call(daemon, "PUT", "/v2/channel/3", {"channel_name": "Boiler room"})
    for i, value in enumerate(VALUES):
        headers = {"X-TAGNAME": "north"} if i % 2 else {}
        assert daemon.post("pump-7", json.dumps(value), **headers) == (200, "OK")
    return daemon


@pytest.fixture(params=["headers", "parameters"])
def ask(request: pytest.FixtureRequest, daemon: Daemon) -> Any:
    """Ask by headers or by the URL; status and JSON."""

    def asking(**given: str) -> tuple[int, Any]:
        headers = {name.replace("_", "-"): value for name, value in given.items()}
        if request.param == "headers":
            return call(daemon, "GET", PATH, **given)
        return call(
            daemon, "GET", f"{PATH}?{urlencode({NAMES[name]: value for name, value in headers.items()})}"
        )

    return asking


def values(reply: tuple[int, Any]) -> list[Any]:
    status, found = reply
    assert status == 200, found
    return [entry["value"] for entry in found["stream"]]


# ---- what comes back


def test_a_range_has_every_entry_with_the_contracts_keys(daemon: Daemon, ask: Any) -> None:
    status, reply = ask(X_ENDTIME=ALWAYS)
    assert status == 200
    assert list(reply) == ["channel", "channel_name", "last_update", "stream"]
    assert (reply["channel"], reply["channel_name"]) == (3, "Boiler room")
    assert [entry["value"] for entry in reply["stream"]] == VALUES
    assert [entry["tag"] for entry in reply["stream"]] == [None, "north"] * 5
    ids = [entry["_id"] for entry in reply["stream"]]
    assert len(set(ids)) == len(ids)
    for entry in reply["stream"]:
        assert list(entry) == ["_id", "tag", "value", "at"]
        assert len(entry["_id"]) == 24
        assert set(entry["_id"]) <= set("0123456789abcdef")
        assert (
            abs(time.time() - calendar.timegm(time.strptime(entry["at"][:19], "%Y-%m-%dT%H:%M:%S"))) < 86_400
        )
        assert entry["at"].endswith("+0900")
    assert reply["last_update"] == reply["stream"][-1]["at"]


def test_the_newest_comes_alone_unless_more_are_asked_for(ask: Any) -> None:
    assert values(ask(X_ENDTIME="last")) == values(ask(X_STARTTIME="last")) == VALUES[-1:]
    assert values(ask(X_ENDTIME="last", X_STARTTIME="2000-01-01")) == VALUES[-1:]
    assert values(ask(X_ENDTIME="last", X_PAGELIMIT="3")) == VALUES[-3:]
    assert values(ask(X_ENDTIME="last", X_PAGELIMIT="3", X_PAGESORT="desc")) == VALUES[:-4:-1]
    assert values(ask(X_ENDTIME="last", X_PAGELIMIT="50")) == VALUES


def test_the_contracts_page_limit_is_not_for_ranges(daemon: Daemon, ask: Any) -> None:
    assert values(call(daemon, "GET", PATH, X_ENDTIME=ALWAYS, X_PAGELIMIT="1")) == VALUES
    assert values(ask(X_ENDTIME=ALWAYS, X_PAGESORT="desc")) == VALUES[::-1]


def test_a_tag_or_a_device_restricts(ask: Any) -> None:
    assert values(ask(X_ENDTIME=ALWAYS, X_TAGNAME="north")) == VALUES[1::2]
    assert values(ask(X_ENDTIME="last", X_TAGNAME="north")) == VALUES[-1:]
    assert values(ask(X_ENDTIME=ALWAYS, X_DEVICEID="pump-7")) == VALUES
    for nobody in ({"X_TAGNAME": "nobody"}, {"X_DEVICEID": "nobody"}, {"X_TAGNAME": "' OR 1=1"}):
        assert values(ask(X_ENDTIME=ALWAYS, **nobody)) == values(ask(X_ENDTIME="last", **nobody)) == []


def test_times_are_local_and_bounds_belong_to_the_range(daemon: Daemon, ask: Any) -> None:
    ats = [entry["at"] for entry in daemon.stream(3)]
    local = [at[:19].replace("T", " ") for at in (ats[0], ats[-1])]
    before, after = (shift(local[0], -1), shift(local[1], 1))
    assert values(ask(X_STARTTIME=local[0], X_ENDTIME=after)) == VALUES
    assert values(ask(X_STARTTIME=local[0], X_ENDTIME=local[1])) == VALUES
    assert values(ask(X_STARTTIME=ats[0], X_ENDTIME=f"{local[0]}.000000")) == []
    assert values(ask(X_STARTTIME=before, X_ENDTIME=after)) == VALUES
    assert values(ask(X_STARTTIME=after, X_ENDTIME=ALWAYS)) == []
    assert values(ask(X_ENDTIME=before)) == []
    assert values(ask(X_STARTTIME=after, X_ENDTIME=before)) == []
    assert values(ask(X_STARTTIME=ats[0], X_ENDTIME=f"{after}+09:00")) == VALUES
    assert values(ask(X_STARTTIME=f"{before}Z", X_ENDTIME=ALWAYS)) == []


def shift(local: str, seconds: int) -> str:
    moment = calendar.timegm(time.strptime(local, "%Y-%m-%d %H:%M:%S"))
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment + seconds))


# ---- aggregates


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("avg", {"value": 7, "temp": 61, "psi": 12, "in": {"x": 1}}),
        ("sum", {"value": 7, "temp": 122, "psi": 12, "in": {"x": 1}}),
        ("min", {"value": 7, "temp": 60.5, "psi": 12, "in": {"x": 1}}),
        ("MAX", {"value": 7, "temp": 61.5, "psi": 12, "in": {"x": 1}}),
    ],
)
def test_an_aggregate_has_the_numbers_of_the_range(ask: Any, kind: str, wanted: dict[str, Any]) -> None:
    status, reply = ask(X_ENDTIME=ALWAYS, X_AGGREGATE=kind)
    assert status == 200
    assert list(reply) == ["channel", "channel_name", "last_update", "aggr_type", "result"]
    assert (reply["aggr_type"], reply["result"]) == (kind.lower(), [{"_id": None, "value": wanted}])
    assert ask(X_ENDTIME=ALWAYS, X_AGGREGATE=kind, X_TAGNAME="nobody")[1]["result"] == []
    assert ask(X_ENDTIME="2000-01-01", X_AGGREGATE=kind)[1]["result"] == []


# ---- refusals


def token(reply: tuple[int, Any]) -> tuple[int, str]:
    return reply[0], reply[1]["error"]


def test_an_end_is_needed_and_times_must_be_readable(ask: Any) -> None:
    assert token(ask()) == token(ask(X_STARTTIME="2024-01-01")) == (400, "BAD_TIME_FORMAT")
    for wrong in ("yesterday", "2024-13-01", "2024-01-01 25:00", "1714600000", "lastly"):
        assert token(ask(X_ENDTIME=wrong)) == (400, "BAD_TIME_FORMAT")
        assert token(ask(X_STARTTIME=wrong, X_ENDTIME=ALWAYS)) == (400, "BAD_TIME_FORMAT")
    for last in ({"X_ENDTIME": "last"}, {"X_STARTTIME": "last", "X_ENDTIME": ALWAYS}):
        assert token(ask(X_AGGREGATE="avg", **last)) == (400, "BAD_TIME_FORMAT")


def test_an_unknown_aggregate_is_refused(ask: Any) -> None:
    for wrong in ("median", "avg,mean", "1"):
        assert token(ask(X_AGGREGATE=wrong, X_ENDTIME=ALWAYS)) == (400, "BAD_AGGREGATE")


@pytest.mark.parametrize(
    "limit", ["0", "-1", "x", "1.5", "51", "1e2", "9" * 5_000, "0x10", "٣".encode().decode("latin-1")]
)
def test_a_page_limit_is_a_number_in_bounds(ask: Any, limit: str) -> None:
    assert token(ask(X_ENDTIME="last", X_PAGELIMIT=limit)) == (400, "BAD_PARAMETER")


def test_an_unknown_order_is_refused(ask: Any) -> None:
    assert token(ask(X_ENDTIME="last", X_PAGESORT="up")) == (400, "BAD_PARAMETER")


def test_an_unknown_parameter_is_named(daemon: Daemon) -> None:
    status, reply = call(daemon, "GET", f"{PATH}?end=last&limt=3")
    assert (status, reply["error"]) == (400, "BAD_PARAMETER")
    assert reply["detail"].startswith("limt: ")


def test_a_header_counts_more_than_a_parameter(daemon: Daemon) -> None:
    status, reply = call(daemon, "GET", f"{PATH}/?end=2000-01-01&limit=2", X_ENDTIME="last")
    assert (status, [entry["value"] for entry in reply["stream"]]) == (200, VALUES[-2:])


def test_a_channel_that_is_not_there(daemon: Daemon) -> None:
    for number in ("9", "x", "-1"):
        assert refused(daemon, "GET", f"/v2/stream/{number}", X_ENDTIME="last") == (404, "NO_CHANNEL")
    assert refused(daemon, "GET", "/v2/stream/9") == (404, "NO_CHANNEL")


def test_a_tag_may_have_letters_of_every_alphabet(daemon: Daemon) -> None:
    daemon.add_device("tagged", 4)
    for tag in ("süd", "南"):
        header = tag.encode().decode("latin-1")
        assert daemon.post("tagged", "1", **{"X-TAGNAME": header}) == (200, "OK")
        assert [entry["tag"] for entry in daemon.stream(4, X_TAGNAME=header)] == [tag]
        assert [
            entry["tag"]
            for entry in call(daemon, "GET", f"/v2/stream/4?{urlencode({'tag': tag, 'end': 'last'})}")[1][
                "stream"
            ]
        ] == [tag]


def test_nothing_is_lost_by_publishing_or_a_crash(daemon: Daemon) -> None:
    before = call(daemon, "GET", PATH, X_ENDTIME=ALWAYS)
    sums = call(daemon, "GET", PATH, X_ENDTIME=ALWAYS, X_AGGREGATE="sum")
    newest = call(daemon, "GET", PATH, X_ENDTIME="last", X_PAGELIMIT="4")
    daemon.run("publish", "--now")
    for _ in range(2):
        assert call(daemon, "GET", PATH, X_ENDTIME=ALWAYS) == before
        assert call(daemon, "GET", PATH, X_ENDTIME=ALWAYS, X_AGGREGATE="sum") == sums
        assert call(daemon, "GET", PATH, X_ENDTIME="last", X_PAGELIMIT="4") == newest
        daemon.restart()


# ---- beyond the contract


def test_buckets_groups_and_points_of_a_running_daemon(daemon: Daemon) -> None:
    status, reply = call(
        daemon,
        "GET",
        f"{PATH}?end=2999-01-01&aggregate=count,max&interval=1d&by=tag&streams=temp,psi&fill=null",
    )
    assert status == 200
    assert {row["tag"] for row in reply["result"]} <= {None, "north"}
    largest = [row["value"]["temp"]["max"] for row in reply["result"] if row["tag"] is None]
    assert max(number for number in largest if number is not None) == 61.5
    status, reply = call(daemon, "GET", f"{PATH}?end=2999-01-01&points=10&method=minmax")
    assert [entry["value"] for entry in reply["stream"]] == [{"temp": 61.5, "psi": 12}, {"temp": 60.5}, 7]
