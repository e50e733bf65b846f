"""The tables of MQTT 3.1, 3.1.1 and 5.0, row by row, against a live broker: whole, and byte by byte where one client is all.

Rows that wait for a clock are started together, each in a thread of its own.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.conformance.conftest import Broker
from tests.conformance.script import Deviation, Row, Unsupported, World
from tests.conformance.tables import ROWS
from tests.conformance.wire import DEADLINE_S

KNOWN_S = 0.3
QUICK = [row for row in ROWS if not row.waits]
WAITING = [row for row in ROWS if row.waits]
SINGLE = [row for row in ROWS if row.is_single]


def name(row: Row) -> str:
    return row.name


@pytest.fixture(scope="module")
def waiting(broker: Broker, request: pytest.FixtureRequest) -> Iterator[dict[str, "Future[None]"]]:
    """The runs of the rows that wait, as far as they were asked for."""
    selected = {
        item.callspec.params["row"].name for item in request.session.items if "waiting" in item.fixturenames
    }  # type: ignore[attr-defined]
    with ThreadPoolExecutor(len(selected)) as pool:
        yield {
            row.name: pool.submit(World(broker.address, row, 0).run)
            for row in WAITING
            if row.name in selected
        }


def judge(broker: Broker, row: Row, run: "Future[None]") -> None:
    known = row.mosquitto if broker.is_mosquitto else ""
    try:
        run.result()
    except Deviation as error:
        if known:
            pytest.xfail(f"mosquitto: {known} ({error})")
        raise
    except Unsupported as error:
        if broker.is_ours:
            raise
        pytest.skip(str(error))
    assert not known or known.startswith("sometimes"), (
        "mosquitto does what the row says; its note is out of date"
    )


def run_now(broker: Broker, row: Row, step: int) -> "Future[None]":
    run: Future[None] = Future()
    # Nobody waits long for what is known not to come.
    deadline_s = KNOWN_S if row.mosquitto and broker.is_mosquitto else DEADLINE_S
    try:
        World(broker.address, row, step, deadline_s).run()
        run.set_result(None)
    except (Deviation, Unsupported) as error:
        run.set_exception(error)
    return run


def test_there_are_enough_rows_and_none_twice() -> None:
    assert len(ROWS) >= 300
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len({row.number for row in ROWS}) == len(ROWS)
    assert len(SINGLE) >= 150
    assert [row.name for row in ROWS if not row.statements] == []


@pytest.mark.parametrize("row", QUICK, ids=name)
def test_a_row_holds(broker: Broker, row: Row) -> None:
    judge(broker, row, run_now(broker, row, 0))


@pytest.mark.parametrize("row", SINGLE, ids=name)
def test_a_row_holds_byte_by_byte(broker: Broker, row: Row) -> None:
    judge(broker, row, run_now(broker, row, 1))


@pytest.mark.parametrize("row", WAITING, ids=name)
def test_a_row_that_waits_holds(broker: Broker, row: Row, waiting: dict[str, "Future[None]"]) -> None:
    judge(broker, row, waiting[row.name])
