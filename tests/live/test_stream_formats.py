"""Formats of the Stream service out of a running daemon: large ranges, compression, slow and vanishing readers."""

import http.client
import io
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.filled_channel import fill
from benchmarks.processes import memory_bytes
from query.stream_request import FORMATS
from tests.daemon import Daemon
from tests.query.flat_readers import from_arrow, from_csv, from_ndjson, uncoded

ROWS = 400_000
DEVICES = 7
CONCURRENT_MAX = 1
READERS_MAX = 8 * CONCURRENT_MAX  # query/services/stream.py: REPLIES_PER_QUERY
ALL = "end=2999-01-01"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    data = tmp_path_factory.mktemp("formats") / "data"
    user = fill(data, ROWS, 3, DEVICES)
    with Daemon(data, THINGSCALE_QUERY_CONCURRENT_MAX=str(CONCURRENT_MAX)) as daemon:
        daemon.user = {"api_token": user.api_token}
        yield daemon


def get(daemon: Daemon, query: str, **headers: str) -> tuple[dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(
        "GET", f"/v2/stream/1?{query}", headers={"X-APITOKEN": daemon.user["api_token"], **sent}
    )
    reply = connection.getresponse()
    content = reply.read()
    assert reply.status == 200, content
    connection.close()
    return {name.lower(): value for name, value in reply.getheaders()}, content


def ask(daemon: Daemon, query: str) -> socket.socket:
    """A client that has sent its request."""
    client = socket.create_connection(("127.0.0.1", daemon.port("http")), 30)
    client.sendall(
        f"GET /v2/stream/1?{query} HTTP/1.1\r\nHost: x\r\nX-APITOKEN: {daemon.user['api_token']}\r\n\r\n".encode()
    )
    return client


def seqs(shape: str, content: bytes) -> list[int]:
    match shape:
        case "json":
            return [int(row["_id"][8:], 16) for row in json.loads(content)["stream"]]
        case "ndjson":
            return [int(row["_id"][8:], 16) for row in from_ndjson(content)]
        case "csv":
            return [int(line[0]) for line in from_csv(content)[1]]
        case "arrow":
            found: list[int] = from_arrow(content).column("seq").to_pylist()
            return found
        case _:
            return list(pq.read_table(io.BytesIO(content)).column("seq").to_pylist())


@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("shape", FORMATS)
def test_every_row_comes_once_and_in_order(daemon: Daemon, shape: str, coding: str) -> None:
    headers, content = get(daemon, f"{ALL}&format={shape}", Accept_Encoding=coding)
    assert (headers.get("transfer-encoding") == "chunked") == (shape != "parquet")  # that is small enough
    is_text = shape in ("json", "ndjson", "csv")
    assert headers.get("content-encoding") == (coding if is_text and coding != "identity" else None)
    assert seqs(shape, uncoded(headers, content)) == list(range(ROWS))


def test_a_range_says_about_how_many_rows_come(daemon: Daemon) -> None:
    assert get(daemon, f"{ALL}&format=arrow")[0]["x-rows-estimate"] == str(ROWS)
    newest = get(daemon, "end=last&limit=100000&format=ndjson")[1]
    since = json.loads(newest.partition(b"\n")[0])["at"].replace("+", "%2B")
    headers, content = get(daemon, f"start={since}&{ALL}&format=ndjson")
    assert int(headers["x-rows-estimate"]) == pytest.approx(len(from_ndjson(content)), rel=0.02)
    assert get(daemon, "end=1999-01-01&format=csv")[0]["x-rows-estimate"] == "0"
    assert "x-rows-estimate" not in get(daemon, f"{ALL}&aggregate=avg")[0]


def test_pyarrow_and_pandas_read_a_reply_as_it_comes(daemon: Daemon) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=60)
    connection.request("GET", f"/v2/stream/1?{ALL}", headers={
        "X-APITOKEN": daemon.user["api_token"], "Accept": FORMATS["arrow"].value,
    })  # fmt: skip
    rows, devices = 0, set()
    with pa.ipc.open_stream(connection.getresponse()) as reader:
        for batch in reader:
            rows += batch.num_rows
            devices |= set(batch.column("device").dictionary.to_pylist())
    connection.close()
    assert (rows, devices) == (ROWS, {f"sensor-{i:03d}" for i in range(DEVICES)})
    frame = pq.read_table(io.BytesIO(get(daemon, f"{ALL}&format=parquet")[1])).to_pandas()
    assert frame.groupby("device", observed=True).size().sum() == ROWS


