"""The catalog against a plain model: any order of seals, publications, drops, readers and restarts."""

import copy
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from storage.catalog import Catalog, remove_files
from storage.catalog_change import Change, Cursor, Published
from storage.catalog_view import ChannelStatistics
from storage.cover import DAY_US, TEMPORARY, Files, HotFile, HotSegment, PublishedFile
from storage.disk import RealDisk
from tests.storage.catalog_files import (
    Stretch,
    directory_of,
    hot_file,
    make,
    make_temporary,
    paths,
    published_file,
    standing,
)

CHANNELS, DAYS = (1, 2), (-1, 1)
TIMES = st.sampled_from([0, 1, 5, DAY_US - 1])
USUALLY = st.sampled_from([True, True, True, False])
RARELY = USUALLY.map(lambda usual: not usual)
STRETCHES = st.lists(
    st.builds(Stretch, st.sampled_from(CHANNELS), st.sampled_from(DAYS), TIMES, TIMES, st.integers(1, 5)),
    min_size=1,
    max_size=3,
    unique_by=lambda stretch: stretch[:2],
)


class Model:
    """What should be known, in lists that are searched from front to back."""

    def __init__(self) -> None:
        self.cursor = Cursor(0, 0)
        self.hot: list[HotSegment] = []
        self.hot_sizes: dict[Path, int] = {}
        self.published: list[PublishedFile] = []
        self.dropped: set[int] = set()
        self.sealed: list[HotSegment] = []  # also those that are published since

    def seal(self, cursor: Cursor, file: HotFile | None) -> None:
        self.cursor = cursor
        if file is not None:
            segments = [segment for segment in file.segments if segment.channel not in self.dropped]
            self.hot += segments
            self.sealed += segments
            self.hot_sizes[file.path] = file.bytes

    def publish(self, segments: Sequence[HotSegment], files: Sequence[PublishedFile]) -> None:
        if segments[0].channel not in self.dropped:
            self.hot = [segment for segment in self.hot if segment not in segments]
            self.published += files

    def drop(self, channel: int) -> None:
        self.dropped.add(channel)
        for name in ("hot", "published", "sealed"):
            setattr(self, name, [each for each in getattr(self, name) if each.channel != channel])

    def files_for(self, channel: int, start_us: int, end_us: int) -> Files:
        def wanted(file: HotSegment | PublishedFile) -> bool:
            return file.channel == channel and file.first_us < end_us and file.last_us >= start_us

        published = sorted(filter(wanted, self.published), key=lambda file: (file.day, file.first_seq))
        return Files(tuple(published), tuple(segment for segment in self.hot if wanted(segment)))

    def paths(self) -> set[Path]:
        return paths(self.hot) | paths(self.published)

    def statistics(self, channel: int) -> ChannelStatistics | None:
        mine = [segment for segment in self.sealed if segment.channel == channel]
        if not mine:
            return None
        rows, size = sum(each.rows for each in mine), sum(each.bytes for each in mine)
        return ChannelStatistics(rows, size, max(each.last_us for each in mine))


