"""A user's storage quota in a running daemon: ingest goes on, and the oldest readings make room (contract 1.2)."""

import json
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.live.test_admin import Admin

CAP = 400_000


@pytest.mark.slow
def test_ingest_goes_on_at_the_cap_and_the_oldest_readings_make_room(tmp_path: Path) -> None:
    with Daemon(
        tmp_path / "data",
        THINGSCALE_STORAGE_SEAL_INTERVAL_S="0.1",
        THINGSCALE_LIMITS_CHANNELS_PER_USER_MAX="5",
    ) as daemon:
        admin = Admin(daemon)
        admin.add(quotas={"storage_bytes": CAP})
        daemon.add_device("pump", 1)
        count = 0

        def usage() -> int:
            storage: dict[str, int] = daemon.request("GET", "/v2/user")[1][0]["storage"]
            assert storage["maxSize"] == CAP
            return storage["usage_bytes"]

        while usage() <= 2 * CAP:
            for _ in range(200):
                assert daemon.post("pump", json.dumps({"n": count, "text": "x" * 1_000})) == (200, "OK")
                count += 1
        daemon.wait_until(lambda: usage() <= CAP, 60)
        kept = [entry["value"]["n"] for entry in daemon.stream()]
        assert 0 < len(kept) < count
        assert kept == list(range(count - len(kept), count))  # the newest, without a gap
        assert daemon.post("pump", json.dumps({"n": count})) == (200, "OK")
        assert daemon.stream()[-1]["value"] == {"n": count}
