"""The examples of docs/mqtt.md run as printed, and its table of reason codes is the code's."""

import re
import shutil
from pathlib import Path

import pytest

from ingest.refusals import REASONS
from storage.kinds import Refusal
from tests.daemon import Daemon
from tests.docs.test_readme import blocks as readme_blocks
from tests.docs.walkthroughs import blocks_of, run_blocks

PAGE = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text()
REASON_ROW = re.compile(r"^\| 0x([0-9A-F]{2}) [a-z ]+ \| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|$", re.M)


def test_the_examples_run_as_printed(tmp_path: Path) -> None:
    if shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto's clients are not installed")
    # The walk through's user, its channel and its device.
    variables = readme_blocks()[:2]
    with Daemon(tmp_path / "data") as daemon:
        printed = run_blocks([*variables, *blocks_of(PAGE)], daemon, tmp_path)
    reading, command, kept = printed[len(variables) :]
    assert reading.strip() == '{"temp": 22.5}'
    # The command, and curl's reply: they may come in either order.
    assert "valve=open" in command
    assert "{}" in command
    assert kept.strip() == "valve=closed"


def test_the_table_of_reason_codes_is_the_one_in_force() -> None:
    told = {
        Refusal[name]: int(code, 16)
        for code, names in REASON_ROW.findall(PAGE)
        for name in re.findall(r"[A-Z_]+", names)
    }
    assert told == {refusal: int(reason) for refusal, reason in REASONS.items()}
