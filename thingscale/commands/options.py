"""What the commands of the command line have in common: their options, how they fail, and what they open."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from storage.lock import InUseByProcessError
from storage.registry import Registry, RegistryFormatError
from thingscale import accounts
from thingscale.config import Config, ConfigError, load

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data directory [default: ./data].")]
File = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def fail(message: object, code: int = 1) -> NoReturn:
    print(f"thingscale: {message}", file=sys.stderr)
    raise typer.Exit(code)


def sure(question: str, *, yes: bool) -> None:
    """What cannot be undone is asked for on a terminal, and needs ``--yes`` elsewhere."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Say --yes.", 2)
    if not typer.confirm(question, err=True):
        fail("nothing was done")


def configuration(file: Path | None, data: Path | None, **flags: Any) -> Config:
    given = {name.replace("_", ".", 1): value for name, value in flags.items()}
    try:
        return load(file, {"server.data": None if data is None else str(data), **given})
    except ConfigError as error:
        fail(error, 2)


def check_directory(config: Config) -> None:
    """Fail where no daemon has ever been."""
    if not (config.data / "registry.sqlite3").exists():
        fail(f"{config.data} is no data directory: it has no registry.sqlite3", 2)


def open_registry(config: Config, *, makes: bool = False) -> Registry:
    """The registry of a data directory; a command that adds something makes both if they are not there."""
    if not makes:
        check_directory(config)
    try:
        return accounts.open_registry(config)
    except (OSError, RegistryFormatError, InUseByProcessError) as error:
        fail(error)
