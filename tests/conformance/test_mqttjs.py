"""mqtt.js from npm: over TCP, TLS, WebSocket and both, all three versions, every QoS, with sessions that are kept.

Runs where there are node and npm; ``mqttjs/package-lock.json`` says what npm installs, and no script of a package is run.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Broker

SOURCES = Path(__file__).with_name("mqttjs")
INSTALL_S = 180.0
RUN_S = 60.0
COUNT = 5


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program beside its node_modules, outside of the checkout."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    home = tmp_path_factory.mktemp("mqttjs") / "home"
    shutil.copytree(SOURCES, home, ignore=shutil.ignore_patterns("node_modules"))
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(install, cwd=home, timeout=INSTALL_S, capture_output=True, text=True)
    if done.returncode and "CI" not in os.environ:
        pytest.skip(f"npm could not install mqtt.js: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return home / "exchange.mjs"


def exchange(program: Path, **asked: Any) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["node", program.name, json.dumps(asked)],
        cwd=program.parent, timeout=RUN_S, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen: list[dict[str, Any]] = json.loads(done.stdout)
    return seen


def texts(name: str, qos: int) -> list[list[Any]]:
    return [[f"{name} {i}", qos] for i in range(COUNT)]


@pytest.mark.parametrize("way", ["mqtt", "mqtts", "ws", "wss"])
@pytest.mark.parametrize("version", [3, 4, 5])
def test_mqttjs_publishes_subscribes_goes_and_comes_back(
    way: str, version: int, own: str, broker: Broker, program: Path
) -> None:
    if way not in broker.urls:
        pytest.skip(f"the broker's address for {way} is not known")
    seen = exchange(
        program, url=broker.urls[way], ca=broker.ca_file, version=version, topic=f"{own}/t", id=own
    )
    for qos, each in enumerate(seen):
        assert each["granted"] == [qos]
        assert each["live"] == texts("live", qos)
        # Messages of QoS 0 are not kept for anybody.
        kept = bool(qos)
        assert each["broken"] == texts("broken", qos) * kept + texts("mended", qos)
        assert each["away"] == texts("away", qos) * kept + texts("back", qos)
        # MQTT 3.1 has no session present flag.
        assert each["present"] == [False] + [version > 3] * 2
    assert len(seen) == 3
