"""One daemon for all tests of REST, each module with an account of its own."""

from collections.abc import Iterator

import pytest

from tests.daemon import Daemon

DEVICES_MAX = 40
PAGE_ROWS_MAX = 50


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(
        tmp_path_factory.mktemp("rest") / "data",
        THINGSCALE_LIMITS_DEVICES_PER_USER_MAX=str(DEVICES_MAX),
        THINGSCALE_QUERY_PAGE_ROWS_MAX=str(PAGE_ROWS_MAX),
    ) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def rest(shared_daemon: Daemon) -> Daemon:
    """The daemon, as seen by a new user in Tokyo."""
    shared_daemon.add_user("--locale", "Asia/Tokyo", "--email", "a@example.com")
    return shared_daemon
