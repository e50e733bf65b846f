"""Selections and formats of the Stream service against a plain Python model, and every format read back by others.

The readings are those of test_range_model: partly in published files, partly in hot ones, partly in the ring.
"""

import csv
import datetime
import io
import json
import random
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from query import newest, per_device, plan, stretches, written
from query.formats import columnar, texts
from query.stream_request import FORMATS
from storage.cover import DAY_US
from tests.query import flat_readers
from tests.query.filled_store import EPOCH, FilledStore, Reading, moment, plain
from tests.query.test_range_model import DEVICES, STREAMS, TAGS, bounds, fill, times

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC", "Australia/Lord_Howe")
# Readings lie around the days on which Berlin's, New York's and Lord Howe's clocks change.
SPRING_US, AUTUMN_US = 19_812 * DAY_US, 20_022 * DAY_US


@pytest.fixture(params=range(3))
def source(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"formats {request.param}")


@pytest.fixture
def house(tmp_path: Path, source: random.Random, monkeypatch: pytest.MonkeyPatch) -> Iterator[FilledStore]:
    """Sometimes with windows, pieces and steps of a few rows, so that a reply has many."""
    for module, name, small in (
        (plan, "WINDOW_ROWS", 11), (plan, "FILES_MAX", 2), (newest, "FILES_MAX", 2), (per_device, "FILES_MAX", 2),
        (texts, "PIECE_ROWS", 7), (columnar, "GROUP_ROWS", 5), (columnar, "JOIN_BYTES", 64),
        (written, "STEP_BYTES", 50), (stretches, "STRETCH_ROWS", 7),
    ):  # fmt: skip
        if source.random() < 0.6:
            monkeypatch.setattr(module, name, small)
    house = FilledStore(
        tmp_path / "data", DEVICES, source.choice([64, 256]), heavy_rows=source.choice([0, 1 << 62])
    )
    yield house
    house.close()


def filled(house: FilledStore, source: random.Random) -> None:
    """Published, hot and fresh."""
    clock = (
        at_us - at_us // DAY_US * DAY_US + source.choice([SPRING_US, AUTUMN_US]) for at_us in times(source)
    )
    fill(house, source, 60, clock)
    house.seal()
    house.publish(2**60)
    fill(house, source, 40, clock)
    house.seal()
    fill(house, source, 30, clock)


