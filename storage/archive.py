"""Archived channels: gone for everybody, and their rows on the way into published files.

Archiving is one synced row of the registry (storage/registry/channels.py); nothing else changes in that moment. What
the channel has in the ring and in hot files goes the way of all rows, only at once instead of when the day has closed.
So a crash at any step is one of sealing or publishing, after which the channel is still archived and what waits is
still due: nothing acknowledged is lost, and nothing is published twice.
"""

from storage.caps import fresh_rows
from storage.cover import TIME_MAX_US, TIME_MIN_US
from storage.store import Store


def waiting_rows(store: Store, channel: int) -> int:
    """The channel's durable rows that are in no published file yet."""
    hot = store.catalog.files_for(channel, TIME_MIN_US, TIME_MAX_US).hot
    return fresh_rows(store, channel) + sum(segment.rows for segment in hot)


def unfinished(store: Store) -> list[int]:
    """Ids of archived channels that have such rows."""
    return [channel for channel in store.registry.archived_channels() if waiting_rows(store, channel)]
