"""``thingscale sql``: one SELECT over the account's channels, as a table or in any format."""

import json
import sys
from typing import Annotated, Any, Final

import typer

from thingscale.client import Answer, Client
from thingscale.commands.options import AsJson, fail
from thingscale.commands.output import print_table
from thingscale.commands.server import rest_command
from thingscale.commands.transfer import FORMATS, Output, format_of, refuse_terminal, save

# A table is laid out as a whole, so it has an end.
TABLE_ROWS: Final = 10_000
SHAPES: Final = ("table", *FORMATS)


def register(app: typer.Typer) -> None:
    rest_command(app, "sql")(sql)


def parameter_of(text: str) -> Any:
    """A number, true, false or null if it is one in JSON, otherwise the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict | str) else value


def sql(
    client: Client,
    select: Annotated[str, typer.Argument(metavar="SELECT", help="The statement; - reads it from stdin.")],
    parameters: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="VALUE", help="For the next ?; repeatable."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("--format", metavar="|".join(SHAPES), help="[default: what FILE is called, or table]"),
    ] = None,
    output: Output = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="ROWS", min=1, help="At most [default: 10,000 in a table]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask in SQL: views channel_NUMBER, channels, streams, devices (docs/api.md)."""
    if as_json and shape not in (None, "ndjson"):
        fail("--json is --format ndjson", 2)
    shape = "ndjson" if as_json else format_of(shape, output, "table", SHAPES)
    refuse_terminal(shape, output)
    if shape == "table" and output is not None:
        fail("a table is for stdout: give --format", 2)
    statement = sys.stdin.read() if select == "-" else select
    values = [parameter_of(each) for each in parameters or ()]
    if shape == "table":
        show(client.sql(statement, values, limit=limit or TABLE_ROWS))
    else:
        save(client.sql(statement, values, limit=limit), shape, output)


def show(answer: Answer) -> None:
    found = json.loads(b"".join(answer.pieces("json")))
    print_table([column["name"] for column in found["columns"]], found["rows"])
    if found["is_cut"]:
        print(f"thingscale: there are more rows than {found['row_count']:,}; --limit", file=sys.stderr)