@pytest.mark.parametrize("arguments", [[], ["--compressed"]], ids=["plain", "compressed"])
def test_curl_reads_csv(daemon: Daemon, arguments: list[str]) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not there")
    url = f"http://127.0.0.1:{daemon.port('http')}/v2/stream/1?{ALL}&device=sensor-003&format=csv"
    done = subprocess.run(
        [curl, "-s", *arguments, "-H", f"X-APITOKEN: {daemon.user['api_token']}", url],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    names, lines = from_csv(done.stdout)
    assert names == ["seq", "at", "device", "tag", "temp", "humidity", "pressure", "battery"]
    assert {line[2] for line in lines} == {"sensor-003"}
    assert len(lines) == len(range(3, ROWS, DEVICES))


def test_pages_add_up(daemon: Daemon) -> None:
    found: list[int] = []
    query = f"{ALL}&limit=100000&format=arrow"
    for _ in range(-(-ROWS // 100_000)):
        headers, content = get(daemon, query)
        found += from_arrow(content).column("seq").to_pylist()
        query = headers.get("link", "").partition("?")[2].partition(">")[0]
    assert found == list(range(ROWS))
    assert query == ""


@pytest.mark.parametrize("shape", ["json", "ndjson", "csv", "arrow"])  # Parquet of this is made at once
def test_readers_that_do_not_read_are_few_and_cost_little(daemon: Daemon, shape: str) -> None:
    query = f"{ALL}&format={shape}"
    get(daemon, query)
    before = memory_bytes(daemon.process.pid)["private"]
    readers = [ask(daemon, query) for _ in range(READERS_MAX)]
    try:
        for reader in readers:
            assert reader.recv(12) == b"HTTP/1.1 200"
        refused = ask(daemon, query)
        assert refused.recv(12) == b"HTTP/1.1 503"
        refused.close()
        # Others are served as ever.
        for _ in range(20):
            began = time.monotonic()
            assert seqs("json", get(daemon, "end=last")[1]) == [ROWS - 1]
            assert time.monotonic() - began < 5
        assert memory_bytes(daemon.process.pid)["private"] - before < 100 * READERS_MAX * 1_000_000
        # Half of them go, one reads on after all.
        for reader in readers[1::2]:
            reader.close()
        readers[0].settimeout(60)
        size = 0
        while data := readers[0].recv(1 << 20):
            size += len(data)
            if data.endswith(b"0\r\n\r\n"):
                break
        assert size > 1_000_000
    finally:
        for reader in readers:
            reader.close()
    end = time.monotonic() + 30
    while True:  # the closed ones are noticed, and their places are free again
        client = ask(daemon, query)
        status = client.recv(12)
        client.close()
        if status == b"HTTP/1.1 200":
            break
        assert time.monotonic() < end, status
        time.sleep(0.05)


@pytest.mark.parametrize("shape", FORMATS)
def test_clients_that_vanish_leave_nothing_behind(daemon: Daemon, shape: str) -> None:
    query = f"{ALL}&format={shape}"
    get(daemon, query)
    before = memory_bytes(daemon.process.pid)["private"]
    for _ in range(20):
        client = ask(daemon, query)
        client.recv(1)
        client.close()
        daemon.wait_until(lambda: can_read(daemon), 30)
    assert memory_bytes(daemon.process.pid)["private"] - before < 200_000_000
    assert seqs("json", get(daemon, ALL)[1]) == list(range(ROWS))


def can_read(daemon: Daemon) -> bool:
    client = ask(daemon, f"{ALL}&format=arrow")
    status = client.recv(12)
    client.close()
    return status == b"HTTP/1.1 200"
