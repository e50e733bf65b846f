"""Rate limits of a running daemon (contract 2.5): what is told, what is refused, what an account may have of its own."""

import http.client
import time
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.live.test_admin import Admin

NAMES = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("rates")
    with Daemon(directory / "data", THINGSCALE_LIMITS_REST_PER_S="5") as daemon:
        yield daemon


@pytest.fixture
def daemon(running: Daemon) -> Daemon:
    running.add_user()
    return running


def told(headers: dict[str, str]) -> list[int]:
    return [int(headers[name]) for name in NAMES]


def test_every_answer_says_what_is_left(daemon: Daemon) -> None:
    for left, (path, wanted) in enumerate([("/v2/user", 200), ("/v2/device", 200), ("/v2/channel/9", 404)]):
        status, _, headers = daemon.request("GET", path)
        assert status == wanted
        assert told(headers) == [5, 4 - left, 1]


def test_nobody_has_no_limit_to_be_told_of(daemon: Daemon) -> None:
    for path, token in (("/v2/user", ""), ("/v2/user", "F" * 32), ("/healthz", ""), ("/nothing", "")):
        assert not set(daemon.request("GET", path, headers={"X-APITOKEN": token})[2]) & set(NAMES)


def test_what_is_too_much_is_429_with_the_limits_name_and_passes_after_retry_after(daemon: Daemon) -> None:
    outcomes = [daemon.request("GET", "/v2/user") for _ in range(9)]
    status, reply, headers = next(outcome for outcome in outcomes if outcome[0] != 200)
    assert (status, reply["error"]) == (429, "TOO_MANY_REQUESTS")
    assert "limits.rest_per_s" in reply["detail"]
    assert told(headers)[:2] == [5, 0]
    assert headers["retry-after"] == "1"
    time.sleep(1)
    assert daemon.request("GET", "/v2/user")[0] == 200


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_device_that_posts_too_often_is_told_how_long_it_really_has_to_wait(
    daemon: Daemon, is_chunked: bool
) -> None:
    """In the lane, on a connection that it knows and on one that it does not, and beside it."""
    admin = Admin(daemon)
    path = f"users/{daemon.user['user_id']}"
    device = f"slow-{is_chunked}"
    assert admin.call("PUT", path, {"quotas": {"connector_per_s": 0.4, "rest_per_s": 0}})[0] == 200
    daemon.add_device(device, 1)
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port("http"), timeout=30)

    def post() -> tuple[int, str | None]:
        headers = {"X-DEVICETOKEN": daemon.user["device_token"], "X-DEVICEID": device}
        body = iter([b"1"]) if is_chunked else b"1"
        connection.request("POST", "/post_v2/", body, headers, encode_chunked=is_chunked)
        reply = connection.getresponse()
        reply.read()
        return reply.status, reply.getheader("Retry-After")

    assert post() == (200, None)
    assert post() == (429, "3")
    time.sleep(0.8)
    assert post() == (429, "2")
    connection.close()
    assert post() == (429, "2")
    time.sleep(2)
    assert post() == (200, None)
    connection.close()
    assert admin.call("PUT", path, {"quotas": {"connector_per_s": None, "rest_per_s": None}})[0] == 200


def test_an_account_may_have_a_rate_of_its_own_or_none(daemon: Daemon) -> None:
    admin = Admin(daemon)
    user_id = daemon.user["user_id"]
    path = f"users/{user_id}"
    assert admin.call("PUT", path, {"quotas": {"rest_per_s": 0.25}})[0] == 200
    status, _, headers = daemon.request("GET", "/v2/user")
    assert (status, told(headers)) == (200, [1, 0, 4])
    status, reply, headers = daemon.request("GET", "/v2/user")
    assert status == 429
    assert "rest_per_s" in reply["detail"]
    assert "quota" in reply["detail"]
    assert headers["retry-after"] == "4"
    assert admin.call("PUT", path, {"quotas": {"rest_per_s": 0}})[0] == 200
    outcomes = [daemon.request("GET", "/v2/user") for _ in range(20)]
    assert {outcome[0] for outcome in outcomes} == {200}
    assert not any(set(outcome[2]) & set(NAMES) for outcome in outcomes)
    assert admin.call("PUT", path, {"quotas": {"rest_per_s": None}})[0] == 200
    assert told(daemon.request("GET", "/v2/user")[2])[0] == 5
