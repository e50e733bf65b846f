"""schemathesis asks a running daemon whatever its OpenAPI document allows, and what it does not: nothing is found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import Daemon

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "live" / "schemathesis.toml"
# Of generating; examples and boundary values come first, and the start of the tool is not in it.
SECONDS = 35


@pytest.mark.slow
def test_nothing_is_found(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        token = daemon.add_user("--locale", "Asia/Tokyo")["api_token"]
        admin = json.loads(daemon.run("admin", "token", "add", "--name", "schemathesis", "--json"))["token"]
        daemon.add_device("pump-7", 3)
        for temp in (21.5, 22, 22.5):
            assert daemon.post("pump-7", json.dumps({"temp": temp})) == (200, "OK")
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", f"--config-file={CONFIG}", "run",
                f"http://127.0.0.1:{daemon.port('http')}/openapi.json", f"--max-time={SECONDS}", "--no-color",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=240,
            env={**os.environ, "TOKEN": token, "ADMIN_TOKEN": admin, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
        assert "No issues found" in done.stdout, done.stdout[-2_000:]
