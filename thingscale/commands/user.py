"""``thingscale user``: accounts, in the registry of a data directory, whether a daemon runs on it or not.

With an admin's token the same commands speak to ``/v2/admin/users`` of a daemon elsewhere.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from storage.registry import (
    OVERLAP_S_MAX,
    QUOTAS,
    FieldError,
    Registry,
    RegistryBusyError,
    UnknownError,
    User,
)
from thingscale.client.services import Admin
from thingscale.commands.options import AsJson, Data, File, Yes, configuration, fail, open_registry, sure
from thingscale.commands.output import line, print_object, print_objects, print_table
from thingscale.commands.server import Url, client_of, told

app = typer.Typer(no_args_is_help=True, help="Accounts and their tokens.")

ADMIN_VARIABLE: Final = "THINGSCALE_ADMIN_TOKEN"
SHOWN: Final = ("user_id", "api_token", "device_token", "email1", "locale", "user_alias")
LISTED: Final = {"user id": "user_id", "alias": "user_alias", "email": "email1", "locale": "locale"}

UserId = Annotated[str, typer.Argument(metavar="USER_ID")]
AdminToken = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help=f"An admin's, for a daemon elsewhere [{ADMIN_VARIABLE}]."),
]


@dataclass(frozen=True, slots=True)
class Where:
    """An account is changed in a registry, or by REST as an admin; one of them is there."""

    registry: Registry | None
    admin: Admin | None


@contextmanager
def accounts(
    data: Path | None, config: Path | None, url: str | None, token: str | None, *, makes: bool = False
) -> Iterator[Where]:
    """Where accounts are, as the options say: an admin's token means REST, unless there is a data directory."""
    if data is not None and (url is not None or token is not None):
        fail("--data is instead of --url and --token", 2)
    token = token or (os.environ.get(ADMIN_VARIABLE) if data is None and config is None else None)
    if token is None and url is not None:
        fail(f"no admin's token: give --token or {ADMIN_VARIABLE}", 2)
    with told():
        if token is not None:
            with client_of(url, token) as client:
                yield Where(None, client.admin)
            return
        registry = open_registry(configuration(config, data), makes=makes)
        try:
            yield Where(registry, None)
        except FieldError as error:
            fail(error, 2)
        except (UnknownError, RegistryBusyError) as error:
            fail(error)
        finally:
            registry.close()


def changed(registry: Registry, change: Callable[[int], User]) -> User:
    """A change in the name of the command line; it is told the time."""
    now_us = time.time_ns() // 1000
    with registry.by("cli", now_us):
        return change(now_us)


def with_tokens(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in SHOWN}


def show_tokens(user: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: user[name] for name in SHOWN}))
        return
    print(f"user id       {user['user_id']}")
    print(f"API token     {user['api_token']}\ndevice token  {user['device_token']}")


