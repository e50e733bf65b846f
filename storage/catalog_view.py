"""What readers see of the catalog: its memory, asked and changed in the main thread only."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from storage import deletions
from storage.catalog_change import Change, Cursor
from storage.cover import (
    DAY_US,
    TIME_MAX_US,
    TIME_MIN_US,
    DeletedTag,
    Files,
    Holds,
    HotCover,
    HotFile,
    HotSegment,
    PublishedCover,
    PublishedFile,
    published_path,
    waiting_path,
)

Piece = TypeVar("Piece", PublishedFile, HotSegment)


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Of a channel's sealed rows. ``bytes`` is what they took in the ring; ``last_us`` the newest time."""

    rows: int
    bytes: int
    last_us: int


@dataclass(frozen=True, slots=True)
class CatalogStatistics:
    """What stands in files now."""

    hot_files: int
    hot_bytes: int
    published_files: int
    published_bytes: int
    published_rows: int
    sealed_rows: int


class CatalogView:
    """Which files there are and what they cover.

    Attributes:
        root: where published files live.
        cursor: up to where everything is in files.
        dropped: channels whose data is gone.
        deleted: what is to be passed over in each channel's files, as the store has resolved ``deleted_tags``.
        deleted_tags: channel -> tag -> the seq below which its rows are deleted, and may still be in files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._covers: dict[str, HotCover] = {}
        self._published: dict[int, PublishedCover] = {}
        self._channels: dict[int, ChannelStatistics] = {}
        self._tags: dict[int, int] = {}
        self._holds = Holds()
        self._totals = [0, 0, 0]  # published files, bytes, rows
        # Revisions, each with the mark behind which nobody reads its predecessor.
        self._waiting: dict[deletions.Waiting, int] = {}
        self.cursor = Cursor(0, 0)
        self.dropped: set[int] = set()
        self.deleted: dict[int, tuple[DeletedTag, ...]] = {}
        self.deleted_tags: dict[int, dict[str, int]] = {}

    def apply(self, change: Change) -> None:
        """Let readers see a committed change; in the same step the caller moves the ring's cursor."""
        if change.cursor is not None:
            self.cursor = change.cursor
        if change.sealed is not None:
            self._add_hot(change.sealed)
            deleted = {
                each.id
                for channel in self.deleted.values()
                for each in channel
                if each.below_seq >= change.sealed.next_seq
            }
            for tag, at_us in change.sealed.tag_last_us.items():
                if tag not in deleted:
                    self._tags[tag] = max(at_us, self._tags.get(tag, at_us))
            for segment in change.sealed.segments:
                self._count(segment)
        for channel, directory in change.directories.items():
            self._published.setdefault(channel, PublishedCover(directory))
        for file in change.published:
            self._add_published(file)
        for name, channel, day in change.done:
            self._covers[name].close(channel, day)
        for channel in change.dropped:
            self._drop(channel)
        for file in change.forgotten:
            self._published[file.channel].remove(file)
            self._total(-1, file)
            self._waiting = {piece: mark for piece, mark in self._waiting.items() if piece.path != file.path}
        self._apply_deletions(change)
        for path in change.obsolete:
            self._covers.pop(path.name, None)
        self._holds.dismiss(change.obsolete)

    def _apply_deletions(self, change: Change) -> None:
        """What came of deleted tags, and the figures of what is left."""
        for old, new in change.replaced:
            self._published[old.channel].remove(old)
            self._total(-1, old)
            self._add_published(new, is_waiting=True)
            names = self.root, self._published[old.channel].directory, old.day, old.first_seq
            piece = deletions.Waiting(
                old.channel, old.day, old.first_seq, new.path, old.path, published_path(*names, new.revision)
            )
            self._waiting[piece] = self._holds.mark()
        for piece in change.placed:
            self._published[piece.channel].place(piece.day, piece.first_seq)
            del self._waiting[piece]
        if change.erased is not None:
            self._erased(*change.erased)
        for channel, rows, size in change.less:
            known = self._channels[channel]
            self._channels[channel] = ChannelStatistics(known.rows - rows, known.bytes - size, known.last_us)
        for channel, newest in change.newest:
            if newest is None:
                self._channels.pop(channel, None)
            elif channel in self._channels:
                self._channels[channel] = replace(self._channels[channel], last_us=newest)

    def files_for(self, channel: int, start_us: int, end_us: int) -> Files:
        """The files that may hold rows of the channel with ``start_us <= at < end_us``. Memory only.

        To open them after control went back to the main thread, take ``hold`` in the same step.
        """
        cover = self._published.get(channel)
        published = () if cover is None else tuple(cover.between(self.root, channel, start_us, end_us))
        hot = tuple(
            segment
            for file in self._covers.values()
            if file.first_us < end_us and file.last_us >= start_us
            for segment in file.of_channel(channel, start_us, end_us)
        )
        if channel in self.deleted:
            return Files(
                tuple(self._with_deleted(file) for file in published),
                tuple(self._with_deleted(segment) for segment in hot),
            )
        return Files(published, hot)

    def _with_deleted(self, piece: Piece) -> Piece:
        """The same, and what is to be passed over in it."""
        found = self.deleted.get(piece.channel, ())
        deleted = tuple(each for each in found if each.below_seq > piece.first_seq)
        return replace(piece, deleted=deleted) if deleted else piece

    # ---- what was deleted

    def _erased(self, channel: int, tags: dict[str, int]) -> None:
        left = {
            name: below_seq
            for name, below_seq in self.deleted_tags.get(channel, {}).items()
            if tags.get(name) != below_seq
        }
        deleted = tuple(each for each in self.deleted.get(channel, ()) if each.name in left)
        if left:
            self.deleted_tags[channel], self.deleted[channel] = left, deleted
        else:
            self.deleted_tags.pop(channel, None)
            self.deleted.pop(channel, None)

    def next_path(self, file: PublishedFile) -> Path:
        """Where the file's next revision will wait. Any thread."""
        directory = self._published[file.channel].directory
        return waiting_path(self.root, directory, file.day, file.first_seq, file.revision + 1)

    def is_current(self, file: PublishedFile) -> bool:
        """Whether its rows count, under this revision."""
        cover = self._published.get(file.channel)
        return cover is not None and cover.has(file)

    def is_waiting(self, file: PublishedFile) -> bool:
        """Whether it is a revision that is not among the day's files yet."""
        return any(piece.path == file.path for piece in self._waiting)

    def placeable(self) -> list[deletions.Waiting]:
        """Revisions that wait, and whose predecessors no reader can still open."""
        return [piece for piece, mark in self._waiting.items() if self._holds.is_past(mark)]

    def oldest(self, channel: int) -> PublishedFile | HotSegment | None:
        """The published file or hot segment with the channel's oldest day, and of that the oldest rows."""
        cover = self._published.get(channel)
        found: list[PublishedFile | HotSegment] = []
        if cover is not None:
            found += itertools.islice(cover.between(self.root, channel, TIME_MIN_US, TIME_MAX_US), 1)
        for file in self._covers.values():
            found += itertools.islice(file.of_channel(channel, TIME_MIN_US, TIME_MAX_US), 1)
        return min(found, key=lambda piece: (piece.day, piece.first_seq), default=None)

    def hold(self) -> int:
        """Files seen until now stay readable until ``release``."""
        return self._holds.hold()

    def release(self, hold: int) -> None:
        self._holds.release(hold)

    def take_removable(self) -> list[Path]:
        """Files that can be unlinked now (``remove_files``, in any thread); each is given out once."""
        return self._holds.take_removable()

    def unpublished(self) -> dict[tuple[int, int], int]:
        """Rows that wait for publication, by (channel, day)."""
        waiting: dict[tuple[int, int], int] = {}
        for file in self._covers.values():
            for channel, day, rows in file.unpublished():
                waiting[channel, day] = waiting.get((channel, day), 0) + rows
        return waiting

    def unpublished_segments(self, channel: int, day: int) -> tuple[HotSegment, ...]:
        """What publishing this day would read."""
        return tuple(
            self._with_deleted(segment)
            for file in self._covers.values()
            for segment in file.of_channel(channel, day * DAY_US, (day + 1) * DAY_US)
            if segment.day == day
        )

    def channel_statistics(self, channel: int) -> ChannelStatistics | None:
        """Of sealed rows; None for a channel without any."""
        return self._channels.get(channel)

    def tag_last_us(self, tag: int) -> int | None:
        """The newest sealed row's time; None for a tag that no sealed row has."""
        return self._tags.get(tag)

    def statistics(self) -> CatalogStatistics:
        hot_bytes = sum(file.bytes for file in self._covers.values())
        files, size, rows = self._totals
        return CatalogStatistics(len(self._covers), hot_bytes, files, size, rows, self.cursor.seq)

    def _add_hot(self, file: HotFile) -> None:
        self._covers[file.path.name] = HotCover(file)

    def _add_published(self, file: PublishedFile, *, is_waiting: bool = False) -> None:
        self._published[file.channel].add(file, is_waiting=is_waiting)
        self._total(1, file)

    def _total(self, sign: int, file: PublishedFile) -> None:
        for i, amount in enumerate((1, file.bytes, file.rows)):
            self._totals[i] += sign * amount

    def _count(self, segment: HotSegment) -> None:
        known = self._channels.get(segment.channel, ChannelStatistics(0, 0, segment.last_us))
        self._channels[segment.channel] = ChannelStatistics(
            known.rows + segment.rows, known.bytes + segment.bytes, max(known.last_us, segment.last_us)
        )

    def _drop(self, channel: int) -> None:
        cover = self._published.pop(channel, None)
        if cover is not None:
            for file in cover.between(self.root, channel, TIME_MIN_US, TIME_MAX_US):
                self._total(-1, file)
        for hot in self._covers.values():
            hot.close_channel(channel)
        self._channels.pop(channel, None)
        self._waiting = {piece: mark for piece, mark in self._waiting.items() if piece.channel != channel}
        self.deleted_tags.pop(channel, None)
        self.deleted.pop(channel, None)
        self.dropped.add(channel)
