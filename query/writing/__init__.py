"""What people write, and in which format: bytes in, rows out, or one sentence about the first row that is wrong."""

from query.writing.columnar import parse_arrow, parse_parquet
from query.writing.rows import BadBodyError, Reading, Rows
from query.writing.texts import parse_csv, parse_json, parse_ndjson

# By Content-Type; everything else is JSON, whatever the label (contract 3.0).
PARSERS = {
    "application/x-ndjson": parse_ndjson,
    "text/csv": parse_csv,
    "application/vnd.apache.arrow.stream": parse_arrow,
    "application/vnd.apache.parquet": parse_parquet,
}


def parse(body: bytes, media_type: str, reading: Reading) -> Rows:
    """The rows of a body. Raises BadBodyError. In any thread."""
    rows = Rows(reading)
    PARSERS.get(media_type, parse_json)(body, rows)
    return rows


__all__ = ["PARSERS", "BadBodyError", "Reading", "Rows", "parse"]