@app.command("add")
def add_user(
    email: Annotated[str, typer.Option(help="Where notifications go.")] = "",
    alias: Annotated[str, typer.Option(help="Display name.")] = "",
    locale: Annotated[str, typer.Option(help="IANA time zone.")] = "UTC",
    data: Data = None,
    config: File = None,
    url: Url = None,
    token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Make an account; prints its id and tokens."""
    fields = {"email1": email, "user_alias": alias, "locale": locale}
    with accounts(data, config, url, token, makes=True) as where:
        if where.admin is not None:
            show_tokens(where.admin.add(**fields), as_json)
            return
        registry = where.registry
        assert registry is not None
        user = changed(registry, lambda now_us: registry.add_user(now_us, **fields))
    show_tokens(with_tokens(user), as_json)


@app.command("list")
def list_users(
    data: Data = None,
    config: File = None,
    url: Url = None,
    token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """All accounts; a registry's with their tokens with --json."""
    with accounts(data, config, url, token) as where:
        if where.admin is not None:
            print_objects(where.admin.users(), LISTED, as_json=as_json)
            return
        assert where.registry is not None
        users = [with_tokens(user) for user in where.registry.users()]
    if as_json:
        for user in users:
            print(json.dumps(user))
        return
    print_table(list(LISTED), ([user[key] for key in LISTED.values()] for user in users))


@app.command("show")
def show_user(
    user_id: UserId,
    data: Data = None,
    config: File = None,
    url: Url = None,
    token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """One account, with its quotas and without its tokens."""
    with accounts(data, config, url, token) as where:
        if where.admin is not None:
            found: Mapping[str, Any] = where.admin.get(user_id)
        else:
            assert where.registry is not None
            user = where.registry.user(user_id)
            if user is None:
                fail(f"there is no user {user_id}")
            found = without_tokens(user)
    print_object(found, as_json=as_json)


def without_tokens(user: User) -> dict[str, Any]:
    names = ("user_id", "email1", "email2", "organization", "locale", "user_alias", "enabled")
    quotas = {name: getattr(user.quotas, name) for name in QUOTAS}
    return {**{name: getattr(user, name) for name in names}, "quotas": quotas}


def update(where: Where, user_id: str, fields: dict[str, Any], quotas: dict[str, Any], as_json: bool) -> None:
    """Change an account and show it."""
    if where.admin is not None:
        body = {**fields, **({"quotas": quotas} if quotas else {})}
        found: Mapping[str, Any] = where.admin.update(user_id, **body)
    else:
        registry = where.registry
        assert registry is not None
        user = changed(registry, lambda _now_us: registry.update_user(user_id, **fields, **quotas))
        found = without_tokens(user)
    print_object(found, as_json=as_json)


@app.command("disable")
def disable_user(
    user_id: UserId,
    data: Data = None,
    config: File = None,
    url: Url = None,
    token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Nothing of the account comes in any more, and nobody reads it; nothing is lost."""
    with accounts(data, config, url, token) as where:
        update(where, user_id, {"enabled": False}, {}, as_json)


@app.command("enable")
def enable_user(
    user_id: UserId,
    data: Data = None,
    config: File = None,
    url: Url = None,
    token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Take back what disable did."""
    with accounts(data, config, url, token) as where:
        update(where, user_id, {"enabled": True}, {}, as_json)


def quota_of(name: str, text: str | None) -> int | float | None:
    """``default`` is None: what the settings say."""
    if text == "default":
        return None
    try:
        assert text is not None
        return float(text) if name.endswith("_per_s") and not text.isdigit() else int(text)
    except ValueError:
        fail(f"--{name.replace('_', '-')}: expected a number or default, not {text!r}", 2)


@app.command("quota")
def set_quota(
    user_id: UserId,
    devices: Annotated[str | None, typer.Option(metavar="N", help="How many.")] = None,
    channels: Annotated[str | None, typer.Option(metavar="N", help="How many.")] = None,
    storage_bytes: Annotated[
        str | None, typer.Option("--storage-bytes", metavar="BYTES", help="What is stored; 0 is no limit.")
    ] = None,
    rest_per_s: Annotated[
        str | None, typer.Option("--rest-per-s", metavar="N", help="REST requests; 0 is no limit.")
    ] = None,
    connector_per_s: Annotated[
        str | None, typer.Option("--connector-per-s", metavar="N", help="Posts of a device; 0 is no limit.")
    ] = None,
    data: Data = None,
    config: File = None,
    url: Url = None,
    token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Give an account limits of its own; the word default takes one back."""
    given = {
        "devices": devices, "channels": channels, "storage_bytes": storage_bytes, "rest_per_s": rest_per_s,
        "connector_per_s": connector_per_s,
    }  # fmt: skip
    quotas = {name: quota_of(name, text) for name, text in given.items() if text is not None}
    if not quotas:
        fail("nothing to change: say which quota", 2)
    with accounts(data, config, url, token) as where:
        update(where, user_id, {}, quotas, as_json)


@app.command("delete")
def delete_user(
    user_id: UserId,
    delete_data: Annotated[bool, typer.Option("--delete-data", help="The readings, too.")] = False,
    yes: Yes = False,
    data: Data = None,
    config: File = None,
    url: Url = None,
    token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """End an account. Its readings' files stay, unless --delete-data says otherwise."""
    sure(f"Delete user {user_id}{' with all readings' if delete_data else ''}?", yes=yes)
    with accounts(data, config, url, token) as where:
        if where.admin is not None:
            where.admin.delete(user_id, with_data=delete_data)
        else:
            registry = where.registry
            assert registry is not None
            now_us = time.time_ns() // 1000
            with registry.by("cli", now_us):
                registry.delete_user(user_id, now_us, keeps_data=not delete_data)
    if as_json:
        print(line({"user_id": user_id, "deleted": True}))


@app.command("rotate")
def rotate_token(
    user_id: UserId,
    api: Annotated[bool, typer.Option("--api", help="A new API token.")] = False,
    device: Annotated[bool, typer.Option("--device", help="A new device token.")] = False,
    overlap: Annotated[
        int,
        typer.Option(
            metavar="SECONDS", min=0, max=OVERLAP_S_MAX, help="How long the old one goes on working."
        ),
    ] = 0,
    data: Data = None,
    config: File = None,
    url: Url = None,
    token: AdminToken = None,
    as_json: AsJson = False,
) -> None:
    """Replace a token. Without an overlap the old one is worth nothing within a second."""
    if api == device:
        fail("give one of --api and --device", 2)
    which = "api_token" if api else "device_token"
    with accounts(data, config, url, token) as where:
        if where.admin is not None:
            print_object(where.admin.rotate(user_id, which, overlap), as_json=as_json)
            return
        registry = where.registry
        assert registry is not None
        user = changed(
            registry,
            lambda now_us: registry.rotate(user_id, which, now_us + overlap * 1_000_000 if overlap else 0),
        )
    show_tokens(with_tokens(user), as_json)
