"""What a transaction of the catalog did: the way from storage/catalog.py to storage/catalog_view.py."""

from dataclasses import dataclass, field
from pathlib import Path

from storage import deletions
from storage.cover import HotFile, HotSegment, PublishedFile


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to where everything is in hot files: the last LSN that is, and the first seq that is not."""

    lsn: int
    seq: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction did, for CatalogView.apply. Each attribute is empty where nothing of its sort happened.

    Attributes:
        cursor: the new sealed cursor.
        sealed: the new hot file, without segments of dropped channels.
        directories: channel -> its directory below the published files.
        published: the new published files.
        done: (name of the hot file, channel, day) of segments that are now published.
        dropped: channels whose files and segments are gone.
        forgotten: published files that are gone, of channels that stay.
        replaced: published files, each with its next revision, which is not among the day's files yet.
        placed: revisions that are now.
        erased: a channel, tags and the seqs below which no file has rows of them any more.
        less: (channel, rows, bytes) that are not to be counted any more.
        newest: (channel, time of its newest sealed row), None if there is no row any more.
        obsolete: files that nothing needs any more.
    """

    cursor: Cursor | None = None
    sealed: HotFile | None = None
    directories: dict[int, str] = field(default_factory=dict)
    published: tuple[PublishedFile, ...] = ()
    done: tuple[tuple[str, int, int], ...] = ()
    dropped: tuple[int, ...] = ()
    forgotten: tuple[PublishedFile, ...] = ()
    replaced: tuple[tuple[PublishedFile, PublishedFile], ...] = ()
    placed: tuple[deletions.Waiting, ...] = ()
    erased: tuple[int, dict[str, int]] | None = None
    less: tuple[tuple[int, int, int], ...] = ()
    newest: tuple[tuple[int, int | None], ...] = ()
    obsolete: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """One publication's outcome: new files, complete and durable, and the segments whose rows they hold.

    ``deleted_rows``: rows of the segments that are in none of the files, because they were deleted.
    """

    directories: dict[int, str]
    files: tuple[PublishedFile, ...]
    segments: tuple[HotSegment, ...]
    deleted_rows: int = 0
