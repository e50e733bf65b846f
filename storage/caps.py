"""The cap on what a user may store: when it is reached, the oldest readings go (contract 1.2).

What goes is a published file or a hot segment at a time, the one with the user's oldest day first, and of a day the
one that was written first. The newest one of a user stays, however large it is. Bytes are counted as the User service
counts them in ``storage.usage_bytes``: what sealed readings took in memory, and an estimate for those that only the
ring has. Those cannot go before they are sealed.
"""

import heapq
from collections.abc import Iterator
from typing import Final

from storage.cover import TIME_MAX_US, TIME_MIN_US, HotSegment, PublishedFile
from storage.store import Store

Piece = PublishedFile | HotSegment

# What an unsealed reading counts as, until its seal counts it: a row and four cells in the ring.
FRESH_BYTES: Final = 96

# Pieces of one user in one go; the rest next time.
PIECES_MAX: Final = 1_000


def over_cap(store: Store, storage_bytes_max: int) -> dict[str, int]:
    """Users who have stored more than they may, and how many bytes that is.

    Args:
        store: what is stored.
        storage_bytes_max: the cap of who has no quota; 0 is none.
    """
    quotas = store.registry.storage_quotas()
    users = store.registry.user_ids() if storage_bytes_max else set(quotas)
    found = {}
    for user_id in sorted(users):
        cap = quotas.get(user_id, storage_bytes_max)
        if cap and (excess := used_bytes(store, user_id) - cap) > 0:
            found[user_id] = excess
    return found


def used_bytes(store: Store, user_id: str) -> int:
    """What the user's readings take: as the User service says it."""
    return _sealed_bytes(store, user_id) + _fresh_bytes(store, user_id)


def fresh_rows(store: Store, channel: int) -> int:
    """The channel's durable readings that only the ring has."""
    return len(store.ring.unsealed(channel, store.ring.sealed, store.ring.durable))


def _sealed_bytes(store: Store, user_id: str) -> int:
    channels = store.registry.stored_channels(user_id)
    statistics = [store.catalog.channel_statistics(channel.id) for channel in channels]
    return sum(each.bytes for each in statistics if each is not None)


def _fresh_bytes(store: Store, user_id: str) -> int:
    return FRESH_BYTES * sum(
        fresh_rows(store, channel.id) for channel in store.registry.stored_channels(user_id)
    )


class Excess:
    """The pieces that a user is to lose, oldest first; each must be gone before the next is asked for."""

    def __init__(self, store: Store, user_id: str, excess_bytes: int) -> None:
        self._store = store
        self._user_id = user_id
        self._allowed = _sealed_bytes(store, user_id) - excess_bytes
        self._queue: list[tuple[int, int, int]] = []
        for channel in store.registry.stored_channels(user_id):
            self._push(channel.id)

    def _push(self, channel: int) -> Piece | None:
        piece = self._store.catalog.oldest(channel)
        if piece is not None:
            heapq.heappush(self._queue, (piece.day, piece.first_seq, channel))
        return piece

    def __iter__(self) -> Iterator[Piece]:
        for _ in range(PIECES_MAX):
            if not self._queue or _sealed_bytes(self._store, self._user_id) <= self._allowed:
                return
            _, _, channel = heapq.heappop(self._queue)
            piece = self._store.catalog.oldest(channel)
            if piece is None:
                continue
            if not self._queue and self._is_last(channel):
                return
            yield piece
            self._push(channel)

    def _is_last(self, channel: int) -> bool:
        files = self._store.catalog.files_for(channel, TIME_MIN_US, TIME_MAX_US)
        return len(files.published) + len(files.hot) == 1
