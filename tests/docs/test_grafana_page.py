"""The examples of docs/grafana.md run as printed, and its limits and lists are those in force."""

import json
import re
from pathlib import Path

from query.prometheus import answers, language, samples, windows
from query.services import prometheus
from tests.daemon import Daemon
from tests.docs.test_readme import blocks as readme_blocks
from tests.docs.walkthroughs import blocks_of, run_blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "grafana.md").read_text()


def test_the_examples_run_as_printed(tmp_path: Path) -> None:
    # The walk through's user, its channel and its device; then a reading.
    before = [
        *readme_blocks()[:2],
        'curl -s http://127.0.0.1:8080/post_v2/ -H "X-DEVICETOKEN: $DEVICE" -H "X-DEVICEID: north-1" -d \'{"temp": 21.5}\'',
    ]
    with Daemon(tmp_path / "data") as daemon:
        printed = run_blocks([*before, *blocks_of(PAGE)], daemon, tmp_path)[len(before) :]
    one, two = printed
    (found,) = json.loads(one)["data"]["result"]
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.S)[0])["data"]["result"][0]
    assert found["metric"] == {name: value for name, value in shown["metric"].items() if name != "unit"}
    assert found["value"][1] == shown["value"][1]
    spread, devices = two.strip().replace("}{", "}\n{").splitlines()
    assert json.loads(spread)["data"]["result"][0]["value"][1] == "0"
    assert json.loads(devices)["data"] == ["north-1"]


def test_functions_and_limits_are_those_in_force() -> None:
    for name in (*language.FUNCTIONS, *language.AGGREGATIONS):
        assert f"`{name}`" in PAGE
    for limit in (
        answers.STEPS_MAX, answers.REPLY_POINTS_MAX, samples.SERIES_MAX, windows.WINDOW_SAMPLES_MAX,
        language.QUERY_CHARACTERS_MAX, language.MARKS_MAX,
    ):  # fmt: skip
        assert re.search(rf"[| ]{limit:,}[ ,]", PAGE), limit
    assert f"{prometheus.TIMEOUT_MAX_S:g} s, or `timeout`" in PAGE


def test_what_the_page_mounts_is_there() -> None:
    mounted = re.findall(r"\$PWD/(deploy/\S+?):", PAGE)
    assert len(mounted) == 2
    assert all((ROOT / path).is_dir() for path in mounted)
