"""Rows as text: one JSON value, a JSON array of rows, NDJSON, CSV.

A row in JSON is an object with ``value`` and perhaps ``at``, ``tag`` and ``device``; the ``_id`` that a reply had is
passed over, so that what was read can be written again. Values are not decoded here: they go to the journal as they
stand.
"""

import csv
import io
import re
from typing import Final

import msgspec

from query.writing.rows import BadBodyError, Rows

WHITE: Final = b" \t\r\n"
UTF8_MARK: Final = b"\xef\xbb\xbf"
# A cell that is JSON as it stands (RFC 8259, section 6); everything else is text.
PLAIN_CELL: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false", re.ASCII)
# Columns that are not streams. A seq is one that a reply had, and is passed over.
FIXED: Final = ("at", "device", "tag")
PASSED_OVER: Final = "seq"
LITERAL: Final = "value"  # the only stream column of this name holds values that are no objects


class JsonRow(msgspec.Struct, forbid_unknown_fields=True):
    """A row in JSON."""

    value: msgspec.Raw
    at: str | None = None
    tag: str | None = None
    device: str | None = None
    id: str | None = msgspec.field(name="_id", default=None)


_ROW: Final = msgspec.json.Decoder(JsonRow)
_ROWS: Final = msgspec.json.Decoder(list[JsonRow])
_PLACE: Final = re.compile(r" - at `\$(?:\[(\d+)\])?\.?(.*)`$")


def parse_json(body: bytes, rows: Rows) -> None:
    """One value, or an array of rows. Raises BadBodyError."""
    text = body.strip(WHITE)
    if not text:
        raise BadBodyError("BAD_JSON_FORMAT", "the body is empty: expected a value, or an array of rows")
    if not text.startswith(b"["):
        rows.add(text, None, None, None, 1)
        return
    try:
        found = _ROWS.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        words = str(error) or "too deep"
        place = _PLACE.search(words)
        if place is None or place[1] is None:
            raise BadBodyError("BAD_JSON_FORMAT", f"the body is not an array of rows: {words}") from None
        raise rows.bad(int(place[1]) + 1, "BAD_JSON_FORMAT", _sentence(words)) from None
    for number, row in enumerate(found, 1):
        rows.add(bytes(row.value), row.at, row.tag, row.device, number)


def _sentence(words: str) -> str:
    """What msgspec says, with the key that it is about."""
    place = _PLACE.search(words)
    if place is None:
        return words
    return f"{place[2]}: {words[: place.start()]}" if place[2] else words[: place.start()]


def parse_ndjson(body: bytes, rows: Rows) -> None:
    """A row per line; empty lines are passed over. Raises BadBodyError."""
    rows.unit = "line"
    for number, line in enumerate(body.removeprefix(UTF8_MARK).split(b"\n"), 1):
        if not line.strip(WHITE):
            continue
        try:
            row = _ROW.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise rows.bad(number, "BAD_JSON_FORMAT", _sentence(str(error) or "too deep")) from None
        rows.add(bytes(row.value), row.at, row.tag, row.device, number)


def parse_csv(body: bytes, rows: Rows) -> None:
    """A line of names, then a row per line (RFC 4180). Raises BadBodyError."""
    rows.unit = "line"
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadBodyError("BAD_BODY_FORMAT", f"the body is not UTF-8: {error}") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    before = 0
    try:
        names = next(lines, [])
        streams = [(names.index(name), key) for name, key in stream_columns(names)]
        places = [names.index(name) if name in names else len(names) for name in FIXED]
        before = lines.line_num
        for fields in lines:
            number, before = before + 1, lines.line_num
            if not fields:
                continue
            if len(fields) != len(names):
                words = f"{len(fields)} fields, where the first line has {len(names)}"
                raise rows.bad(number, "BAD_BODY_FORMAT", words)
            fields.append("")  # for the fixed columns that are not there
            at, device, tag = (fields[place] for place in places)
            rows.add(_value(streams, fields), at or None, tag, device, number)
    except csv.Error as error:
        raise rows.bad(before + 1, "BAD_BODY_FORMAT", str(error)) from None


def _value(streams: list[tuple[int, bytes | None]], fields: list[str]) -> bytes:
    """An object of the fields that are not empty; ``{}`` too for a literal that is not there."""
    members = []
    for place, key in streams:
        if not fields[place]:
            continue
        cell = fields[place]
        value = cell.encode() if PLAIN_CELL.fullmatch(cell) else msgspec.json.encode(cell)
        if key is None:
            return value
        members.append(key + b":" + value)
    return b"{" + b",".join(members) + b"}"


def stream_columns(names: list[str]) -> list[tuple[str, bytes | None]]:
    """The columns that are streams: each one's name, and as a JSON key; None if values are literals.

    Raises:
        BadBodyError: two columns have one name, or none is a stream.
    """
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise BadBodyError("BAD_BODY_FORMAT", f"column {min(doubled)!r}: there are two of this name")
    streams = [name for name in names if name not in (*FIXED, PASSED_OVER)]
    if not streams:
        raise BadBodyError("BAD_BODY_FORMAT", "there is no column with values")
    if streams == [LITERAL]:
        return [(LITERAL, None)]
    try:
        return [(name, msgspec.json.encode(name)) for name in streams]
    except UnicodeEncodeError:
        raise BadBodyError("BAD_BODY_FORMAT", "the name of a column is not Unicode text") from None
