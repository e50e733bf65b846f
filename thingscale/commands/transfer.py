"""``thingscale export`` and ``import``: readings into files and out of them, in bounded memory."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from thingscale.client import Answer, Client, ThingscaleError
from thingscale.commands.options import AsJson, fail
from thingscale.commands.output import course, line
from thingscale.commands.pieces import pieces_of
from thingscale.commands.rowcount import counter_of, rows_of_parquet
from thingscale.commands.server import rest_command

FORMATS: Final = ("csv", "ndjson", "json", "arrow", "parquet")
IMPORTED: Final = ("csv", "ndjson", "arrow", "parquet")
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
    rest_command(app, "import")(import_readings)


def export(
    client: Client,
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
    given: dict[str, Any] = {"tag": tags, "device": devices, "streams": streams, "zone": zone, "sort": sort}
    more = {name: value for name, value in given.items() if value}
    which = channels[0] if len(channels) == 1 else channels
    save(client.stream(which, start=start, end=end, **more), shape, output)


def save(answer: Answer, shape: str, output: Path | None) -> None:
    """Copy an answer to where it belongs."""
    with (
        course("stdout" if output is None else str(output)) as far,
        written(output) as file,
        answer.transfer(shape) as transfer,
    ):
        # Only datapoints are estimated, and of JSON only theirs can be counted.
        is_counted = far.is_shown and (shape != "json" or transfer.rows_estimate is not None)
        counter = counter_of(shape) if is_counted else None
        rows = share = None
        for piece in transfer.pieces:
            file.write(piece)
            if counter is not None:
                rows = counter.count(piece)
                share = rows / transfer.rows_estimate if transfer.rows_estimate else None
            far.move(len(piece), share, rows)
        if far.is_shown:
            if shape == "parquet" and output is not None:
                file.flush()
                rows = rows_of_parquet(Path(file.name))
            far.end(rows)


def import_readings(
    client: Client,
    channel: Annotated[int, typer.Argument(metavar="CHANNEL", min=0)],
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    shape: Annotated[
        str | None,
        typer.Option("--format", metavar="|".join(IMPORTED), help="[default: what FILE is called]"),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Of rows that name none.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Of rows that name none.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was imported out of this file already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Store the readings of a file. One that was interrupted is continued by the same command."""
    shape = format_of(shape, file, "", IMPORTED)
    if shape not in IMPORTED:
        fail(f"{file}: say with --format which of {', '.join(IMPORTED)} it is", 2)
    run = os.urandom(16) if again else b""
    stored = 0
    try:
        with course(str(file)) as far:
            for place, piece in enumerate(pieces_of(file, shape)):
                # What is the same piece of the same file is stored once, whenever it comes.
                key = hashlib.sha256(b"%d %b " % (place, run) + piece.body).hexdigest()
                stored += client.write_body(
                    channel, piece.body, piece.media_type, key=key, tag=tag, device=device
                )
                far.move(len(piece.body), piece.share)
    except ThingscaleError as error:
        fail(f"{error} (after {stored} readings that are stored)")
    except ValueError as error:
        fail(f"{file}: {error} (after {stored} readings that are stored)", 2)
    print(line({"channel": channel, "stored": stored}) if as_json else f"{stored} readings")
