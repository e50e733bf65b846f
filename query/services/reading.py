"""How reads of ranges are carried out: small ones in a thread, heavy ones in a worker (query/readers.py).

How heavy a read is, is seen when its snapshots are there: by the catalog's numbers, then by what the ring has. A read
that turns out heavy gives its turn back and begins anew, so the small ones never wait for it.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from fastapi import Request, Response

from query.background import in_background
from query.errors import ApiError
from query.plan import Selection
from query.ports import Backend
from query.replies import StreamedReply, while_there, whole
from query.rows import ChannelRows, weight_in
from query.services.stream_parts import rows_of
from query.written import Work, begin, step_of
from storage.registry import Channel

if TYPE_CHECKING:
    from storage.snapshot import Snapshot

Found = list[ChannelRows | None]

# Replies that clients are still reading, for each read that may run: each holds a few windows, some 100 MB.
REPLIES_PER_READ: Final = 8
# Published rows of plain sums that weigh as much as one that is written: DuckDB adds them up without the interpreter.
SUMMED_ROWS: Final = 8
# The same where only some devices or tags are asked for: DuckDB looks for their rows.
FILTERED_ROWS: Final = 4


class Reading:
    """See the module. The main thread's."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._readers = backend.readers
        self._unread: set[AsyncExitStack] = set()

    def check_unread(self) -> None:
        """Clients that hardly read must not fill the memory. Raises ApiError."""
        if len(self._unread) >= REPLIES_PER_READ * self._readers.options.concurrent_max:
            raise ApiError(
                "UNAVAILABLE",
                f"{len(self._unread)} ranges are being read by slow clients",
                {"Retry-After": "1"},
            )

    async def answer(
        self,
        request: Request,
        wanted: Sequence[tuple[Channel, Selection | None]],
        media_type: str,
        work_of: Callable[[Found], Work],
        *,
        is_streamed: bool = False,
        is_summed: bool = False,
    ) -> Response:
        """The reply to a read of these channels, all as they are at one moment.

        Args:
            request: whose client is waited for.
            wanted: channels, and what is asked of each; None if nothing can be there.
            media_type: of the reply.
            work_of: makes the work, of each channel's rows.
            is_streamed: the reply may be long, and slow clients can have too many of those.
            is_summed: of published rows only sums are made.
        """
        for is_heavy in (False, True):
            if is_streamed:
                self.check_unread()
            async with self._readers.turns if is_heavy else self._backend.queries, AsyncExitStack() as held:
                if is_streamed:
                    self.check_unread()
                rows_max = None if is_heavy else self._readers.options.heavy_rows
                found = await self._rows(wanted, held, rows_max, is_summed=is_summed)
                if found is None:
                    continue
                work = work_of(found)
                del found
                run = self._in_worker if is_heavy else self._in_thread
                return await run(request, work, media_type, held)
        raise AssertionError("nothing is too heavy for a worker")

    async def _rows(
        self,
        wanted: Sequence[tuple[Channel, Selection | None]],
        held: AsyncExitStack,
        rows_max: int | None,
        *,
        is_summed: bool,
    ) -> Found | None:
        """What the channels have; None if it weighs more than so many rows."""
        weight = 0
        pairs: list[tuple[Snapshot, Selection] | None] = []
        for channel, selection in wanted:
            if selection is None:
                pairs.append(None)
                continue
            snapshot = self._backend.store.snapshot(channel, selection.start_us, selection.end_us)
            pairs.append((held.enter_context(snapshot), selection))
            is_filtered = selection.devices is not None or selection.tags is not None
            for_one = SUMMED_ROWS if is_summed else FILTERED_ROWS if is_filtered else 1
            weight += -(-weight_in(snapshot.published, selection) // for_one)
            weight += weight_in(snapshot.hot, selection)
        found: Found = []
        for pair in pairs:
            if rows_max is not None and weight > rows_max:
                return None
            rows = None if pair is None else await rows_of(self._backend, *pair)
            weight += 0 if rows is None else rows.fresh_weight()
            found.append(rows)
        return None if rows_max is not None and weight > rows_max else found

    async def _in_thread(
        self, request: Request, work: Work, media_type: str, held: AsyncExitStack
    ) -> Response:
        begun, rest = await in_background(begin, work)
        if begun.is_whole:
            return whole(begun, media_type)
        step = partial(in_background, step_of, rest, limiter=self._backend.queries)
        return StreamedReply(begun, media_type, step, self._until_read(held))

    async def _in_worker(
        self, request: Request, work: Work, media_type: str, held: AsyncExitStack
    ) -> Response:
        answer = await while_there(request.receive, partial(self._readers.begin, work))
        held.push_async_callback(answer.aclose)
        if answer.begun.is_whole:
            return whole(answer.begun, media_type)
        return StreamedReply(answer.begun, media_type, answer.step, self._until_read(held))

    def _until_read(self, held: AsyncExitStack) -> AsyncExitStack:
        """What is held is the reply's from now on."""
        kept = held.pop_all()
        self._unread.add(kept)
        kept.callback(self._unread.discard, kept)
        return kept