class Question:
    """A random selection of rows: the URL's query, and the readings that it is about."""

    def __init__(self, source: random.Random, house: FilledStore) -> None:
        self.several = source.random() < 0.4
        self.channels = source.choice([[1, 2], [2, 1], [1]]) if self.several else [1]
        self.pairs: list[tuple[str, str]] = []
        if self.several:
            self.pairs.append(("channel", ",".join(map(str, self.channels))))
        self.tags = self._names(source, "tag", [*(tag for tag in TAGS if tag), "nobody"])
        self.devices = self._names(source, "device", [*DEVICES, "nobody"])
        self.streams = self._names(source, "streams", [*STREAMS, "value", "x"])
        self.descending = source.random() < 0.4
        if self.descending:
            self.pairs.append(("sort", "desc"))
        self.zone = "Europe/Berlin"
        if source.random() < 0.6:
            self.zone = source.choice(ZONES)
            self.pairs.append(("zone", self.zone))
        self.start, self.end = bounds(source, house.readings)
        self.path = "/v2/stream" if self.several else "/v2/stream/1"
        self.found = {
            channel: [each for each in (house.readings if channel == 1 else house.others) if self._has(each)]
            for channel in self.channels
        }

    def _names(self, source: random.Random, name: str, among: list[str]) -> list[str] | None:
        if source.random() < 0.6:
            return None
        chosen = source.sample(list(dict.fromkeys(among)), source.randrange(1, 4))
        if source.random() < 0.5:
            text = io.StringIO()
            csv.writer(text, lineterminator="").writerow(chosen)
            self.pairs.append((name, text.getvalue()))
        else:
            self.pairs += [(name, each.replace('"', '""').join('""')) for each in chosen]
        return chosen

    def _has(self, reading: Reading) -> bool:
        return (self.tags is None or reading.tag in self.tags) and (
            self.devices is None or reading.device in self.devices
        )

    def in_range(self) -> dict[int, list[Reading]]:
        """By channel, in order."""
        return {
            channel: sorted(
                (each for each in found if (self.start is None or self.start <= each.at_us) and each.at_us <= self.end),
                key=lambda reading: reading.order, reverse=self.descending,
            )
            for channel, found in self.found.items()
        }  # fmt: skip

    def span(self) -> list[tuple[str, str]]:
        start = [] if self.start is None else [("start", moment(self.start))]
        return [*start, ("end", moment(self.end))]

    def value(self, reading: Reading) -> Any:
        """What is left of it when only some streams are wanted."""
        sent = reading.value
        if self.streams is None:
            return plain(sent)
        if isinstance(sent, dict):
            return plain({name: inner for name, inner in sent.items() if name in self.streams})
        return plain(sent) if "value" in self.streams else {}

    def rows(self, found: dict[int, list[Reading]]) -> list[dict[str, Any]]:
        """As flat formats show them, but for what each makes of at."""
        return [
            {
                **({"channel": channel} if self.several else {}), "seq": reading.seq, "at": reading.at_us,
                "device": reading.device, "tag": reading.tag, "value": self.value(reading),
            }
            for channel, readings in found.items()
            for reading in readings
        ]  # fmt: skip

    def offset(self, at_us: int) -> str:
        local = EPOCH + datetime.timedelta(microseconds=at_us)
        return local.astimezone(ZoneInfo(self.zone)).strftime("%z")

    def check(self, shape: str, content: bytes, found: dict[int, list[Reading]]) -> None:
        """That the content is these readings."""
        wanted = self.rows(found)
        match shape:
            case "json":
                replies = json.loads(content)
                replies = replies if self.several else [replies]
                shown = [
                    (
                        reply["channel"],
                        entry["_id"][8:],
                        entry["tag"],
                        plain(entry["value"]),
                        entry["at"][-5:],
                    )
                    for reply in replies
                    for entry in reply["stream"]
                ]
                assert shown == [
                    (
                        row.get("channel", 1),
                        f"{row['seq']:016x}",
                        row["tag"],
                        row["value"],
                        self.offset(row["at"]),
                    )
                    for row in wanted
                ]
            case "ndjson":
                for row in wanted:
                    row["_id"] = f"{row['at'] // 1_000_000 & 0xFFFFFFFF:08x}{row.pop('seq'):016x}"
                    row["at"] = row["at"], self.offset(row["at"])
                assert flat_readers.from_ndjson(content) == wanted
            case "csv":
                self._check_csv(content, wanted)
            case "arrow" | "parquet":
                table = (flat_readers.from_arrow if shape == "arrow" else flat_readers.from_parquet)(content)
                assert flat_readers.rows_of(table) == wanted

    def _check_csv(self, content: bytes, wanted: list[dict[str, Any]]) -> None:
        names, lines = flat_readers.from_csv(content)
        fixed = ["channel"] * self.several + ["seq", "at", "device", "tag"]
        assert names[: len(fixed)] == fixed
        assert len({name.casefold() for name in names}) == len(names)
        assert len(lines) == len(wanted)
        for line, row in zip(lines, wanted, strict=True):
            named = dict(zip(fixed, line, strict=False))
            at = datetime.datetime.fromisoformat(named["at"])
            assert (flat_readers.to_us(at), at.strftime("%z")) == (row["at"], self.offset(row["at"]))
            assert (int(named["seq"]), named["device"], named["tag"]) == (
                row["seq"],
                row["device"],
                row["tag"] or "",
            )
            assert not self.several or int(named["channel"]) == row["channel"]
            cells = sorted(comparable(cell) for cell in line[len(fixed) :] if cell != "")
            assert cells == wanted_cells(row["value"])


def wanted_cells(value: Any) -> list[str]:
    """What a value's cells are in CSV, as the model has it (plain), made comparable."""
    cells = []
    for each in value.values() if isinstance(value, dict) else [value]:
        match each:
            case ("boolean", truth):
                cells.append(json.dumps(truth))
            case str():
                cells.append(comparable(each))
            case None | dict() | list():
                cells.append(json.dumps(json_of(each), sort_keys=True))
            case _:
                cells.append(comparable(repr(each)))
    return sorted(cell for cell in cells if cell != "")


