"""Many devices at once: pages of a large fleet, and provisioning from a table (JSON or CSV)."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from starlette.requests import Request

from query.cursors import place_of, text_of
from query.errors import ApiError
from query.requests import number_of_channel, only_parameters
from storage.registry import DEVICE_SORTS, DEVICE_TEXTS, DeviceFilter

BULK_ROWS_MAX: Final = 10_000
COLUMNS: Final = ("device_id", "enabled", "mapped_ch", *DEVICE_TEXTS)
UNMAPPED: Final = ("none", "null")
LISTED: Final = (*(field.name for field in fields(DeviceFilter)), "sort", "limit", "cursor")


# ---- pages


def filter_of(request: Request) -> DeviceFilter:
    """What the URL asks for. Raises ApiError: BAD_PARAMETER."""
    given = only_parameters(request, LISTED)
    enabled, mapped_ch = given.get("enabled"), given.get("mapped_ch")
    if enabled not in (None, "true", "false"):
        raise ApiError("BAD_PARAMETER", f"enabled: expected true or false, not {enabled!r}")
    number = None
    if mapped_ch is not None:
        number = -1 if mapped_ch in UNMAPPED else number_of_channel(mapped_ch)
        if number is None:
            raise ApiError(
                "BAD_PARAMETER", f"mapped_ch: expected a channel number or none, not {mapped_ch!r}"
            )
    texts = {name: given.get(name) for name in ("device_type", "location", "manufacturer")}
    return DeviceFilter(
        search=given.get("search", ""),
        enabled=None if enabled is None else enabled == "true",
        mapped_ch=number,
        **texts,
    )


def sort_of(request: Request) -> tuple[str, bool]:
    """A key of DEVICE_SORTS, and whether it goes down. Raises ApiError: BAD_PARAMETER."""
    sort = request.query_params.get("sort", "device_id")
    key = sort.removeprefix("-")
    if key not in DEVICE_SORTS:
        raise ApiError("BAD_PARAMETER", f"sort: expected one of {', '.join(DEVICE_SORTS)}, with - to go down")
    return key, sort.startswith("-")


def encode_cursor(sort: str, value: Any, device_id: str) -> str:
    return text_of((sort, value, device_id))


def decode_cursor(cursor: str | None, sort: str) -> tuple[Any, str] | None:
    """Where the next page begins. Raises ApiError: BAD_PARAMETER."""
    if cursor is None:
        return None
    key, value, device_id = place_of(cursor, tuple[str, str | int, str])
    if key != sort or (isinstance(value, int) and abs(value) >= 2**63):
        raise ApiError("BAD_PARAMETER", "cursor: not from an answer that was sorted like this")
    return value, device_id


# ---- provisioning


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what it says of a device, or what is wrong with it.

    Attributes:
        line: counted from 1; of CSV including the head.
        values: by column, those that are there.
    """

    line: int
    values: dict[str, Any]
    fault: str = ""


def rows_of(body: bytes, media_type: str) -> list[Row]:
    """The table in a body: a JSON array of objects, or CSV with a line of names.

    Raises:
        ApiError: BAD_JSON_FORMAT, BAD_CSV_FORMAT: no line of it can be read.
    """
    is_csv = media_type.partition(";")[0].strip().lower() == "text/csv"
    rows: list[Row] = []
    for row in _csv_rows(body) if is_csv else _json_rows(body):
        rows.append(row)
        if len(rows) > BULK_ROWS_MAX:
            raise ApiError(
                "BAD_CSV_FORMAT" if is_csv else "BAD_JSON_FORMAT", f"more than {BULK_ROWS_MAX} devices"
            )
    return rows


def _json_rows(body: bytes) -> Iterator[Row]:
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError("BAD_JSON_FORMAT", f"the body is not JSON: {error}") from None
    if not isinstance(listed, list):
        raise ApiError("BAD_JSON_FORMAT", "the body is not a JSON array")
    for line, each in enumerate(listed, 1):
        if isinstance(each, dict):
            yield Row(line, each)
        else:
            yield Row(line, {}, "expected an object")


def _csv_rows(body: bytes) -> Iterator[Row]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ApiError("BAD_CSV_FORMAT", f"the body is not UTF-8: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        unknown = [name for name in names if name not in COLUMNS]
        if "device_id" not in names or unknown or len(set(names)) < len(names):
            raise ApiError(
                "BAD_CSV_FORMAT", f"the first line has device_id and some of {', '.join(COLUMNS[1:])}, once"
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(names):
                yield Row(reader.line_num, {}, f"{len(cells)} cells, not {len(names)}")
                continue
            yield Row(reader.line_num, _plain(dict(zip(names, cells, strict=True))))
    except csv.Error as error:
        raise ApiError("BAD_CSV_FORMAT", f"line {reader.line_num}: {error}") from None


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Cells as JSON would have them: an empty flag or channel says nothing, ``none`` says no channel."""
    for name in ("enabled", "mapped_ch"):
        if values.get(name, "x").strip() == "":
            del values[name]
    if values.get("mapped_ch") in UNMAPPED:
        values["mapped_ch"] = None
    return values
