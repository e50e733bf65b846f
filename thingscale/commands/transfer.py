"""``thingscale export``: readings into a file or a pipe, as they come, in bounded memory."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from thingscale.commands.options import AsJson, fail
from thingscale.commands.output import bytes_progress
from thingscale.commands.rest import Rest
from thingscale.commands.server import rest_command

FORMATS: Final = ("csv", "ndjson", "json", "arrow", "parquet")
BINARY: Final = ("arrow", "parquet")
SUFFIXES: Final = {
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".parquet": "parquet",
}
END_OF_TIME: Final = "9999-12-31 23:59:59Z"

Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Not to stdout.")]


def format_of(asked: str | None, output: Path | None, default: str, known: tuple[str, ...] = FORMATS) -> str:
    """What is asked for, or what the file's name says."""
    if asked is None:
        return SUFFIXES.get(output.suffix.lower(), default) if output is not None else default
    if asked not in known:
        fail(f"--format: expected one of {', '.join(known)}, not {asked!r}", 2)
    return asked


@contextmanager
def written(output: Path | None) -> Iterator[BinaryIO]:
    """Where bytes go. A file has its name only when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def refuse_terminal(shape: str, output: Path | None) -> None:
    if output is None and shape in BINARY and sys.stdout.isatty():
        fail(f"{shape} is nothing for a terminal: give --output FILE", 2)


def register(app: typer.Typer) -> None:
    rest_command(app, "export")(export)


def export(
    rest: Rest,
    channels: Annotated[list[int], typer.Argument(metavar="CHANNEL...", min=0)],
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="TIME", help="From then on, as 2024-05-01 or with a time."),
    ] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Up to then, inclusive.")] = None,
    shape: Annotated[
        str | None,
        typer.Option("--format", metavar="|".join(FORMATS), help="[default: what FILE is called, or csv]"),
    ] = None,
    output: Output = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Only with it; repeatable.")
    ] = None,
    devices: Annotated[
        list[str] | None, typer.Option("--device", metavar="DEVICE", help="Only of it; repeatable.")
    ] = None,
    streams: Annotated[
        list[str] | None, typer.Option("--stream", metavar="STREAM", help="Only this one; repeatable.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option("--zone", metavar="ZONE", help="Of times [default: the account's].")
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="asc|desc|none", help="none is fastest [default: asc]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy readings out of channels, exactly and in order of time."""
    if as_json and shape not in (None, "ndjson"):
        fail("--json is --format ndjson", 2)
    shape = "ndjson" if as_json else format_of(shape, output, "csv")
    refuse_terminal(shape, output)
    query = {
        "start": start, "end": end or END_OF_TIME, "format": shape, "zone": zone, "sort": sort,
        "tag": quoted(tags), "device": quoted(devices), "streams": quoted(streams),
    }  # fmt: skip
    path = "/v2/stream"
    if len(channels) == 1:
        path = f"/v2/stream/{channels[0]}"
    else:
        query["channel"] = ",".join(map(str, channels))
    response = rest.open("GET", path, query=query)
    what = "export" if output is None else str(output)
    with bytes_progress(what) as progress, written(output) as file:
        for piece in rest.pieces(response):
            file.write(piece)
            progress.advance(progress.task_ids[0], len(piece))


def quoted(names: list[str] | None) -> list[str]:
    """Names as lists of the API have them: a comma in a name does not divide it."""
    return ['"' + name.replace('"', '""') + '"' for name in names or ()]
