"""``POST /v2/sql`` of a running daemon: what it answers, and what ends it."""

import concurrent.futures
import csv
import http.client
import io
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from query.sql import jail
from tests.daemon import Daemon, workers

if jail.missing() is not None:
    pytest.skip(f"no jail on this system: {jail.missing()}", allow_module_level=True)

SECONDS_MAX = 4.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Readings of a channel in published files, in a hot file and in the ring; some have other streams than others."""
    with Daemon(
        tmp_path_factory.mktemp("sql") / "data",
        THINGSCALE_SQL_SECONDS_MAX=str(SECONDS_MAX),
        THINGSCALE_SQL_MEMORY_BYTES_MAX=str(128 << 20),
        THINGSCALE_SQL_ROWS_MAX="200000",
        THINGSCALE_STORAGE_SEAL_INTERVAL_S="3600",
    ) as daemon:
        daemon.add_user("--locale", "Asia/Tokyo")
        daemon.add_device("pump-7", 3)
        for i in range(4):
            assert daemon.post("pump-7", json.dumps({"temp": i, "note": f"n{i}"})) == (200, "OK")
        daemon.run("publish", "--now")
        for i in range(4, 7):
            tag = {"X-TAGNAME": "north"} if i % 2 else {}
            assert daemon.post("pump-7", json.dumps({"temp": i + 0.5, "new": [i]}), **tag) == (200, "OK")
        yield daemon


def sql(daemon: Daemon, text: str, **more: Any) -> tuple[int, Any]:
    status, reply, _ = daemon.request("POST", "/v2/sql", {"sql": text, **more})
    return status, reply


def rows(daemon: Daemon, text: str, **more: Any) -> list[list[Any]]:
    status, reply = sql(daemon, text, **more)
    assert status == 200, reply
    assert reply["row_count"] == len(reply["rows"])
    found: list[list[Any]] = reply["rows"]
    return found


def test_a_view_has_published_and_unpublished_rows_once(daemon: Daemon) -> None:
    found = rows(daemon, "SELECT temp, note, new__json, tag, device FROM channel_3 ORDER BY seq")
    assert found == [
        [0, "n0", None, None, "pump-7"],
        [1, "n1", None, None, "pump-7"],
        [2, "n2", None, None, "pump-7"],
        [3, "n3", None, None, "pump-7"],
        [4.5, None, "[4]", None, "pump-7"],
        [5.5, None, "[5]", "north", "pump-7"],
        [6.5, None, "[6]", None, "pump-7"],
    ]


def test_a_view_can_be_used_more_than_once(daemon: Daemon) -> None:
    text = "SELECT count(*) FROM channel_3 a JOIN main.Channel_3 b USING (seq) WHERE a.temp > (SELECT avg(temp) FROM channel_3)"
    assert rows(daemon, text) == [[3]]


def test_what_is_acknowledged_is_in_the_next_query(daemon: Daemon) -> None:
    daemon.add_device("clock", 4)
    for i in range(1, 6):
        assert daemon.post("clock", str(i)) == (200, "OK")
        assert rows(daemon, "SELECT count(*), max(value) FROM channel_4") == [[i, i]]


def test_names_are_tables_too(daemon: Daemon) -> None:
    daemon.request("POST", "/v2/channel/5", {"channel_name": "Empty"})
    assert ["Empty", None, "channel_5"] in rows(
        daemon, 'SELECT channel_name, last_update, "view" FROM channels'
    )
    assert rows(daemon, 'SELECT stream, "column", kind FROM streams WHERE channel = 3 ORDER BY 1') == [
        ["new", "new__json", "json"],
        ["note", "note", "text"],
        ["temp", "temp", "number"],
    ]
    assert rows(daemon, "SELECT mapped_ch, enabled FROM devices WHERE device_id = 'pump-7'") == [[3, True]]
    assert rows(daemon, "SELECT * FROM channel_5") == []


def test_times_are_in_the_users_zone(daemon: Daemon) -> None:
    ((shown, day),) = rows(daemon, "SELECT TIMESTAMPTZ '2026-03-01 15:30:00+00' AS t, date_trunc('day', t)")
    assert (shown, day) == ("2026-03-02T00:30:00+09:00", "2026-03-02T00:00:00+09:00")


def test_values_are_json(daemon: Daemon) -> None:
    text = (
        "SELECT 1::HUGEINT * 10000000000000000000000, 1.25, 'ä\"\n', '\\x00\\xFF'::BLOB, [1, NULL], {'a': DATE '2026-01-02'},"
        " INTERVAL 1 DAY, 'NaN'::DOUBLE, TIME '01:02:03', '0b1e5c1e-0000-4000-8000-000000000000'::UUID, NULL, true"
    )
    ((big, dec, string, blob, items, struct, interval, nan, moment, uuid, null, yes),) = rows(daemon, text)
    assert (big, dec, string, blob, items) == (10**22, 1.25, 'ä"\n', "00ff", [1, None])
    assert (struct, nan, moment, null, yes) == ({"a": "2026-01-02"}, None, "01:02:03", None, True)
    assert "1" in str(interval)
    assert uuid == "0b1e5c1e-0000-4000-8000-000000000000"


def test_parameters_are_bound(daemon: Daemon) -> None:
    assert rows(daemon, "SELECT ?, ? + 1, ?", parameters=["'; --", 41, None]) == [["'; --", 42, None]]
    assert rows(daemon, "SELECT $b || $a", parameters={"a": "x", "b": "ö"}) == [["öx"]]


def raw(daemon: Daemon, text: str, name: str, **headers: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=30)
    body = json.dumps({"sql": text, "format": name} if name else {"sql": text})
    connection.request("POST", "/v2/sql", body, {"X-APITOKEN": daemon.user["api_token"], **headers})
    reply = connection.getresponse()
    data = reply.read()
    assert reply.status == 200, data
    connection.close()
    return data


TYPICAL = 'SELECT seq, "at", device, tag, temp, note FROM channel_3 ORDER BY seq'


def test_every_format_says_the_same(daemon: Daemon) -> None:
    expected = [[row[0], *row[2:]] for row in rows(daemon, TYPICAL)]
    table = pa.ipc.open_stream(raw(daemon, TYPICAL, "arrow")).read_all()
    assert [
        [row[name] for name in table.column_names if name != "at"] for row in table.to_pylist()
    ] == expected
    assert (
        pq.read_table(io.BytesIO(raw(daemon, TYPICAL, "parquet"))).drop(["at"]).to_pylist()
        == table.drop(["at"]).to_pylist()
    )
    lines = [json.loads(line) for line in raw(daemon, TYPICAL, "ndjson").splitlines()]
    assert [[line[name] for name in line if name != "at"] for line in lines] == expected
    head, *body = csv.reader(io.StringIO(raw(daemon, TYPICAL, "csv").decode()))
    assert head == ["seq", "at", "device", "tag", "temp", "note"]
    assert [[each[2], each[3], float(each[4]), each[5]] for each in body] == [
        [row[1], row[2] or "", row[3], row[4] or ""] for row in expected
    ]


def test_accept_chooses_the_format(daemon: Daemon) -> None:
    assert raw(daemon, "SELECT 1 AS a", "", Accept="text/csv") == b"a\r\n1\r\n"
    assert raw(daemon, "SELECT 1 AS a", "", Accept="text/html, application/x-ndjson;q=0.9") == b'{"a":1}\n'


def test_a_wrong_format_in_the_url_is_refused_also_when_the_body_has_one(daemon: Daemon) -> None:
    asked = {"sql": "SELECT 1 AS a", "format": "csv"}
    status, reply, _ = daemon.request("POST", "/v2/sql?format=0", asked)
    assert (status, reply["error"]) == (400, "BAD_PARAMETER")
    assert daemon.request("POST", "/v2/sql?format=json", asked)[1] == "a\r\n1\r\n"


def test_a_long_answer_is_streamed_whole(daemon: Daemon) -> None:
    lines = raw(daemon, "SELECT range AS n, repeat('x', 100) AS s FROM range(100000)", "ndjson").splitlines()
    assert len(lines) == 100_000
    assert json.loads(lines[-1])["n"] == 99_999


def test_rows_beyond_the_limit_are_cut_and_it_says_so(daemon: Daemon) -> None:
    status, reply = sql(daemon, "SELECT * FROM range(50000)", limit=40_000)
    assert (status, reply["row_count"], reply["is_cut"]) == (200, 40_000, True)
    assert sql(daemon, "SELECT * FROM range(10)", limit=10)[1]["is_cut"] is False
    assert sql(daemon, "SELECT * FROM range(300000)")[1]["row_count"] == 200_000


@pytest.mark.parametrize(
    ("body", "status", "token", "words"),
    [
        ({"sql": "SELEC 1"}, 400, "BAD_SQL", "LINE 1"),
        ({"sql": "SELECT tmep FROM channel_3"}, 400, "BAD_SQL", "temp"),
        ({"sql": "SELECT * FROM channel_9"}, 400, "BAD_SQL", "channel_9"),
        ({"sql": "SELECT 1; SELECT 2"}, 400, "BAD_SQL", "one statement, not 2"),
        ({"sql": "DROP VIEW channel_3"}, 403, "SQL_FORBIDDEN", "DROP"),
        ({"sql": "FROM read_text('/etc/passwd')"}, 403, "SQL_FORBIDDEN", "/etc/passwd"),
        ({"sql": "SELECT ?", "parameters": []}, 400, "BAD_SQL", "parameter"),
        ({"sql": "SELECT 1/'x'"}, 400, "BAD_SQL", "x"),
        ({"sql": "SELECT INTERVAL 1 DAY", "format": "parquet"}, 400, "BAD_SQL", "parquet"),
        ({"sql": "SELECT list(range) FROM range(1000000000)"}, 422, "QUERY_MEMORY", "memory_bytes_max"),
        ({"sql": "SELECT count(*) FROM range(10000000000000)"}, 422, "QUERY_TIMEOUT", "seconds_max"),
        ({"sql": 1}, 400, "BAD_JSON_FORMAT", "sql"),
        ({}, 400, "BAD_JSON_FORMAT", "sql"),
        ({"sql": "SELECT 1\0"}, 400, "BAD_SQL", "NUL"),
        ({"sql": "SELECT " + " " * 70_000}, 400, "BAD_SQL", "65536"),
        ({"sql": "SELECT 1", "format": "xml"}, 400, "BAD_PARAMETER", "json"),
        ({"sql": "SELECT 1", "limit": 0}, 400, "BAD_PARAMETER", "limit"),
        ({"sql": "SELECT 1", "parameters": [[1]]}, 400, "BAD_PARAMETER", "parameters"),
        ({"sql": "SELECT 1", "what": 1}, 400, "BAD_PARAMETER", "what"),
    ],
)
def test_a_refusal_says_what_is_wrong(
    daemon: Daemon, body: dict[str, Any], status: int, token: str, words: str
) -> None:
    found, reply, _ = daemon.request("POST", "/v2/sql", body)
    assert (found, reply["error"]) == (status, token), reply
    assert words in reply["detail"]


def test_nobody_without_a_token(daemon: Daemon) -> None:
    status, reply, _ = daemon.request("POST", "/v2/sql", {"sql": "SELECT 1"}, {"X-APITOKEN": "x"})
    assert (status, reply["error"]) == (401, "AUTH_REQUIRED")


def test_a_client_that_goes_takes_its_query_along(daemon: Daemon) -> None:
    daemon.wait_until(lambda: not workers(daemon))
    sock = socket.create_connection(("127.0.0.1", daemon.port("http")))
    body = json.dumps({"sql": "SELECT count(*) FROM range(10000000000000)"}).encode()
    sock.sendall(
        b"POST /v2/sql HTTP/1.1\r\nHost: a\r\nX-APITOKEN: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (daemon.user["api_token"].encode(), len(body), body)
    )
    daemon.wait_until(lambda: workers(daemon))
    began = time.monotonic()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    daemon.wait_until(lambda: not workers(daemon))
    assert time.monotonic() - began < SECONDS_MAX


def test_more_queries_than_turns_wait_for_theirs(daemon: Daemon) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: rows(daemon, f"SELECT {i} + count(*) FROM channel_3"), range(16)))
    assert found == [[[i + 7]] for i in range(16)]


def test_a_killed_worker_and_a_killed_nursery_are_survived(daemon: Daemon) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for generation in (1, 2):
            daemon.wait_until(lambda: not workers(daemon))
            answer = pool.submit(sql, daemon, "SELECT count(*) FROM range(10000000000000)")
            daemon.wait_until(lambda: workers(daemon))
            victim = workers(daemon)[0]
            if generation == 2:
                stat = Path(f"/proc/{victim}/stat").read_text()
                victim = int(stat.rpartition(")")[2].split()[1])
            os.kill(victim, signal.SIGKILL)
            status, reply = answer.result()
            assert (status, reply["error"]) in ((422, "QUERY_MEMORY"), (503, "UNAVAILABLE"))
            daemon.wait_until(lambda: not workers(daemon))
            assert rows(daemon, "SELECT 1") == [[1]]


def test_the_last_figures_of_a_metric(daemon: Daemon) -> None:
    before = daemon.metric('thingscale_sql_queries_total{outcome="answered"}')
    rows(daemon, "SELECT 1")
    assert sql(daemon, "SELEC")[0] == 400
    daemon.wait_until(lambda: daemon.metric('thingscale_sql_queries_total{outcome="answered"}') > before)
    daemon.wait_until(lambda: daemon.metric('thingscale_sql_queries_total{outcome="BAD_SQL"}') > 0)
