"""Long lists: the same bytes as short ones, and turns for others between their pieces."""

import json
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from query.lists import ROWS_AT_A_TIME, array_of, reply_rows
from storage.registry import DeviceFilter, Registry


@given(
    st.lists(
        st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3), max_size=9
    )
)
def test_an_array_is_what_json_says(some: list[dict[str, object]]) -> None:
    rows = some * (ROWS_AT_A_TIME // 4)
    assert json.loads(array_of(rows)) == rows


async def test_others_have_their_turn_between_the_pieces() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        response = await reply_rows({"row": i} for i in range(50 * ROWS_AT_A_TIME))
        seen = turns
        nursery.cancel_scope.cancel()
    assert len(json.loads(bytes(response.body))) == 50 * ROWS_AT_A_TIME
    assert seen >= 40


@pytest.mark.parametrize("rows", [0, 1, ROWS_AT_A_TIME, ROWS_AT_A_TIME + 1])
async def test_a_reply_is_the_array(rows: int) -> None:
    response = await reply_rows(range(rows))
    assert json.loads(bytes(response.body)) == list(range(rows))


def test_a_connection_beside_sees_what_is_committed(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.sqlite3")
    user = registry.add_user(0)
    registry.add_device(user.user_id, "known", 0)
    with registry.beside() as other, registry.transaction():
        registry.add_device(user.user_id, "not-yet", 0)
        found = other.find_devices(user.user_id, DeviceFilter(), 10)
    assert [device.device_id for device in found] == ["known"]
    with registry.beside() as other:
        assert len(other.find_devices(user.user_id, DeviceFilter(), 10)) == 2
    registry.close()