class CatalogMachine(RuleBasedStateMachine):
    """One worker that commits, one reader that applies, and a power switch."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.catalog = Catalog.open(Path(self.directory.name))
        self.stranger = self.catalog.root / "user=U000001" / "channel=1" / "day=1970-01-01" / "copy.parquet"
        make(self.stranger)
        self.committed = Model()  # what the database should say
        self.applied = Model()  # what readers should see
        self.waiting: list[tuple[Change, Callable[[Model], None]]] = []
        self.holds: list[tuple[int, set[Path]]] = []
        self.given: set[Path] = set()
        self.litter: set[Path] = set()

    def teardown(self) -> None:
        self.catalog.close()
        self.directory.cleanup()

    def commit(self, change: Change, what: Callable[[Model], None], at_once: bool) -> None:
        """The worker's half; the reader's comes at once or with a later one."""
        what(self.committed)
        self.waiting.append((change, what))
        if at_once:
            self.apply()
            self.sweep()

    # ---- the worker

    @rule(stretches=STRETCHES, at_once=USUALLY)
    def seal(self, stretches: list[Stretch], at_once: bool) -> None:
        found = self.committed.cursor
        file = hot_file(self.catalog, stretches, found.seq)
        cursor = Cursor(found.lsn + 1, file.next_seq)
        change = self.catalog.commit_seal(cursor, file, [], [])
        self.commit(change, lambda model: model.seal(cursor, file), at_once)

    @rule(at_once=USUALLY)
    def seal_nothing(self, at_once: bool) -> None:
        cursor = Cursor(self.committed.cursor.lsn + 1, self.committed.cursor.seq)
        change = self.catalog.commit_seal(cursor, None, [], [])
        self.commit(change, lambda model: model.seal(cursor, None), at_once)

    @precondition(lambda self: self.committed.hot)
    @rule(chance=st.randoms(use_true_random=False), complete=USUALLY, meanwhile=RARELY, at_once=USUALLY)
    def publish(self, chance: random.Random, complete: bool, meanwhile: bool, at_once: bool) -> None:
        """Publish what waits of one channel and day, in one file or two, or fail half way."""
        self.apply()
        channel, day = chance.choice(sorted(self.catalog.unpublished()))
        segments = self.catalog.unpublished_segments(channel, day)
        cut = chance.randrange(len(segments))
        files = tuple(published_file(self.catalog, part) for part in (segments[:cut], segments[cut:]) if part)
        self.catalog.announce([file.path for file in files])
        if not complete:
            self.litter.add(make_temporary(files[0].path))
            return
        for file in files:
            make(file.path)
            self.litter.discard(file.path.with_suffix(TEMPORARY))
        if meanwhile:
            self.drop(channel, at_once)
        outcome = Published({channel: directory_of(channel)}, files, segments)
        change = self.catalog.commit_publish(outcome)
        self.commit(change, lambda model: model.publish(segments, files), at_once)

    @precondition(lambda self: self.committed.cursor.lsn > 3)
    @rule(channel=st.sampled_from(CHANNELS), at_once=USUALLY)
    def drop(self, channel: int, at_once: bool) -> None:
        change = self.catalog.commit_drop(channel)
        self.commit(change, lambda model: model.drop(channel), at_once)

    # ---- the reader

    def apply(self) -> None:
        for change, what in self.waiting:
            self.catalog.apply(change)
            what(self.applied)
        self.waiting = []

    def sweep(self) -> None:
        removable = self.catalog.take_removable()
        assert self.given.isdisjoint(removable)
        self.given.update(removable)
        remove_files(removable, RealDisk())

    @rule()
    def hold(self) -> None:
        self.holds.append((self.catalog.hold(), self.applied.paths()))

    @precondition(lambda self: self.holds)
    @rule(number=st.integers(0, 9))
    def release(self, number: int) -> None:
        self.catalog.release(self.holds.pop(number % len(self.holds))[0])

    @rule()
    def settle(self) -> None:
        """Nobody reads, nothing waits: only files that are known stand there, and what a failure left."""
        while self.holds:
            self.release(0)
        self.apply()
        self.sweep()
        assert standing(self.catalog) == self.committed.paths() | self.litter | {self.stranger}

    @rule(stray=st.booleans())
    def restart(self, stray: bool) -> None:
        """Whatever was under way is lost; what was committed is what there is."""
        if stray:
            (self.catalog.hot / "0000000000000000099.tmp").write_bytes(b"half")
        self.catalog.close()
        self.catalog = Catalog.open(Path(self.directory.name))
        self.applied = copy.deepcopy(self.committed)
        self.waiting, self.holds, self.litter = [], [], set()
        assert standing(self.catalog) == self.committed.paths() | {self.stranger}

    # ---- always

    @invariant()
    def files_are_found(self) -> None:
        for channel in CHANNELS:
            for start_us in (-2 * DAY_US, -DAY_US + 1, 0, 5, DAY_US, 2 * DAY_US - 1, 3 * DAY_US):
                for end_us in (start_us, start_us + 1, start_us + 5, start_us + DAY_US, 10 * DAY_US):
                    expected = self.applied.files_for(channel, start_us, end_us)
                    assert self.catalog.files_for(channel, start_us, end_us) == expected

    @invariant()
    def what_can_be_seen_can_be_opened(self) -> None:
        seen = self.applied.paths().union(self.committed.paths(), *(held for _, held in self.holds))
        assert all(path.exists() for path in seen)
        assert self.stranger.exists()

    @invariant()
    def what_waits_is_known(self) -> None:
        expected: dict[tuple[int, int], int] = {}
        for segment in self.applied.hot:
            key = segment.channel, segment.day
            expected[key] = expected.get(key, 0) + segment.rows
        assert self.catalog.unpublished() == expected
        for channel, day in expected:
            mine = tuple(each for each in self.applied.hot if (each.channel, each.day) == (channel, day))
            assert self.catalog.unpublished_segments(channel, day) == mine

    @invariant()
    def sums_are_right(self) -> None:
        model, found = self.applied, self.catalog.statistics()
        hot = {segment.path for segment in model.hot}
        assert self.catalog.cursor == model.cursor
        assert (found.hot_files, found.hot_bytes) == (len(hot), sum(model.hot_sizes[path] for path in hot))
        assert found.published_files == len(model.published)
        assert found.published_rows == sum(file.rows for file in model.published)
        assert found.published_bytes == sum(file.bytes for file in model.published)
        assert found.sealed_rows == model.cursor.seq
        for channel in CHANNELS:
            assert self.catalog.channel_statistics(channel) == model.statistics(channel)


TestCatalog = CatalogMachine.TestCase
TestCatalog.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
