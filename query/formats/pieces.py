"""A reply's bytes in whatever format, and content codings."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import zstandard

from query.formats.columnar import arrow_pieces, parquet_pieces
from query.formats.layout import Layout, Part, Piece
from query.formats.texts import csv_pieces, json_pieces, ndjson_pieces
from query.stream_request import Format

# Rows of numbers: gzip's level 1 takes a quarter of level 6's time for a tenth more bytes.
GZIP_LEVEL: Final = 1
GZIP_WINDOW: Final = 31  # 32 KiB, with gzip's header and trailer
ZSTD_LEVEL: Final = 1


def pieces_of(
    shape: Format, parts: Sequence[Part], layout: Layout, *, is_list: bool = False
) -> Iterator[Piece]:
    """All of a reply.

    Args:
        shape: the format.
        parts: one per channel; their tables are read as the pieces are taken.
        layout: what the parts have in common.
        is_list: JSON: envelopes in a list.
    """
    match shape:
        case Format.JSON:
            return json_pieces(parts, layout, is_list=is_list)
        case Format.NDJSON:
            return ndjson_pieces(parts, layout)
        case Format.CSV:
            return csv_pieces(parts, layout)
        case Format.ARROW:
            return arrow_pieces(parts, layout)
        case Format.PARQUET:
            return parquet_pieces(parts, layout)


class Compressor(Protocol):
    """What zlib and zstandard have in common."""

    def compress(self, data: Piece, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressed(pieces: Iterator[Piece], coding: str) -> Iterator[Piece]:
    """The same in a content coding, zstd or gzip."""
    compressor: Compressor = (
        zstandard.ZstdCompressor(ZSTD_LEVEL).compressobj()
        if coding == "zstd"
        else zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    )
    for piece in pieces:
        if made := compressor.compress(piece):
            yield made
    yield compressor.flush()