def json_of(value: Any) -> Any:
    """Undo ``plain`` for booleans."""
    match value:
        case ("boolean", truth):
            return truth
        case dict():
            return {key: json_of(inner) for key, inner in value.items()}
        case list():
            return [json_of(inner) for inner in value]
        case _:
            return value


def comparable(cell: str) -> str:
    """Numbers and JSON in one spelling; a text that looks like one is spelled so, too."""
    try:
        number = Decimal(cell)
        return str((number + 0).normalize()) if abs(number) < 10**27 else repr(float(number))
    except InvalidOperation:
        pass
    if cell[:1] in ("{", "["):
        return json.dumps(json_of(plain(json.loads(cell))), sort_keys=True)
    return cell


@pytest.mark.parametrize("shape", FORMATS)
def test_every_format_has_the_rows_of_a_selection(
    house: FilledStore, source: random.Random, shape: str
) -> None:
    filled(house, source)
    for _ in range(12):
        question = Question(source, house)
        found = question.in_range()
        pairs = [*question.pairs, *question.span(), ("format", shape)]
        coding = source.choice(["gzip", "zstd", "gzip;q=0.5, zstd;q=0.7", "br", "identity", ""])
        status, headers, content = house.fetch(question.path, urlencode(pairs), Accept_Encoding=coding)
        assert status == 200, content
        assert headers["content-type"].split(";")[0] == FORMATS[shape].value
        question.check(shape, flat_readers.uncoded(headers, content), found)


# ---- pages


def page_rows(shape: str, content: bytes) -> list[tuple[int, int]]:
    """(channel or 0, seq) of each row."""
    if shape == "json":
        reply = json.loads(content)
        replies = reply if isinstance(reply, list) else [{**reply, "channel": 0}]
        return [(each["channel"], int(row["_id"][8:], 16)) for each in replies for row in each["stream"]]
    if shape == "ndjson":
        rows = flat_readers.from_ndjson(content)
        return [(row.get("channel", 0), int(row["_id"][8:], 16)) for row in rows]
    if shape == "csv":
        names, lines = flat_readers.from_csv(content)
        channel = names.index("channel") if "channel" in names else None
        return [
            (0 if channel is None else int(line[channel]), int(line[names.index("seq")])) for line in lines
        ]
    table = (flat_readers.from_arrow if shape == "arrow" else flat_readers.from_parquet)(content)
    return [(row.get("channel", 0), row["seq"]) for row in table.select(
        [name for name in ("channel", "seq") if name in table.column_names]
    ).to_pylist()]  # fmt: skip


def test_pages_have_every_row_once_whatever_comes_in_between(
    house: FilledStore, source: random.Random
) -> None:
    filled(house, source)
    clock = (SPRING_US + at_us % DAY_US for at_us in times(source))
    for _ in range(6):
        question = Question(source, house)
        wanted = [(row.get("channel", 0), row["seq"]) for row in question.rows(question.in_range())]
        found: list[tuple[int, int]] = []
        cursor: str | None = None
        for _ in range(len(wanted) + 1):
            limit = source.choice([1, 2, 7, 50, 1_000])
            shape = source.choice(list(FORMATS))
            pairs = [*question.pairs, *question.span(), ("format", shape)]
            if cursor is None or source.random() < 0.9:
                pairs.append(("limit", str(limit)))
            else:
                limit = 1_000
            if cursor is not None:
                pairs.append(("cursor", cursor))
            status, headers, content = house.fetch(question.path, urlencode(pairs))
            assert status == 200, content
            page = page_rows(shape, content)
            found += page
            cursor = headers.get("x-next-cursor")
            if shape == "json":
                reply = json.loads(content)
                assert (reply[-1] if question.several else reply).get("next_cursor") == cursor
            if cursor is None:
                assert "link" not in headers
                break
            assert len(page) == limit
            assert cursor in headers["link"]
            assert headers["link"].endswith('; rel="next"')
            # Between two pages readings come in, also late ones, and files change.
            fill(house, source, source.randrange(6), clock)
            source.choice(
                [house.commit, house.seal, lambda: (house.seal(), house.publish(2**60)), house.reopen]
            )()
        assert found == wanted


