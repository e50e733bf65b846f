"""Prometheus' API of a running daemon, asked by promtool; what deploy/grafana provisions, and each query of its dashboard."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.daemon import Daemon

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "thingscale.json").read_text())
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Readings of two devices in two channels, in a published file and in the ring."""
    with Daemon(tmp_path_factory.mktemp("prometheus") / "data") as daemon:
        daemon.add_user()
        daemon.add_device("north-1", 1)
        daemon.add_device("south-1", 2)
        daemon.request("PUT", "/v2/channel/1", {"channel_name": "Greenhouse"})
        assert daemon.request("PUT", "/v2/channel/1/stream/temp", {"unit": "°C", "label": "Air"})[0] == 200
        for value in (17.25, 18.5):
            assert daemon.post("north-1", json.dumps({"temp": value, "state": "on"}))[0] == 200
        daemon.run("publish", "--now")
        assert daemon.post("north-1", '{"temp": 20.5}', **{"X-TAGNAME": "night"})[0] == 200
        assert daemon.post("south-1", '{"temp": 4}')[0] == 200
        yield daemon


def ask(daemon: Daemon, path: str, **parameters: Any) -> Any:
    status, reply, _ = daemon.request(
        "POST", f"/prometheus/api/v1/{path}", urlencode(parameters, doseq=True), FORM
    )
    assert status == 200, reply
    assert reply["status"] == "success"
    return reply["data"]


