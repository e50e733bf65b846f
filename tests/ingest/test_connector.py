"""The connector's slow path as an ASGI application: the contract's answers, in the contract's order (2.2)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from ingest.connector import PATHS, Message
from storage.kinds import PayloadKind, Refusal
from storage.registry import Registry, RegistryLimits
from tests.ingest.connector_house import AT_US, PAYLOAD_BYTES_MAX, House, body_of

JSON, FORM = PayloadKind.JSON, PayloadKind.FORM


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    registry = Registry(tmp_path / "registry.sqlite3")
    yield House(registry)
    registry.close()


# ---- stored


@pytest.mark.parametrize(("path", "kind", "payload"), [
    ("/post_v2/", JSON, b'{"temp": 21.5}'),
    ("/post_v2", JSON, b"21.5"),
    ("/post_v1/", FORM, b"v= 5.0&v2=7"),
    ("/post_v1", FORM, b"v=5"),
    ("/post/", FORM, b"v=5"),
    ("/post", FORM, b"v=5"),
])  # fmt: skip
async def test_the_path_says_how_the_body_is_read(
    house: House, path: str, kind: PayloadKind, payload: bytes
) -> None:
    assert await house.post(path, payload) == (200, "OK")
    assert house.durability.asked == [house.entry(kind, b"", payload)]
    assert house.durability.journal.ring.durable == 1
    assert house.counted == [0]


def test_every_path_is_there_with_and_without_its_last_slash() -> None:
    assert {path.rstrip("/") for path in PATHS} == {"/post", "/post_v1", "/post_v2"}
    assert all(PATHS[path.rstrip("/") + "/"] is kind for path, kind in PATHS.items())
    assert len(PATHS) == 6


@pytest.mark.parametrize(
    "content_type", [b"application/x-www-form-urlencoded", b"application/json", b"x", b""]
)
async def test_the_content_type_is_ignored(house: House, content_type: bytes) -> None:
    headers = house.headers(content_type=content_type)
    assert await house.post("/post_v2/", b"1", headers=headers) == (200, "OK")
    assert await house.post("/post_v1/", b"v=1", headers=headers) == (200, "OK")


async def test_a_tag_counts_for_v2_only(house: House) -> None:
    headers = house.headers(x_tagname=b"kitchen")
    assert await house.post("/post_v2/", b"1", headers=headers) == (200, "OK")
    assert await house.post("/post_v1/", b"v=1", headers=headers) == (200, "OK")
    assert [entry[3] for entry in house.durability.asked] == [b"kitchen", b""]


async def test_a_body_may_come_in_pieces(house: House) -> None:
    assert await house.post("/post_v2/", b'{"a"', b"", b": 1", b"}", b"") == (200, "OK")
    assert house.durability.asked == [house.entry(JSON, b"", b'{"a": 1}')]


async def test_headers_of_others_are_left_alone(house: House) -> None:
    headers = [
        (b"host", b"t"), *house.headers(), (b"expect", b"100-continue"), (b"transfer-encoding", b"chunked"),
        (b"x-device", b"a"), (b"x-device", b"b"), (b"cookie", b"\xff"),
    ]  # fmt: skip
    assert await house.post("/post_v2/", b"1", headers=headers) == (200, "OK")


async def test_the_answer_comes_when_the_reading_is_durable_and_not_before(house: House) -> None:
    house.durability.commits_at_once = False
    answers: list[tuple[int, str]] = []

    async def post() -> None:
        answers.append(await house.post("/post_v2/", b"1"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(post)
        await trio.testing.wait_all_tasks_blocked()
        assert (answers, house.counted) == ([], [])
        house.durability.commit()
    assert (answers, house.counted) == ([(200, "OK")], [0])


# ---- refused


async def test_every_refusal_of_admission_is_answered_and_counted(house: House) -> None:
    registry, user_id = house.registry, house.user_id
    registry.add_device(user_id, "unmapped", AT_US, enabled=True)
    registry.add_device(user_id, "disabled", AT_US, channel=house.channel)
    registry.limits = RegistryLimits(devices_per_user_max=4)
    rows = [
        (house.headers(x_devicetoken=b"wrong"), 401, Refusal.AUTH_REQUIRED),
        ([(b"x-deviceid", b"d1")], 401, Refusal.AUTH_REQUIRED),
        ([], 401, Refusal.AUTH_REQUIRED),
        ([(b"x-devicetoken", house.token)], 400, Refusal.DEVICE_ID_ZERO),
        (house.headers(x_deviceid=b"0"), 400, Refusal.DEVICE_ID_ZERO),
        (house.headers(x_deviceid=b"\xff"), 400, Refusal.DEVICE_ID_INVALID),
        (house.headers(x_deviceid=b"new"), 201, Refusal.NEW_DEVICE_FOUND),
        (house.headers(x_deviceid=b"newer"), 403, Refusal.MAX_DEVICE_REACH),
        (house.headers(x_deviceid=b"new"), 403, Refusal.NO_MAPPED_CH),
        (house.headers(x_deviceid=b"unmapped"), 403, Refusal.NO_MAPPED_CH),
        (house.headers(x_deviceid=b"disabled"), 403, Refusal.DEVICE_DISABLED),
        (house.headers(x_tagname=b"t" * 129), 400, Refusal.TAG_INVALID),
    ]
    for headers, status, refusal in rows:
        # the body is worse than anything else, but it is looked at last
        assert await house.post("/post_v2/", b"{", headers=headers) == (status, refusal.name)
    assert house.counted == [refusal for _, _, refusal in rows]
    assert house.durability.asked == []


async def test_a_tag_that_v1_does_not_know_cannot_be_wrong(house: House) -> None:
    headers = house.headers(x_tagname=b"\xff" * 200)
    assert await house.post("/post_v1/", b"v=1", headers=headers) == (200, "OK")


@pytest.mark.parametrize(("path", "payload", "refusal"), [
    ("/post_v2/", b"{", Refusal.BAD_JSON_FORMAT),
    ("/post_v2/", b"", Refusal.BAD_JSON_FORMAT),
    ("/post_v2/", b"v=1", Refusal.BAD_JSON_FORMAT),
    ("/post_v2/", b"[" * 40 + b"]" * 40, Refusal.JSON_TOO_DEEP),
    ("/post_v2/", b"1e999", Refusal.NUMBER_OUT_OF_RANGE),
    ("/post_v1/", b'{"v": 1}', Refusal.BAD_FORM_FORMAT),
])  # fmt: skip
async def test_a_body_that_cannot_be_read_is_refused_and_not_stored(
    house: House, path: str, payload: bytes, refusal: Refusal
) -> None:
    assert await house.post(path, payload) == (400, refusal.name)
    assert house.counted == [refusal]
    assert house.durability.journal.ring.written == 0


async def test_the_second_post_of_a_second_is_told_when_to_come_again(house: House) -> None:
    house.pause_s = 0.25
    statuses = [(await house.request("/post_v2/", house.headers(), body_of(b"1"))).sent[0] for _ in range(5)]
    assert [start["status"] for start in statuses] == [200, 429, 429, 429, 200]
    assert (b"retry-after", b"1") in statuses[1]["headers"]
    assert house.counted == [0, *[Refusal.TOO_MANY_REQUESTS] * 3, 0]


async def test_a_missing_token_is_answered_with_its_scheme(house: House) -> None:
    client = await house.request("/post_v2/", [], body_of(b"1"))
    assert client.answer == (401, "AUTH_REQUIRED")
    assert (b"www-authenticate", b"X-DEVICETOKEN") in client.sent[0]["headers"]


@pytest.mark.parametrize("name", ["x_devicetoken", "x_deviceid", "x_tagname"])
async def test_a_header_that_is_there_twice_is_refused(house: House, name: str) -> None:
    for twice in (b"d1", house.token):
        headers = house.headers(**{"x_tagname": b"t", name: twice})
        headers += [(each, value) for each, value in headers if each == name.replace("_", "-").encode()]
        assert await house.post("/post_v2/", b"1", headers=headers) == (400, "DEVICE_ID_INVALID")
    assert house.durability.asked == []
    assert house.counted == [Refusal.DEVICE_ID_INVALID] * 2


@pytest.mark.parametrize("pieces", [(b"1" * 101,), (b"1" * 60, b"1" * 41), (b"1" * 100, b"1", b"")])
async def test_a_body_that_is_too_large_is_refused_and_read_no_further(
    house: House, pieces: tuple[bytes, ...]
) -> None:
    endless: Message = {"type": "http.request", "body": b"1", "more_body": True}
    messages = [*body_of(*pieces, b"")[:-1], endless, endless]
    client = await house.request("/post_v2/", house.headers(), messages)
    assert client.answer == (413, "PAYLOAD_TOO_LARGE")
    assert messages[-2:] == [endless, endless]
    assert (house.counted, house.durability.asked) == ([Refusal.PAYLOAD_TOO_LARGE], [])


async def test_a_body_of_the_largest_size_is_taken(house: House) -> None:
    payload = b'"' + b"x" * (PAYLOAD_BYTES_MAX - 2) + b'"'
    assert await house.post("/post_v2/", payload[:50], payload[50:]) == (200, "OK")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post"])
async def test_another_method_is_refused_before_its_body_is_asked_for(house: House, method: str) -> None:
    # Whoever waits for 100 (Continue) is told by the answer itself: receive() is what sends it.
    client = await house.request("/post_v2/", house.headers(expect=b"100-continue"), [], method)
    assert client.answer == (405, "METHOD_NOT_ALLOWED")
    assert (b"allow", b"POST") in client.sent[0]["headers"]
    assert house.durability.asked == []


# ---- gone


@pytest.mark.parametrize("pieces", [(), (b'{"a": 1}',)])
async def test_a_client_that_leaves_within_its_body_is_not_answered_and_nothing_is_stored(
    house: House, pieces: tuple[bytes, ...]
) -> None:
    came: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    client = await house.request("/post_v2/", house.headers(), [*came, {"type": "http.disconnect"}])
    assert client.sent == []
    assert (house.durability.asked, house.counted) == ([], [])
    assert await house.post("/post_v2/", b"1") == (200, "OK")


async def test_a_reading_stays_stored_when_its_client_leaves_before_the_answer(house: House) -> None:
    house.durability.commits_at_once = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.post, "/post_v2/", b"1")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    house.durability.commit()
    assert house.durability.journal.ring.durable == 1
    house.durability.commits_at_once = True
    assert await house.post("/post_v2/", b"2") == (200, "OK")
