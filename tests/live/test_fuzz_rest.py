"""Any bytes in the headers and parameters of a query, and any words for times: refused by name or answered, never 500."""

import http.client
import json
from typing import Final
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from query.stream_request import PARAMETERS
from tests.daemon import Daemon

HEADERS: Final = (
    *(field.upper() for field in PARAMETERS.values() if field),
    "X-WITHTAG", "Accept", "Accept-Encoding", "Authorization", "Content-Type", "If-None-Match", "Range",
)  # fmt: skip
NAMES: Final = tuple(PARAMETERS)
EXAMPLES: Final = 250

# RFC 9110 section 5.5: visible characters, obs-text, blanks and tabs inside.
field_bytes = st.binary(max_size=40).map(
    lambda raw: bytes(byte for byte in raw if (byte >= 0x20 and byte != 0x7F) or byte == 9).strip(b" \t")
)
digits = st.integers(-(10**12), 10**12).map(str)
times = st.one_of(
    st.datetimes().map(str),
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.builds(
        "{}-{}-{}{}{}:{}:{}{}".format, digits, digits, digits, st.sampled_from("T t_"), digits, digits, digits,
        st.sampled_from(["", "Z", "+0900", "-23:59", "+99:99", ".999999", ".9999999Z"]),
    ),
    st.sampled_from(
        ["last", "LAST ", "0000-00-00", "0001-01-01", "9999-12-31 23:59:59.999999", "2024-02-30", "now", "∞", "1e9",
         "0001-01-01 00:00+23:59", "9999-12-31T23:59:59-23:59", "١٢٣٤-٠١-٠١"]
    ),
).map(str.encode)  # fmt: skip
words = st.sampled_from(
    [b"asc", b"none", b"avg", b"max", b"json", b"csv", b"ndjson", b"arrow", b"parquet", b"zstd", b"device", b"true",
     b"UTC", b"Europe/Berlin", b"../../etc/passwd", b"1", b"0", b"-1", b"18446744073709551616", b"a,b", b'"', b"temp"]
)  # fmt: skip
values = st.one_of(field_bytes, times, words, st.integers(0, 60).map(lambda number: b"%d" % number))


@pytest.fixture(scope="module")
def filled(rest: Daemon) -> Daemon:
    rest.add_device("pump-7", 3)
    for value in ({"temp": 21.5}, {"temp": "hot"}, 7, "text"):
        assert rest.post("pump-7", json.dumps(value)) == (200, "OK")
    return rest


def ask(daemon: Daemon, path: str, headers: dict[str, bytes]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=30)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    for name, value in {"X-APITOKEN": daemon.user["api_token"].encode(), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    reply = connection.getresponse()
    found = reply.status, reply.read()
    connection.close()
    return found


def check(status: int, body: bytes) -> None:
    """A refusal has a token; nothing is our fault."""
    assert status < 500, body
    if status >= 400:
        assert set(json.loads(body)) == {"error", "detail"}


@settings(max_examples=EXAMPLES)
@given(
    headers=st.dictionaries(st.sampled_from(HEADERS), values, max_size=5),
    parameters=st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=5),
    path=st.sampled_from(["/v2/stream/3", "/v2/stream", "/v2/channel", "/v2/device", "/v2/user/audit"]),
)
@example({"X-ENDTIME": b"9999-12-31 23:59:59.999999"}, [], "/v2/stream/3")
@example(
    {"X-STARTTIME": b"0001-01-01", "X-ENDTIME": b"9999-12-31", "X-AGGREGATE": b"avg"}, [], "/v2/stream/3"
)
def test_any_headers_and_parameters(
    filled: Daemon, headers: dict[str, bytes], parameters: list[tuple[str, bytes]], path: str
) -> None:
    query = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in parameters)
    check(*ask(filled, f"{path}?{query}", headers))


@settings(max_examples=EXAMPLES)
@given(
    start=times,
    end=times,
    zone=st.sampled_from([b"", b"UTC", b"Asia/Tokyo", b"America/St_Johns", b"Pacific/Apia"]),
)
@example(b"0001-01-01", b"0001-01-01 00:00:00+23:59", b"Pacific/Apia")
@example(b"9999-12-31 23:59", b"9999-12-31 23:59:59.999999", b"America/St_Johns")
def test_any_times_as_headers_and_as_parameters_are_read_alike(
    filled: Daemon, start: bytes, end: bytes, zone: bytes
) -> None:
    place = f"zone={quote_from_bytes(zone)}"
    as_headers = ask(
        filled, f"/v2/stream/3?{place}", {"X-STARTTIME": start.strip(), "X-ENDTIME": end.strip()}
    )
    as_parameters = ask(
        filled, f"/v2/stream/3?{place}&start={quote_from_bytes(start)}&end={quote_from_bytes(end)}", {}
    )
    check(*as_headers)
    assert as_headers[0] == as_parameters[0]
