"""What rows look like on the way out: the contract's JSON, NDJSON, CSV, Arrow's stream, Parquet.

A format is a generator: parts of a reply (one per channel) in, pieces of bytes out, as the tables come. It never holds
more than the table in hand. Everything here runs in worker threads.
"""

from query.formats.layout import Layout, Part, Piece
from query.formats.pieces import compressed, pieces_of

__all__ = ["Layout", "Part", "Piece", "compressed", "pieces_of"]
