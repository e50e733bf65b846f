"""docs/cli.md tells the truth: every command with all its options, and no others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from thingscale.cli import app
from thingscale.commands.server import OPTIONS
from thingscale.config import COMMAND_VARIABLES

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
REST = {f"--{name}" for name in OPTIONS}
# What a section says for all of its commands.
COMMON = {
    "device": REST, "channel": REST, "event": REST, "export": REST, "import": REST, "sql": REST, "tail": {"--url", "--token"},
    "user": {"--data", "--config", "--url", "--token"}, "admin": {"--data", "--config"},
}  # fmt: skip


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def rows_of_the_page() -> dict[str, tuple[str, set[str]]]:
    """Command -> its arguments, and its options."""
    found: dict[str, tuple[str, set[str]]] = {}
    before: set[str] = set()
    for usage, options in re.findall(
        r"^\| `thingscale ([^`]+)` \|(.*?)\| .* \|$", PAGE.read_text(), re.MULTILINE
    ):
        words = usage.split()
        names = [word for word in words if word.islower()]
        listed = before if options.strip() == "the same" else set(re.findall(r"`(-[^`]+)`", options))
        found[" ".join(names)] = (" ".join(words[len(names) :]), listed)
        before = listed
    return found


def test_the_page_has_every_command_and_no_other() -> None:
    assert set(rows_of_the_page()) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_all_arguments_and_options_of_a_command(name: str) -> None:
    arguments, options = rows_of_the_page()[name]
    parameters = COMMANDS[name].params
    own = {
        each for param in parameters for each in (*param.opts, *param.secondary_opts) if each.startswith("-")
    }
    assert own == options | COMMON.get(name.split()[0], set())
    named = [param for param in parameters if param.param_type_name == "argument"]
    assert arguments.split() == [str(param.metavar or param.name).upper().strip("{}") for param in named]


def test_every_option_and_command_says_what_it_is() -> None:
    for command in COMMANDS.values():
        assert command.help
        for param in command.params:
            assert param.param_type_name == "argument" or param.help, (command.name, param.name)


@pytest.mark.parametrize("variable", COMMAND_VARIABLES)
def test_the_page_names_the_variables(variable: str) -> None:
    assert f"`{variable}`" in PAGE.read_text()


@pytest.mark.parametrize("option", sorted(REST))
def test_the_page_explains_which_daemon(option: str) -> None:
    assert re.search(rf"^\| `{option}[ `]", PAGE.read_text(), re.MULTILINE)
