"""storage/registry/remembered.py: what is remembered is what the file says, whatever was changed and by whom."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from storage.disk import DiskFullError
from storage.journal import State
from storage.registry import Registry, UnknownError
from storage.registry.fields import InUseError
from storage.registry.remembered import ANSWER_BYTES, PART_OF_BYTES_MAX, Remembered
from tests.storage.full_disk import full_disk

AT_US = 1_700_000_000_000_000
QUESTIONS = (
    "user_by_api_token",
    "user_by_device_token",
    "stored_channel",
    "device",
    "device_by_name",
    "stream_descriptions",
)

users = st.integers(0, 2)
names = st.sampled_from(("a", "b"))
numbers = st.integers(1, 2)


class AskedRegistry(RuleBasedStateMachine):
    """Everything is asked after each step, so all answers are remembered when the next change comes."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.path = Path(self.scratch.name) / "registry.sqlite3"
        self.registry = Registry(self.path)
        self.other = Registry(self.path)  # another process's
        self.users = [self.registry.add_user(AT_US).user_id for _ in range(3)]
        self.tokens = {token for user_id in self.users for token in self.tokens_of(self.registry, user_id)}
        self.now_us = AT_US
        for user_id in self.users:
            self.registry.add_channel(user_id, 1)
            self.registry.add_device(user_id, "a", AT_US)

    def teardown(self) -> None:
        self.registry.close()
        self.other.close()
        self.scratch.cleanup()

    @staticmethod
    def tokens_of(registry: Registry, user_id: str) -> tuple[str, ...]:
        user = registry.user(user_id)
        return () if user is None else (user.api_token, user.device_token)

    def change(self, do: Callable[[Registry], Any], way: str) -> None:
        """By us, by us in vain (undone, or the disk is full), or by another process."""
        registry = self.other if way == "elsewhere" else self.registry
        with (
            contextlib.suppress(UnknownError, InUseError, DiskFullError, ZeroDivisionError),
            full_disk(self.path.with_name(f"{self.path.name}-wal"))
            if way == "full"
            else contextlib.nullcontext(),
            registry.transaction(),
        ):
            do(registry)
            self.ask()  # inside a transaction what is new counts, and afterwards perhaps what was
            if way == "undone":
                raise ZeroDivisionError
        for user_id in self.users:
            self.tokens.update(self.tokens_of(registry, user_id))
        if way == "elsewhere":
            self.registry.poll()

    ways = st.sampled_from(("here", "here", "undone", "full", "elsewhere"))

    @rule(user=users, number=numbers, way=ways)
    def add_channel(self, user: int, number: int, way: str) -> None:
        self.change(lambda registry: registry.add_channel(self.users[user], number), way)

    @rule(user=users, number=numbers, name=names, way=ways)
    def rename_channel(self, user: int, number: int, name: str, way: str) -> None:
        self.change(
            lambda registry: registry.rename_channel(channel_in(registry, self.users[user], number), name),
            way,
        )

    @rule(user=users, number=numbers, way=ways)
    def delete_channel(self, user: int, number: int, way: str) -> None:
        self.change(
            lambda registry: registry.delete_channel(channel_in(registry, self.users[user], number), AT_US),
            way,
        )

    @rule(user=users, number=numbers, way=ways)
    def archive_channel(self, user: int, number: int, way: str) -> None:
        self.change(
            lambda registry: registry.archive_channel(channel_in(registry, self.users[user], number), AT_US),
            way,
        )

    @rule(user=users, number=numbers, way=ways)
    def restore_channel(self, user: int, number: int, way: str) -> None:
        def do(registry: Registry) -> None:
            channel = registry.stored_channel(self.users[user], number)
            registry.restore_channel(channel.id if channel else 0)

        self.change(do, way)

    @rule(user=users, number=numbers, name=names, text=names, way=ways)
    def describe(self, user: int, number: int, name: str, text: str, way: str) -> None:
        def do(registry: Registry) -> None:
            registry.describe_stream(channel_in(registry, self.users[user], number), name, label=text)

        self.change(do, way)

    @rule(user=users, number=numbers, name=names, way=ways)
    def forget_description(self, user: int, number: int, name: str, way: str) -> None:
        def do(registry: Registry) -> None:
            registry.forget_stream_description(channel_in(registry, self.users[user], number), name)

        self.change(do, way)

    @rule(user=users, name=names, way=ways)
    def add_device(self, user: int, name: str, way: str) -> None:
        self.change(lambda registry: registry.add_device(self.users[user], name, AT_US), way)

    @rule(user=users, name=names, enabled=st.booleans(), way=ways)
    def update_device(self, user: int, name: str, enabled: bool, way: str) -> None:
        self.change(lambda registry: registry.update_device(self.users[user], name, enabled=enabled), way)

    @rule(user=users, name=names, way=ways)
    def delete_device(self, user: int, name: str, way: str) -> None:
        self.change(lambda registry: registry.delete_device(self.users[user], name, AT_US), way)

    @rule(user=users, name=names, payload=st.binary(max_size=2), way=ways)
    def send_state(self, user: int, name: str, payload: bytes, way: str) -> None:
        def do(registry: Registry) -> None:
            device = registry.device_by_name(self.users[user], name)
            registry.put_states([State(AT_US, device or 0, payload)])

        self.change(do, way)

    @rule(user=users, enabled=st.booleans(), alias=names, rate=st.none() | st.integers(0, 9), way=ways)
    def update_user(self, user: int, enabled: bool, alias: str, rate: int | None, way: str) -> None:
        fields = {"enabled": enabled, "user_alias": alias, "rest_per_s": rate}
        self.change(lambda registry: registry.update_user(self.users[user], **fields), way)

    @rule(
        user=users, which=st.sampled_from(("api_token", "device_token")), overlap=st.integers(0, 3), way=ways
    )
    def rotate(self, user: int, which: str, overlap: int, way: str) -> None:
        ends_at_us = self.now_us + overlap if overlap else 0
        self.change(lambda registry: registry.rotate(self.users[user], which, ends_at_us), way)

    @rule(user=users, keeps_data=st.booleans(), way=ways)
    def delete_user(self, user: int, keeps_data: bool, way: str) -> None:
        self.change(
            lambda registry: registry.delete_user(self.users[user], AT_US, keeps_data=keeps_data), way
        )

    @rule()
    def wait(self) -> None:
        self.now_us += 1
        self.registry.end_tokens(self.now_us)

    @invariant()
    def ask(self) -> None:
        ids = range(1, 8)
        asked: list[tuple[str, tuple[Any, ...]]] = [("stream_descriptions", (channel,)) for channel in ids]
        asked += [(which, (token,)) for token in sorted(self.tokens) for which in QUESTIONS[:2]]
        asked += [("stored_channel", (user_id, number)) for user_id in self.users for number in (1, 2)]
        asked += [
            (which, (user_id, name)) for user_id in self.users for name in "ab" for which in QUESTIONS[3:5]
        ]
        for which, arguments in asked:
            answer = getattr(self.registry, which)(*arguments)
            assert answer == getattr(Registry, which).__wrapped__(self.registry, *arguments)


