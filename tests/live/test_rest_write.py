"""Writing datapoints to a running daemon: durable, in every format, once per key, counted."""

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.daemon import Daemon
from tests.live.test_rest import call

PATH = "/v2/stream/6"


@pytest.fixture(scope="module")
def daemon(rest: Daemon) -> Daemon:
    rest.add_device("pump-7", 6)
    return rest


def post(daemon: Daemon, body: Any, label: str = "application/json", **headers: str) -> tuple[int, Any]:
    return call(daemon, "POST", PATH, body, Content_Type=label, **headers)


def values(daemon: Daemon, **headers: str) -> list[Any]:
    return [entry["value"] for entry in daemon.stream(6, **headers)]


def test_rows_are_there_in_the_order_of_their_times_also_after_kill_9(daemon: Daemon) -> None:
    body = [
        {"value": {"n": 2}, "at": "2024-05-02 10:00", "tag": "north"},
        {"value": {"n": 1}, "at": "2024-05-02T00:30:00Z", "device": "pump-7"},
        {"value": 3},
    ]
    assert post(daemon, body) == (201, {"stored": 3})
    for _ in range(2):
        assert values(daemon) == [{"n": 1}, {"n": 2}, 3]
        assert values(daemon, X_TAGNAME="north") == [{"n": 2}]
        assert values(daemon, X_DEVICEID="pump-7") == [{"n": 1}]
        daemon.restart()
    daemon.run("publish", "--now")
    assert post(daemon, [{"value": {"n": 0}, "at": "2024-05-02T00:00:00Z"}]) == (201, {"stored": 1})
    daemon.run("publish", "--now")
    assert values(daemon)[:3] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert daemon.stream(6)[0]["at"] == "2024-05-02T09:00:00+0900"


def test_large_bodies_of_every_format_are_stored_whole(daemon: Daemon) -> None:
    count = 30_000
    at = [1_500_000_000 + i for i in range(count)]
    table = pa.table({"at": pa.array(at, pa.timestamp("s", "UTC")), "i": list(range(count))})
    arrow, parquet, text = io.BytesIO(), io.BytesIO(), io.StringIO()
    with pa.ipc.new_stream(arrow, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, parquet)
    lines = csv.writer(text)
    lines.writerow(["at", "i"])
    stamps = [each.isoformat() for each in table.column("at").to_pylist()]
    lines.writerows(zip(stamps, range(count), strict=True))
    rows = [{"value": {"i": i}, "at": stamp} for i, stamp in enumerate(stamps)]
    bodies = {
        "application/json": json.dumps(rows).encode(),
        "application/x-ndjson": "\n".join(map(json.dumps, rows)).encode(),
        "text/csv": text.getvalue().encode(),
        "application/vnd.apache.arrow.stream": arrow.getvalue(),
        "application/vnd.apache.parquet": parquet.getvalue(),
    }
    for number, (label, body) in enumerate(bodies.items(), 20):
        daemon.request("POST", f"/v2/channel/{number}")
        for _ in range(2):
            reply = call(
                daemon, "POST", f"/v2/stream/{number}", body, Content_Type=label, Idempotency_Key="all"
            )
            assert reply == (201, {"stored": count})
        found = daemon.stream(number)
        assert [entry["value"]["i"] for entry in found] == list(range(count))


def test_a_bad_row_of_very_many_stores_nothing(daemon: Daemon) -> None:
    before = daemon.stream(6)
    many = [{"value": 1}] * 60_000
    status, reply = post(daemon, [*many, {"value": 1, "at": "never"}])
    assert (status, reply["error"]) == (400, "BAD_TIME_FORMAT")
    assert reply["detail"].startswith("row 60001: at: ")
    status, reply = post(daemon, json.dumps([*many, {"value": 0}])[:-3].encode() + b"1e999}]")
    assert (status, reply["error"]) == (400, "NUMBER_OUT_OF_RANGE")
    assert reply["detail"].startswith("row 60001: ")
    assert daemon.stream(6) == before


def test_what_is_written_and_refused_is_counted(daemon: Daemon) -> None:
    post(daemon, [{"value": 1}, {"value": 2}])
    stored = daemon.metric('thingscale_readings_stored_total{protocol="rest"}')
    post(daemon, [{"value": 1}, {"value": 2}])
    assert daemon.metric('thingscale_readings_stored_total{protocol="rest"}') == stored + 2
    post(daemon, b'[{"value":1},{"value":1e999}]')
    assert (
        daemon.metric('thingscale_readings_refused_total{protocol="rest",reason="NUMBER_OUT_OF_RANGE"}') >= 2
    )
