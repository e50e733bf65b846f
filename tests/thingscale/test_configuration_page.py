"""docs/configuration.md tells the truth: every key, its variable, default and bounds, and an example that works."""

import re
import tomllib
from pathlib import Path

import pytest

from thingscale.config import SETTINGS, Setting, load

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def path_of(setting: Setting) -> str:
    return setting.path


def rows_of_the_page() -> dict[str, list[str]]:
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    return {path: [cell.strip() for cell in rest.split("|")] for path, rest in rows}


def allowed(setting: Setting) -> str:
    def number(value: float) -> str:
        return f"`{int(value):_}`" if value == int(value) else f"`{value}`"

    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.kind is str:
        return "text"
    if setting.kind is list:
        return "list of texts"
    most = f".. {number(setting.most)}" if setting.most < 2**62 else "or more"
    return f"{number(setting.least)} {most}" + ", a power of two" * setting.power_of_two


def test_the_page_has_every_key_once_in_this_order_and_no_other() -> None:
    assert list(rows_of_the_page()) == [setting.path for setting in SETTINGS]


@pytest.mark.parametrize("setting", SETTINGS, ids=path_of)
def test_the_page_tells_variable_default_bounds_and_meaning(setting: Setting) -> None:
    variable, default, bounds, meaning = rows_of_the_page()[setting.path]
    assert variable == f"`{setting.variable}`"
    value = tomllib.loads(f"default = {default.strip('`')}")["default"]
    assert (value, type(value)) == (setting.default, setting.kind)
    assert bounds == allowed(setting)
    assert meaning


def test_the_example_of_the_page_is_taken(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    file = tmp_path / "thingscale.toml"
    file.write_text(example[1])
    config = load(file, environment={})
    assert config.address("server.mqtt") == ("::", 1883)
    assert [path for path, origin in config.origins.items() if origin != "default"]


def test_the_page_names_the_commands_that_print_the_configuration() -> None:
    assert "`thingscale config`" in PAGE.read_text()
    assert "`python -m thingscale config`" in PAGE.read_text()
