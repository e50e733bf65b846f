"""``thingscale admin``: the tokens with which admins use the REST interface."""

import json
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from storage.registry import AdminToken, FieldError, LimitError, RegistryBusyError, UnknownError
from thingscale.commands.options import AsJson, Data, File, configuration, fail, open_registry

app = typer.Typer(no_args_is_help=True, help="Admins of this daemon.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens for /v2/admin.")
app.add_typer(token_app, name="token")


def told(token: AdminToken) -> dict[str, object]:
    at = datetime.fromtimestamp(token.created_at_us // 1_000_000, UTC).isoformat()
    return {"id": token.id, "name": token.name, "created_at": at}


@token_app.command("add")
def add_token(
    name: Annotated[str, typer.Option(help="Whose it is, for the audit log.")],
    data: Data = None,
    config: File = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. It is shown now and never again."""
    registry = open_registry(configuration(config, data), makes=True)
    now_us = time.time_ns() // 1000
    try:
        with registry.by("cli", now_us):
            token, text = registry.add_admin_token(now_us, name)
    except FieldError as error:
        fail(error, 2)
    except (LimitError, RegistryBusyError) as error:
        fail(error)
    if as_json:
        print(json.dumps({**told(token), "token": text}))
    else:
        print(f"id     {token.id}\nname   {token.name}\ntoken  {text}")


@token_app.command("list")
def list_tokens(data: Data = None, config: File = None, as_json: AsJson = False) -> None:
    """All of them, without the tokens themselves: nobody knows those any more."""
    tokens = [told(token) for token in open_registry(configuration(config, data)).admin_tokens()]
    if as_json:
        print("".join(json.dumps(token) + "\n" for token in tokens), end="")
        return
    table = Table("id", "name", "created", box=None)
    for token in tokens:
        table.add_row(*(str(value) for value in token.values()))
    Console().print(table)


@token_app.command("revoke")
def revoke_token(number: int, data: Data = None, config: File = None, as_json: AsJson = False) -> None:
    """A token is worth nothing from now on."""
    registry = open_registry(configuration(config, data))
    try:
        with registry.by("cli", time.time_ns() // 1000):
            registry.revoke_admin_token(number)
    except (UnknownError, RegistryBusyError) as error:
        fail(error)
    if as_json:
        print(json.dumps({"id": number, "revoked": True}))
