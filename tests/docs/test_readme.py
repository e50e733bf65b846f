"""The README's walk through runs as printed, against a real daemon; its links lead somewhere."""

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.docs.walkthroughs import blocks_of, run_blocks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINK = re.compile(r"\]\(([^)#]+)(#[^)]*)?\)")


def blocks() -> list[str]:
    """The shell blocks of the walk through, in order."""
    return blocks_of(README.partition("## A walk through")[2].partition("\n## ")[0])


def test_the_walk_through_runs_as_printed(tmp_path: Path) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto's clients are not installed")
    with Daemon(
        tmp_path / "data", THINGSCALE_LIMITS_CONNECTOR_PER_S="1", THINGSCALE_LIMITS_REST_PER_S="20"
    ) as daemon:
        printed = run_blocks(blocks(), daemon, tmp_path)
    _, made, sent, read, asked, now, published, heard, health = printed
    assert '"channel_name":"Greenhouse"' in made
    assert '"device_id":"north-1"' in made
    assert sent.strip() == "OK"
    assert '"error"' not in read
    newest, whole, night, average = read.strip().split("}{")
    assert '"temp":17.25' in newest
    assert whole.count('"_id"') == 3
    assert night.count('"_id"') == 1
    assert '"tag":"night"' in night
    assert '"soil":{"moisture":0.31}' in average
    assert '"temp":20.166666666666668' in average
    hourly, in_sql = asked.strip().split("}{")
    assert '"aggr_type":"avg,max"' in hourly
    assert '{"avg":21.625,"max":21.75}' in hourly
    assert '"rows":[["night",17.25],[null,21.75]]' in in_sql
    (exported,) = tmp_path.glob("greenhouse.csv")
    assert exported.read_text().count("north-1") == 3
    first, second, *_ = now.strip().split("}")
    assert first == second
    assert '"stored":1' in first
    assert now.count("event: datapoint") == 1
    assert '"temp":23.5' in now
    assert '"files": ' in published
    assert "north-1" in published
    assert heard.strip() == '{"temp": 22.0}'
    assert '{"status":"ready"}' in health
    assert "thingscale_readings_stored_total" in health


def test_the_python_lines_run_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = README.partition("## From Python")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    with Daemon(tmp_path / "data") as daemon:
        (tmp_path / "user.json").write_text(json.dumps(daemon.add_user()))
        for device, temp in (("north-1", 21.5), ("north-1", 22.5), ("south-1", 17)):
            if temp != 22.5:
                daemon.add_device(device, 1)
            assert daemon.post(device, json.dumps({"temp": temp})) == (200, "OK")
        monkeypatch.chdir(tmp_path)
        values = []
        names: dict[str, Any] = {}
        for statement in ast.parse(code.replace("127.0.0.1:8080", f"127.0.0.1:{daemon.port('http')}")).body:
            if isinstance(statement, ast.Expr):
                values.append(eval(ast.unparse(statement), names))
            else:
                exec(ast.unparse(statement), names)
        names["client"].close()
    means, newest, warmest = values
    assert means.to_dict() == {"north-1": 22.0, "south-1": 17.0}
    assert newest["temp"].to_list() == [21.5, 22.5, 17.0]
    assert dict(zip(warmest["device"], warmest["temp"], strict=True)) == {"north-1": 22.5, "south-1": 17.0}
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for link, _ in LINK.findall(page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_every_page_of_docs_is_named_in_the_readme() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        named = page.relative_to(ROOT).as_posix() in README or page.name in README
        assert named or page.parent.name == "decisions", page


def test_every_verb_of_the_makefile_is_described() -> None:
    makefile = (ROOT / "Makefile").read_text()
    verbs = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert verbs is not None
    for verb in verbs[1].split():
        assert re.search(rf"^{verb}:.*##", makefile, re.M), verb