def channel_in(registry: Registry, user_id: str, number: int) -> int:
    channel = registry.channel(user_id, number)
    if channel is None:
        raise UnknownError
    return channel.id


TestAskedRegistry = AskedRegistry.TestCase
TestAskedRegistry.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_what_is_asked_twice_is_looked_up_once(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.sqlite3")
    user = registry.add_user(AT_US)
    registry.add_channel(user.user_id, 1)
    registry.remembered.forget()
    looked_up: list[str] = []
    registry._database.set_trace_callback(looked_up.append)
    first = registry.channel(user.user_id, 1), registry.user_by_api_token(user.api_token)
    assert len(looked_up) == 2
    assert (registry.channel(user.user_id, 1), registry.user_by_api_token(user.api_token)) == first
    assert len(looked_up) == 2
    registry.close()


def test_tokens_that_nobody_has_take_no_place(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.sqlite3")
    for number in range(9):
        assert registry.user_by_api_token(f"{number:032X}") is None
    assert registry.remembered.answers == {}
    registry.close()


def test_the_oldest_answers_go_when_there_are_too_many_bytes() -> None:
    remembered = Remembered(bytes_max=2 * PART_OF_BYTES_MAX * ANSWER_BYTES)
    for number in range(1_000):
        remembered.keep(number, "x" * 500)
    assert 2 * PART_OF_BYTES_MAX // 2 <= len(remembered.answers) < 2 * PART_OF_BYTES_MAX
    assert 999 in remembered.answers
    assert 0 not in remembered.answers


def test_a_large_answer_does_not_push_out_the_others() -> None:
    remembered = Remembered(bytes_max=2 * PART_OF_BYTES_MAX * ANSWER_BYTES)
    remembered.keep("small", "x")
    remembered.keep("large", "x" * 2 * ANSWER_BYTES)
    assert list(remembered.answers) == ["small"]
