"""Channels, the names that tags were given, and what people say of streams.

Ids of channels are never used again: they stand in the log and in files. What is deleted keeps its row with
``deleted_at_us``, so that its id still has a name; the same channel number gets a new id (its old data is gone).

An archived channel (``archived_at_us``) keeps its id, its number and its data, and is for everybody but the storage as
if it were not there: no device is mapped to it, no event watches it. It can be restored, or deleted like any other.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from storage.registry.fields import (
    ChannelLimitError,
    FieldError,
    InUseError,
    LimitError,
    UnknownError,
    check_names,
    check_texts,
    is_text,
)
from storage.registry.remembered import remembered
from storage.registry.users import Users

CHANNEL_NUMBER_MAX: Final = 2**31 - 1
STREAM_TEXTS: Final = ("label", "unit", "description")


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel; ``number`` is what the API calls channel, ``id`` is what log and files say."""

    id: int
    user_id: str
    number: int
    channel_name: str
    archived_at_us: int | None = None


CHANNEL_COLUMNS: Final = "id, user_id, number, channel_name, archived_at_us"


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """What people say of a stream; texts that nobody has given are empty."""

    label: str = ""
    unit: str = ""
    description: str = ""


class Channels(Users):
    """The registry's channels."""

    def channel(self, user_id: str, number: int) -> Channel | None:
        channel = self.stored_channel(user_id, number)
        return None if channel is None or channel.archived_at_us is not None else channel

    @remembered
    def stored_channel(self, user_id: str, number: int) -> Channel | None:
        """Also an archived one."""
        row = self._database.execute(
            f"SELECT {CHANNEL_COLUMNS} FROM channel WHERE user_id = ? AND number = ? AND deleted_at_us IS NULL",
            (user_id, number),
        ).fetchone()
        return None if row is None else Channel(*row)

    def channels(self, user_id: str) -> list[Channel]:
        return [channel for channel in self.stored_channels(user_id) if channel.archived_at_us is None]

    def stored_channels(self, user_id: str) -> list[Channel]:
        """Also the archived ones."""
        rows = self._database.execute(
            f"SELECT {CHANNEL_COLUMNS} FROM channel WHERE user_id = ? AND deleted_at_us IS NULL ORDER BY number",
            (user_id,),
        )
        return [Channel(*row) for row in rows]

    def archived_channels(self) -> list[int]:
        """Ids of all users' channels that are archived."""
        rows = self._database.execute(
            "SELECT id FROM channel WHERE archived_at_us IS NOT NULL AND deleted_at_us IS NULL"
        )
        return [row[0] for row in rows]

    def channel_by_id(self, channel: int) -> Channel:
        """Also of a deleted one: its id still stands in files. Raises UnknownError."""
        row = self._database.execute(
            f"SELECT {CHANNEL_COLUMNS} FROM channel WHERE id = ?", (channel,)
        ).fetchone()
        if row is None:
            raise UnknownError(f"there is no channel with the id {channel}")
        return Channel(*row)

    def deleted_channels(self) -> list[int]:
        """Ids of channels whose data is to go."""
        return [
            row[0] for row in self._database.execute("SELECT id FROM channel WHERE deleted_at_us IS NOT NULL")
        ]

    def add_channel(self, user_id: str, number: int, channel_name: str | None = None) -> Channel:
        """Raises InUseError, ChannelLimitError, FieldError."""
        name = f"NEW_CH{number}" if channel_name is None else channel_name
        check_texts({"channel_name": name}, ("channel_name",))
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= CHANNEL_NUMBER_MAX:
            raise FieldError(f"channel: {number} is not in 0 .. {CHANNEL_NUMBER_MAX}")
        with self.transaction():
            known = self.stored_channel(user_id, number)
            if known is not None:
                how = "exists" if known.archived_at_us is None else "is archived, and keeps its number"
                raise InUseError(f"channel {number} {how}")
            self._check_channel_limit(user_id)
            self._database.execute(
                "INSERT INTO channel (user_id, number, channel_name) VALUES (?, ?, ?)",
                (user_id, number, name),
            )
            self._counts["channel", user_id] += 1
            self._changed()
            self._audit("channel.add", user_id, str(number), None, {"channel_name": name})
        channel = self.channel(user_id, number)
        assert channel is not None
        return channel

    def _check_channel_limit(self, user_id: str) -> None:
        limit = self._known_user(user_id).quotas.channels
        limit = self.limits.channels_per_user_max if limit is None else limit
        count = self.count_of("channel", user_id)
        if count >= limit:
            raise ChannelLimitError(f"the user has {count} channels, and the limit is {limit}")

    def rename_channel(self, channel: int, channel_name: str) -> None:
        """Raises FieldError, UnknownError."""
        check_texts({"channel_name": channel_name}, ("channel_name",))
        with self.transaction():
            before = self.channel_by_id(channel)
            self._database.execute(
                "UPDATE channel SET channel_name = ? WHERE id = ?", (channel_name, channel)
            )
            names = {"channel_name": before.channel_name}, {"channel_name": channel_name}
            self._audit("channel.update", before.user_id, str(before.number), *names)

    def delete_channel(self, channel: int, at_us: int) -> None:
        """Unmap its devices and events and bury it; its data goes when the storage gets to it. Raises UnknownError."""
        with self.transaction():
            before = self._unmap(channel)
            self._database.execute("UPDATE channel SET deleted_at_us = ? WHERE id = ?", (at_us, channel))
            self._counts.pop(("channel", before.user_id), None)
            names = {"channel_name": before.channel_name}
            self._audit("channel.delete", before.user_id, str(before.number), names, None)

    def archive_channel(self, channel: int, at_us: int) -> None:
        """Unmap its devices and events and hide it; number and data stay. Raises UnknownError."""
        with self.transaction():
            before = self._unmap(channel)
            self._database.execute("UPDATE channel SET archived_at_us = ? WHERE id = ?", (at_us, channel))
            names = {"channel_name": before.channel_name}
            self._audit("channel.archive", before.user_id, str(before.number), names, None)

    def restore_channel(self, channel: int) -> None:
        """Show an archived channel again; devices and events must be mapped anew. Raises UnknownError."""
        with self.transaction():
            before = self.channel_by_id(channel)
            self._database.execute("UPDATE channel SET archived_at_us = NULL WHERE id = ?", (channel,))
            self._changed()
            names = {"channel_name": before.channel_name}
            self._audit("channel.restore", before.user_id, str(before.number), None, names)

    def _unmap(self, channel: int) -> Channel:
        """No device is mapped to it, no event watches it."""
        before = self.channel_by_id(channel)
        self._database.execute("UPDATE device SET channel = NULL WHERE channel = ?", (channel,))
        if self._database.execute("UPDATE event SET channel = NULL WHERE channel = ?", (channel,)).rowcount:
            self._changed_events()
        self._changed()
        return before

    # ---- names that a tag was given

    def tag_names(self, channel: int) -> dict[str, str]:
        """Tags of the channel that were made or renamed through the API, with their channel_name."""
        rows = self._database.execute("SELECT tag, channel_name FROM tag_name WHERE channel = ?", (channel,))
        return dict(rows.fetchall())

    def put_tag_name(self, channel: int, tag: str, channel_name: str) -> None:
        """Raises FieldError, UnknownError."""
        check_texts({"channel_name": channel_name, "tag": tag}, ("channel_name", "tag"))
        with self.transaction():
            where = self.channel_by_id(channel)
            before = self._value(
                "SELECT channel_name FROM tag_name WHERE channel = ? AND tag = ?", channel, tag
            )
            self._database.execute(
                "INSERT OR REPLACE INTO tag_name VALUES (?, ?, ?)", (channel, tag, channel_name)
            )
            self._audit(
                "tag.add" if before is None else "tag.update",
                where.user_id,
                f"{where.number}/{tag}",
                None if before is None else {"channel_name": before},
                {"channel_name": channel_name},
            )

    def delete_tag_name(self, channel: int, tag: str) -> None:
        if not is_text(tag):
            return
        with self.transaction():
            where = self.channel_by_id(channel)
            name = self.tag_names(channel).get(tag)
            self._database.execute("DELETE FROM tag_name WHERE channel = ? AND tag = ?", (channel, tag))
            self._audit("tag.delete", where.user_id, f"{where.number}/{tag}", {"channel_name": name}, None)

    # ---- what people say of streams

    @remembered
    def stream_descriptions(self, channel: int) -> Mapping[str, StreamDescription]:
        """By the stream's name, for the channel's streams that somebody has described."""
        rows = self._database.execute(
            "SELECT stream, label, unit, description FROM stream_description WHERE channel = ? ORDER BY stream",
            (channel,),
        )
        return {stream: StreamDescription(*texts) for stream, *texts in rows}

    def describe_stream(self, channel: int, stream: str, /, **fields: Any) -> StreamDescription:
        """Change texts of a stream, which need not have data yet. Raises FieldError, LimitError, UnknownError."""
        check_names(fields, STREAM_TEXTS, "a stream")
        check_texts({**fields, "stream": stream}, ("stream", *STREAM_TEXTS))
        with self.transaction():
            where = self.channel_by_id(channel)
            described = self.stream_descriptions(channel)
            before = described.get(stream)
            if before is None and len(described) >= self.limits.streams_per_channel_max:
                raise LimitError(
                    f"channel {where.number} has {len(described)} described streams, which is the limit"
                )
            after = StreamDescription(**{**asdict(before or StreamDescription()), **fields})
            self._database.execute(
                "INSERT OR REPLACE INTO stream_description VALUES (?, ?, ?, ?, ?)",
                (channel, stream, after.label, after.unit, after.description),
            )
            self._audit(
                "stream.update",
                where.user_id,
                f"{where.number}/{stream}",
                asdict(before or StreamDescription()),
                asdict(after),
            )
        return after

    def forget_stream_description(self, channel: int, stream: str) -> bool:
        """Whether there was one. Raises UnknownError."""
        if not is_text(stream):
            return False
        with self.transaction():
            where = self.channel_by_id(channel)
            before = self.stream_descriptions(channel).get(stream)
            if before is None:
                return False
            self._database.execute(
                "DELETE FROM stream_description WHERE channel = ? AND stream = ?", (channel, stream)
            )
            self._audit("stream.delete", where.user_id, f"{where.number}/{stream}", asdict(before), None)
        return True
