"""What people write, and in which format: bytes in, rows out, or one sentence about the first row that is wrong."""

from query.writing.apart import COLUMNS, parse_apart
from query.writing.rows import BadBodyError, Reading, Rows
from query.writing.texts import parse_csv, parse_json, parse_ndjson

# By Content-Type, beside COLUMNS; everything else is JSON, whatever the label (contract 3.0).
TEXTS = {"application/x-ndjson": parse_ndjson, "text/csv": parse_csv}


def parse(body: bytes, media_type: str, reading: Reading) -> Rows:
    """The rows of a body of text. Raises BadBodyError. In any thread."""
    rows = Rows(reading)
    TEXTS.get(media_type, parse_json)(body, rows)
    return rows


__all__ = ["COLUMNS", "BadBodyError", "Reading", "Rows", "parse", "parse_apart"]