def test_a_cursor_is_for_the_request_that_it_came_from(house: FilledStore, source: random.Random) -> None:
    filled(house, source)
    _, headers, _ = house.fetch("/v2/stream/1", "end=2999-01-01&limit=3")
    cursor = headers["x-next-cursor"]
    assert house.fetch("/v2/stream/1", f"end=2999-01-01&limit=5&cursor={cursor}")[0] == 200
    for query in (
        "end=2998-01-01",
        "end=2999-01-01&sort=desc",
        "end=2999-01-01&tag=north",
        "end=2999-01-01&start=2000-01-01",
    ):
        status, _, content = house.fetch("/v2/stream/1", f"{query}&cursor={cursor}")
        assert (status, json.loads(content)["error"]) == (400, "BAD_PARAMETER")
    assert house.fetch("/v2/stream/2", f"end=2999-01-01&cursor={cursor}")[0] == 400
    for wrong in ("x", "AAAA", cursor[:-2], cursor + "A", "!", "kA", "€"):
        status, _, content = house.fetch(
            "/v2/stream/1", urlencode([("end", "2999-01-01"), ("cursor", wrong)])
        )
        assert (status, json.loads(content)["error"]) == (400, "BAD_PARAMETER"), wrong


# ---- the newest


def test_the_newest_of_several_channels_tags_and_devices(house: FilledStore, source: random.Random) -> None:
    filled(house, source)
    for _ in range(12):
        question = Question(source, house)
        limit, shape = source.choice([1, 2, 5, 100]), source.choice(list(FORMATS))
        wanted = {
            channel: sorted(found[-limit:], key=lambda reading: reading.order, reverse=question.descending)
            for channel, found in question.found.items()
        }
        pairs = [*question.pairs, ("end", "last"), ("limit", str(limit)), ("format", shape)]
        for _ in range(2):
            status, _, content = house.fetch(question.path, urlencode(pairs))
            assert status == 200, content
            question.check(shape, content, wanted)
        fill(house, source, source.randrange(4), iter([question.end] * 9))


def test_the_newest_of_each_device(house: FilledStore, source: random.Random) -> None:
    filled(house, source)
    for _ in range(12):
        question = Question(source, house)
        limit, shape = source.choice([1, 2, 5, 100]), source.choice(list(FORMATS))
        wanted = {}
        since = question.start if source.random() < 0.4 else None
        for channel, found in question.found.items():
            found = [each for each in found if since is None or each.at_us >= since]
            newest = [[each for each in found if each.device == device][-limit:] for device in DEVICES]
            wanted[channel] = sorted(
                [each for one in newest for each in one],
                key=lambda reading: reading.order,
                reverse=question.descending,
            )
        pairs = [
            *question.pairs,
            ("end", "last"),
            ("limit", str(limit)),
            ("format", shape),
            ("per", "device"),
        ]
        pairs += [] if since is None else [("start", moment(since))]
        status, _, content = house.fetch(question.path, urlencode(pairs))
        assert status == 200, content
        question.check(shape, content, wanted)


# ---- without order, and descriptions


def test_without_order_the_rows_are_the_same(house: FilledStore, source: random.Random) -> None:
    filled(house, source)
    for shape in FORMATS:
        _, _, content = house.fetch("/v2/stream/1", f"end=2999-01-01&format={shape}&sort=none")
        assert sorted(page_rows(shape, content)) == [(0, reading.seq) for reading in house.readings]