def promtool(daemon: Daemon, *arguments: str) -> str:
    """What ``promtool query`` prints; the daemon's address goes after the first argument."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    server = f"http://promtool:{daemon.user['api_token']}@{daemon.ready['http']}/prometheus"
    what, *others = arguments
    options = [each for each in others if each.startswith("--")]
    rest = [each for each in others if not each.startswith("--")]
    done = subprocess.run(
        [tool, "query", what, *options, server, *rest],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_promtool_reads_an_instant_query(daemon: Daemon) -> None:
    printed = promtool(daemon, "instant", 'sum by (device) (temp{channel_name="Greenhouse"})')
    assert re.fullmatch(r'\{device="north-1"\} => 39 @\[[\d.]+\]\n', printed), printed
    assert "scalar: 2" in promtool(daemon, "instant", "1 + 1")
    (found,) = json.loads(promtool(daemon, "instant", "--format=json", 'temp{tag="night"}'))
    assert found["metric"] == {
        "__name__": "temp", "channel": "1", "channel_name": "Greenhouse", "device": "north-1", "stream": "temp",
        "tag": "night", "unit": "°C",
    }  # fmt: skip
    assert found["value"][1] == "20.5"


def test_promtool_reads_a_range_query(daemon: Daemon) -> None:
    now = int(time.time()) + 1
    printed = promtool(
        daemon,
        "range",
        "--format=json",
        f"--start={now}",
        f"--end={now + 20}",
        "--step=10s",
        "count(temp) * 2",
    )
    assert json.loads(printed) == [{"metric": {}, "values": [[now + i, "6"] for i in (0, 10, 20)]}]


def test_promtool_finds_series_and_labels(daemon: Daemon) -> None:
    series = promtool(daemon, "series", '--match=temp{device=~"s.*"}')
    assert 'device="south-1"' in series
    assert "north-1" not in series
    assert promtool(daemon, "labels", "device").split() == ["north-1", "south-1"]
    assert promtool(daemon, "labels", "__name__").split() == ["temp"]


def test_promtool_is_told_what_is_not_supported(daemon: Daemon) -> None:
    with pytest.raises(AssertionError, match=r"bad_data.*topk"):
        promtool(daemon, "instant", "topk(1, temp)")


def test_queries_are_counted(daemon: Daemon) -> None:
    before = daemon.metric('thingscale_queries_total{kind="prometheus"}')
    ask(daemon, "query", query="temp")
    assert daemon.metric('thingscale_queries_total{kind="prometheus"}') == before + 1


def test_the_look_back_is_a_setting(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", THINGSCALE_QUERY_LOOKBACK_S="86400") as daemon:
        daemon.add_user()
        daemon.add_device("a")
        assert daemon.post("a", "4.5")[0] == 200
        now = time.time()
        (found,) = ask(daemon, "query", query="value", time=now + 86_000)["result"]
        assert found["value"][1] == "4.5"
        assert ask(daemon, "query", query="value", time=now + 86_500)["result"] == []


# ---- deploy/grafana


def documents(folder: str) -> list[Any]:
    return [
        yaml.safe_load(path.read_text())
        for path in sorted((GRAFANA / "provisioning" / folder).glob("*.yaml"))
    ]


def test_the_provisioned_data_sources_are_those_of_the_dashboard(daemon: Daemon) -> None:
    sources = {each["uid"]: each for document in documents("datasources") for each in document["datasources"]}
    assert {uid: each["type"] for uid, each in sources.items()} == {
        "thingscale": "prometheus", "thingscale-rest": "yesoreyeram-infinity-datasource",
    }  # fmt: skip
    used = re.findall(
        r'"uid": "(thingscale[a-z-]*)"', json.dumps([DASHBOARD["panels"], DASHBOARD["templating"]])
    )
    assert set(used) == set(sources)
    # The headers that the data source sends open the door.
    prometheus = sources["thingscale"]
    path = prometheus["url"].removeprefix("$THINGSCALE_URL")
    assert prometheus["jsonData"]["httpHeaderName1"] == "X-APITOKEN"
    assert prometheus["secureJsonData"]["httpHeaderValue1"] == "$THINGSCALE_TOKEN"
    assert (
        daemon.request("GET", f"{path}/api/v1/status/buildinfo")[1]["data"]["version"]
        == (prometheus["jsonData"]["prometheusVersion"])
    )
    assert documents("dashboards")[0]["providers"][0]["options"]["path"]


def filled(expression: str) -> str:
    """With the variables as Grafana fills them in when all is chosen."""
    for variable in DASHBOARD["templating"]["list"]:
        expression = expression.replace(f"${variable['name']}", variable["allValue"])
    expression = expression.replace("$__rate_interval", "1m")
    assert "$" not in expression
    return expression


QUERIES = [
    (panel["title"], target)
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
    if "expr" in target
]


@pytest.mark.parametrize(
    ("title", "target"), QUERIES, ids=[f"{title} {target['refId']}" for title, target in QUERIES]
)
def test_each_query_of_the_dashboard_is_answered(daemon: Daemon, title: str, target: dict[str, Any]) -> None:
    text, now = filled(target["expr"]), time.time()
    if target["instant"]:
        result = ask(daemon, "query", query=text, time=now)["result"]
    else:
        result = ask(daemon, "query_range", query=text, start=now - 600, end=now + 15, step=15)["result"]
    assert result, title
    # What the legend shows is there to be shown, but for a tag.
    named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - {"tag"}
    assert all(named <= set(each["metric"]) for each in result), title


def test_all_of_the_dashboards_devices_are_also_readings_without_one(daemon: Daemon) -> None:
    daemon.request("POST", "/v2/channel/9", {"channel_name": "Written"})
    assert daemon.request("POST", "/v2/stream/9", {"temp": 1})[0] == 201
    text = filled(DASHBOARD["panels"][0]["targets"][0]["expr"])
    found = ask(daemon, "query", query=text, time=time.time() + 1)["result"]
    assert "Written" in {each["metric"]["channel_name"] for each in found}
    assert daemon.request("DELETE", "/v2/channel/9")[0] == 200


def test_each_variable_of_the_dashboard_is_answered(daemon: Daemon) -> None:
    found = {}
    for variable in DASHBOARD["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((?:(.*), )?(\w+)\)", variable["query"]["query"])
        assert asked is not None
        selector = "" if asked[1] is None else "?" + urlencode({"match[]": filled(asked[1])})
        status, reply, _ = daemon.request("GET", f"/prometheus/api/v1/label/{asked[2]}/values{selector}")
        assert status == 200
        found[variable["name"]] = reply["data"]
    assert found["metric"] == ["temp"]
    assert "Greenhouse" in found["room"]
    assert found["device"] == ["north-1", "south-1"]


def test_each_table_of_the_dashboard_is_answered(daemon: Daemon) -> None:
    paths = [each["url"] for panel in DASHBOARD["panels"] for each in panel["targets"] if "url" in each]
    assert paths
    for path in paths:
        status, rows, _ = daemon.request("GET", path)
        assert status == 200
        assert {row["device_id"] for row in rows} == {"north-1", "south-1"}
