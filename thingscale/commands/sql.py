"""``thingscale sql``: one SELECT over the account's channels, as a table or in any format."""

import json
import sys
from typing import Annotated, Any, Final

import typer

from thingscale.commands.options import AsJson, fail
from thingscale.commands.output import bytes_progress, print_table
from thingscale.commands.rest import Rest
from thingscale.commands.server import rest_command
from thingscale.commands.transfer import FORMATS, Output, format_of, refuse_terminal, written

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
    rest: Rest,
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
    body = {"sql": statement, "parameters": [parameter_of(each) for each in parameters or ()]}
    if shape == "table":
        body |= {"format": "json", "limit": limit or TABLE_ROWS}
        show(rest.call("POST", "/v2/sql", body=body))
        return
    body |= {"format": shape, **({} if limit is None else {"limit": limit})}
    response = rest.open("POST", "/v2/sql", body=body)
    what = "sql" if output is None else str(output)
    with bytes_progress(what) as progress, written(output) as file:
        for piece in rest.pieces(response):
            file.write(piece)
            progress.advance(progress.task_ids[0], len(piece))


def show(answer: dict[str, Any]) -> None:
    print_table([column["name"] for column in answer["columns"]], answer["rows"])
    if answer["is_cut"]:
        print(f"thingscale: there are more rows than {answer['row_count']:,}; --limit", file=sys.stderr)
