"""What a stream is called in Parquet: a pure function of the channel's columns in order of registration.

A published column's name never changes, so names are given out in order, and a later column can only avoid what is
taken. That makes the function stable under appending: the names of a prefix are the prefix of the names.

* The first kind of a stream owns the stream's name, every later kind gets a suffix (``temp``, ``temp__text``). JSON
  always gets its suffix: a device that once sends ``null`` before its first number must not take ``temp`` from it.
* Engines compare names without case (DuckDB, Spark), and read ``user=``, ``channel=`` and ``day=`` off the directories
  unless told not to (DuckDB then replaces a column of that name, silently). So what collides in that sense is numbered.
* Spark and Delta refuse a few characters; they become ``_``. Everything else stays as the device wrote it.

The name, kind and physical name of each column stand in the file's metadata (docs/formats/published.md).
"""

import unicodedata
from collections.abc import Iterable
from typing import Final

from storage.kinds import Kind

# The four columns that every published file begins with, and the names that stand in its directories.
FIXED: Final = ("seq", "at", "device", "tag")
DIRECTORIES: Final = ("user", "channel", "day")

LITERAL_NAME: Final = "value"
EMPTY_NAME: Final = "_"

# Spark: AnalysisException "contains invalid character(s) among " ,;{}()\n\t="".
REFUSED: Final = frozenset(" ,;{}()\n\t=")

SUFFIXES: Final = {
    Kind.NUMBER: "__number",
    Kind.INTEGER: "__integer",
    Kind.TEXT: "__text",
    Kind.BOOLEAN: "__boolean",
    Kind.JSON: "__json",
}


def stream_name(name: str | None) -> str:
    """What people call a stream: its name; LITERAL_NAME for the literal payload, which has none."""
    return LITERAL_NAME if name is None else name


def physical_names(columns: Iterable[tuple[str | None, Kind]]) -> list[str]:
    """One unique name per (stream, kind), in that order; the stream None is the literal payload.

    ``physical_names(columns[:n]) == physical_names(columns)[:n]`` for every n.
    """
    taken = {_key(name) for name in (*FIXED, *DIRECTORIES)}
    owned: set[str | None] = set()
    names = []
    for stream, kind in columns:
        plain = LITERAL_NAME if stream is None else _acceptable(stream)
        if kind != Kind.JSON and stream not in owned:
            owned.add(stream)
            wanted = plain
        else:
            wanted = plain + SUFFIXES[kind]
        name, number = wanted, 1
        while _key(name) in taken:
            number += 1
            name = f"{wanted}_{number}"
        taken.add(_key(name))
        names.append(name)
    return names


def _acceptable(stream: str) -> str:
    return "".join("_" if _is_refused(letter) else letter for letter in stream) or EMPTY_NAME


def _is_refused(letter: str) -> bool:
    return letter in REFUSED or unicodedata.category(letter) == "Cc"


def _key(name: str) -> str:
    # Full case folding is coarser than what any engine does: more numbers, never a clash.
    return name.casefold()
