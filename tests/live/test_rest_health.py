"""What watches over a running daemon, and the limit on REST requests (contract 2.5)."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from paho.mqtt import publish
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon import Daemon
from tests.live.test_rest import NEVER, call, refused
from thingscale.metrics import METRICS


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    return rest


@pytest.mark.parametrize("slash", ["", "/"])
def test_health_needs_no_token(daemon: Daemon, slash: str) -> None:
    assert call(daemon, "GET", f"/healthz{slash}", X_APITOKEN="") == (200, {"status": "alive"})
    assert call(daemon, "GET", f"/readyz{slash}", X_APITOKEN="") == (200, {"status": "ready"})
    status, _, headers = daemon.request("GET", f"/metrics{slash}", headers={"X-APITOKEN": ""})
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")


def families(daemon: Daemon) -> dict[str, Metric]:
    status, text, _ = daemon.request("GET", "/metrics")
    assert status == 200
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(daemon: Daemon) -> dict[str, float]:
    """Each sample under its name and the values of its labels: ``name http``."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families(daemon).values()
        for sample in family.samples
    }


def test_every_metric_shows_up_as_it_is_described(daemon: Daemon) -> None:
    daemon.add_device("d", 1)
    assert daemon.post("d", "1") == (200, "OK")
    assert daemon.post("d", "{") == (400, "BAD_JSON_FORMAT")
    found = families(daemon)
    assert list(found) == [name for name, *_ in METRICS]
    for name, kind, words, labels in METRICS:
        family = found[name]
        assert (family.type, family.documentation) == (kind, words)
        assert family.samples or name == "thingscale_http_responses"
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(labels)
            assert sample.value >= 0


def test_the_commit_histogram_adds_up(daemon: Daemon) -> None:
    family = families(daemon)["thingscale_commit_seconds"]
    buckets = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
    count = next(sample.value for sample in family.samples if sample.name.endswith("_count"))
    assert buckets == sorted(buckets)
    assert buckets[-1] == count > 0
    assert next(sample.value for sample in family.samples if sample.name.endswith("_sum")) > 0


def test_what_happens_is_counted(daemon: Daemon) -> None:
    daemon.add_device("counted", 2)
    before = samples(daemon)
    for _ in range(3):
        assert daemon.post("counted", "1") == (200, "OK")
    assert daemon.post("counted", "{") == (400, "BAD_JSON_FORMAT")
    assert daemon.post("counted", "{", Expect="100-continue") == (400, "BAD_JSON_FORMAT")
    token = daemon.user["device_token"]
    auth = {"username": daemon.user["user_id"], "password": token}
    for topic in (f"{token}/json/counted", f"{NEVER}/json/counted"):
        publish.single(topic, "5", 1, port=daemon.port("mqtt"), auth=auth)  # type: ignore[arg-type]
    assert refused(daemon, "GET", "/v2/user", X_APITOKEN=NEVER) == (401, "AUTH_REQUIRED")
    after = samples(daemon)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more("thingscale_readings_stored_total http") == 3
    assert more("thingscale_readings_stored_total mqtt") == 1
    assert more("thingscale_readings_refused_total http BAD_JSON_FORMAT") == 2
    assert more("thingscale_readings_refused_total mqtt FOREIGN_TOPIC") == 1
    assert more("thingscale_mqtt_connects_total accepted 3.1.1") == 2
    assert more("thingscale_connections_accepted_total mqtt") == 2
    assert more("thingscale_http_responses_total 401") == 1
    assert more("thingscale_commit_entries_total") == 4
    assert more("thingscale_ring_rows") == 4
    assert more("thingscale_received_bytes_total") > 500
    assert more("thingscale_commit_seconds_count") > 0


def test_files_are_counted(daemon: Daemon) -> None:
    daemon.add_device("filed", 3)
    assert daemon.post("filed", "1") == (200, "OK")
    before = samples(daemon)
    assert before["thingscale_ring_rows"] >= 1
    daemon.run("publish", "--now")
    after = samples(daemon)
    assert after["thingscale_ring_rows"] == 0
    assert after["thingscale_seals_total"] >= 1
    assert after["thingscale_publications_total"] >= 1
    assert after["thingscale_files published"] >= 1
    assert after["thingscale_published_rows"] > before["thingscale_published_rows"]
    assert after["thingscale_file_bytes published"] > 100


# ---- the limit


def test_more_than_20_requests_in_a_second_are_refused_for_a_while(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data", THINGSCALE_LIMITS_REST_PER_S="20") as daemon:
        other = daemon.add_user()["api_token"]
        daemon.add_user()
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: daemon.request("GET", "/v2/user"), range(60)))
        elapsed_s = time.monotonic() - began
        allowed = [reply for reply in replies if reply[0] == 200]
        assert 20 <= len(allowed) <= 21 + 20 * elapsed_s
        over = [reply for reply in replies if reply[0] != 200]
        assert over
        for status, reply, headers in over:
            assert (status, reply["error"], headers["retry-after"]) == (429, "TOO_MANY_REQUESTS", "1")
        # Another user has a limit of his own; neither a wrong token nor a health check counts.
        assert daemon.request("GET", "/v2/user", headers={"X-APITOKEN": other})[0] == 200
        assert daemon.request("GET", "/healthz")[0] == 200
        assert daemon.request("GET", "/v2/user", headers={"X-APITOKEN": NEVER})[0] == 401
        daemon.wait_until(lambda: daemon.request("GET", "/v2/user")[0] == 200, 2)