def test_descriptions_are_told(house: FilledStore) -> None:
    house.append({"temp": 1.5, "psi": None}, SPRING_US, "a")
    house.append({"temp": "off", "psi": 3}, SPRING_US, "a")
    house.commit()
    span = "end=2999-01-01"
    plainly = house.stream(X_ENDTIME="2999-01-01")
    assert list(plainly) == ["channel", "channel_name", "last_update", "stream"]
    silent = {"label": "", "unit": "", "description": ""}
    streams = {"temp": {**silent, "kind": "number"}, "psi": {**silent, "kind": "number"}}
    assert json.loads(house.fetch("/v2/stream/1", f"{span}&meta=true")[2]) == {
        **{key: plainly[key] for key in ("channel", "channel_name", "last_update")}, "streams": streams,
        "stream": plainly["stream"],
    }  # fmt: skip
    said = {"label": "Temperatur", "unit": "°C", "description": "am Kessel"}
    house.store.registry.describe_stream(house.channels[0].id, "temp", **said)
    streams["temp"] |= said
    assert (
        house.stream(X_ENDTIME="last")["streams"]
        == house.stream(X_ENDTIME="2999-01-01")["streams"]
        == streams
    )
    lines = house.fetch("/v2/stream/1", f"{span}&meta=true&format=ndjson")[2].splitlines()
    assert (len(lines), json.loads(lines[0])) == (3, {"streams": streams})
    names, (units, *rows) = flat_readers.from_csv(house.fetch("/v2/stream/1", f"{span}&meta=1&format=csv")[2])
    assert names == ["seq", "at", "device", "tag", "temp", "psi__json", "temp__text", "psi"]
    assert (units, len(rows)) == (["", "", "", "", "°C", "", "°C", ""], 2)
    for shape in ("arrow", "parquet"):
        content = house.fetch("/v2/stream/1", f"{span}&format={shape}")[2]
        table = (flat_readers.from_arrow if shape == "arrow" else flat_readers.from_parquet)(content)
        metadata = dict(table.schema.field("temp").metadata)
        metadata.pop(b"PARQUET:field_id", None)
        assert {key.decode(): text.decode() for key, text in metadata.items()} == {
            **said, "stream": '"temp"', "kind": "number",
        }  # fmt: skip


@pytest.mark.parametrize(
    "query",
    [
        "format=xml", "zone=Mars/Base", "zone=../etc/passwd", "compression=gzip&format=arrow", "compression=zstd",
        "sort=none&limit=3", "per=tag", "per=device", "cursor=x&sort=none", "channel=1", "format=xml&aggregate=avg",
        "interval=1h", "limit=0", "aggregate=avg&cursor=x", "tag=a%0Ab",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_by_name(house: FilledStore, query: str) -> None:
    status, _, content = house.fetch("/v2/stream/1", f"end=2999-01-01&{query}")
    assert (status, json.loads(content)["error"]) == (400, "BAD_PARAMETER")


def test_several_channels_are_named_and_there(house: FilledStore) -> None:
    for query in ("", "channel=", "channel=" + ",".join(map(str, range(65)))):
        status, _, content = house.fetch("/v2/stream", f"end=last&{query}")
        assert (status, json.loads(content)["error"]) == (400, "BAD_PARAMETER")
    for query in ("channel=1,9", "channel=x", "channel=1&channel=-1"):
        status, _, content = house.fetch("/v2/stream", f"end=last&{query}")
        assert (status, json.loads(content)["error"]) == (404, "NO_CHANNEL")


@pytest.mark.parametrize(
    ("accept", "shape"),
    [
        ("text/csv", "csv"), ("application/json", "json"), ("*/*", "json"), ("", "json"), ("text/html, */*;q=0.8", "json"),
        ("application/x-ndjson, application/json;q=0.5", "ndjson"), ("application/json;q=0.5, TEXT/CSV;q=0.7", "csv"),
        ("application/vnd.apache.arrow.stream", "arrow"), ("application/vnd.apache.parquet;q=1", "parquet"),
        ("image/png", "json"), ("text/csv;q=0", "json"), ("text/csv;q=0.1, */*", "json"), (",;q=,", "json"),
    ],
)  # fmt: skip
def test_the_format_is_what_the_client_likes_best(house: FilledStore, accept: str, shape: str) -> None:
    house.append(1, SPRING_US, "a")
    house.commit()
    for span in ("end=last", "end=2999-01-01", "end=2999-01-01&limit=5"):
        status, headers, content = house.fetch("/v2/stream/1", span, Accept=accept)
        assert (status, headers["content-type"].split(";")[0]) == (200, FORMATS[shape].value)
        assert headers["vary"] == "Accept, Accept-Encoding"
        assert len(page_rows(shape, content)) == 1


def test_buffers_are_compressed_when_asked(house: FilledStore) -> None:
    for i in range(2_000):
        house.append({"temp": i % 3}, SPRING_US + i, "a")
    house.commit()
    sizes = {}
    for compression in ("", "&compression=lz4", "&compression=zstd"):
        content = house.fetch("/v2/stream/1", f"end=2999-01-01&format=arrow{compression}")[2]
        assert flat_readers.from_arrow(content).column("temp").to_pylist() == [i % 3 for i in range(2_000)]
        sizes[compression] = len(content)
    assert max(sizes["&compression=lz4"], sizes["&compression=zstd"]) < sizes[""] / 2
