"""``thingscale device``: one account's devices."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from thingscale.client import BadRequestError, Client
from thingscale.commands.options import AsJson, fail
from thingscale.commands.output import course, line, print_object, print_objects, print_table
from thingscale.commands.server import rest_command

app = typer.Typer(no_args_is_help=True, help="Devices: who sends, and to which channel.")

PAGE_ROWS: Final = 1_000
# Lines of one request; all or nothing is one request, whatever its length.
TABLE_ROWS: Final = 1_000
COLUMNS: Final = {
    "device id": "device_id",
    "enabled": "enabled",
    "channel": "mapped_ch",
    "type": "device_type",
    "location": "location",
    "description": "description",
}
UNMAPPED: Final = ("none", "null")

DeviceId = Annotated[str, typer.Argument(metavar="DEVICE")]
DeviceIds = Annotated[list[str], typer.Argument(metavar="DEVICE...")]
Enabled = Annotated[bool | None, typer.Option("--enabled/--disabled", help="Whether readings are taken.")]
Channel = Annotated[
    str | None, typer.Option("--channel", metavar="N", help="Where readings go; none: nowhere.")
]
Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="What it is.")]
Type = Annotated[str | None, typer.Option("--type", metavar="TEXT", help="Kind of device.")]
Location = Annotated[str | None, typer.Option("--location", metavar="TEXT", help="Where it is.")]
Maker = Annotated[str | None, typer.Option("--manufacturer", metavar="TEXT", help="Who made it.")]


def channel_number(text: str | None) -> int | None:
    """``none`` is None."""
    if text is None or text in UNMAPPED:
        return None
    if not (text.isascii() and text.isdigit()):
        fail(f"--channel: expected a number or none, not {text!r}", 2)
    return int(text)


def fields_of(
    enabled: bool | None,
    channel: str | None,
    description: str | None,
    device_type: str | None,
    location: str | None,
    manufacturer: str | None,
) -> dict[str, Any]:
    """What the options say of a device, as the API takes it."""
    texts = {
        "description": description,
        "device_type": device_type,
        "location": location,
        "manufacturer": manufacturer,
    }
    fields: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    if enabled is not None:
        fields["enabled"] = enabled
    if channel is not None:
        fields["mapped_ch"] = channel_number(channel)
    return fields


@rest_command(app, "list")
def list_devices(
    client: Client,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="In the id or the description.")
    ] = None,
    enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="Only those that are.")] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="N", help="Only those mapped to it, or to none.")
    ] = None,
    device_type: Annotated[
        str | None, typer.Option("--type", metavar="TEXT", help="Only of this kind.")
    ] = None,
    location: Annotated[str | None, typer.Option("--location", metavar="TEXT", help="Only there.")] = None,
    manufacturer: Annotated[
        str | None, typer.Option("--manufacturer", metavar="TEXT", help="Only of this maker.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="KEY", help="As in docs/api.md; -KEY goes down.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """All devices, or those that the options describe."""
    only = {
        "search": search,
        "enabled": enabled,
        "mapped_ch": channel,
        "device_type": device_type,
        "location": location,
        "manufacturer": manufacturer,
        "sort": sort,
        "limit": PAGE_ROWS,
    }
    found = client.devices.list(**{name: value for name, value in only.items() if value is not None})
    print_objects(found, COLUMNS, as_json=as_json, page_rows=PAGE_ROWS)


@rest_command(app, "show")
def show_device(client: Client, device: DeviceId, as_json: AsJson = False) -> None:
    """Everything that is known of a device, with the state that it last sent."""
    print_object(client.devices.get(device), as_json=as_json)


@rest_command(app, "add")
def add_device(
    client: Client,
    device: DeviceId,
    enabled: Enabled = None,
    channel: Channel = None,
    description: Description = None,
    device_type: Type = None,
    location: Location = None,
    manufacturer: Maker = None,
    as_json: AsJson = False,
) -> None:
    """Register a device. It sends nowhere unless --enabled and --channel say so."""
    fields = fields_of(enabled, channel, description, device_type, location, manufacturer)
    print_object(client.devices.add(device, **fields), as_json=as_json)


@rest_command(app, "set")
def set_device(
    client: Client,
    device: DeviceId,
    enabled: Enabled = None,
    channel: Channel = None,
    description: Description = None,
    device_type: Type = None,
    location: Location = None,
    manufacturer: Maker = None,
    as_json: AsJson = False,
) -> None:
    """Change a device: what is not said stays."""
    fields = fields_of(enabled, channel, description, device_type, location, manufacturer)
    if not fields:
        fail("nothing to change: say what", 2)
    print_object(client.devices.update(device, **fields), as_json=as_json)


@rest_command(app, "delete")
def delete_device(client: Client, devices: DeviceIds, as_json: AsJson = False) -> None:
    """Forget devices. Their readings stay."""
    for device in devices:
        client.devices.delete(device)
        if as_json:
            print(line({"device_id": device, "deleted": True}))


def tables_of(file: Path) -> Iterator[tuple[list[int], bytes]]:
    """A CSV file in pieces with the head in each: the numbers of its lines, and the piece.

    Raises:
        ValueError: it is not CSV, or not UTF-8.
    """
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        numbers: list[int] = []
        lines: list[list[str]] = []
        try:
            head = next(reader, [])
            before = reader.line_num
            for row in reader:
                if row:
                    numbers.append(before + 1)
                    lines.append(row)
                before = reader.line_num
                if len(lines) == TABLE_ROWS:
                    yield numbers, table(head, lines)
                    numbers, lines = [], []
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from None
        if lines:
            yield numbers, table(head, lines)


def table(head: list[str], lines: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([head, *lines])
    return text.getvalue().encode()


@rest_command(app, "import")
def import_devices(
    client: Client,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV; the first line has the API's names.")],
    on_existing: Annotated[
        str,
        typer.Option("--on-existing", metavar="error|skip|update", help="What a device that is there means."),
    ] = "error",
    atomic: Annotated[bool, typer.Option("--atomic", help="All lines or none (up to 2,000).")] = False,
    as_json: AsJson = False,
) -> None:
    """Register or change many devices out of a table. Exit code 1 if a line cannot be done."""
    totals = dict.fromkeys(("created", "updated", "skipped", "failed"), 0)
    try:
        size, done = file.stat().st_size or 1, 0
        with course(str(file)) as far:
            # All or nothing goes as it is. Of the pieces the reports are in the order of the lines.
            for numbers, piece in [(None, file.read_bytes())] if atomic else tables_of(file):
                for place, report in enumerate(provision(client, piece, on_existing, is_atomic=atomic)):
                    if numbers is not None:
                        report["line"] = numbers[place]
                    totals[report["result"]] += 1
                    say(report, as_json=as_json)
                done += len(piece)
                far.move(len(piece), done / size)
    except ValueError as error:
        fail(f"{file}: {error}", 2)
    if not as_json:
        print_table(list(totals), [list(totals.values())])
    if totals["failed"]:
        raise typer.Exit(1)


def provision(client: Client, piece: bytes, on_existing: str, *, is_atomic: bool) -> Sequence[dict[str, Any]]:
    """What became of each line of a table; of one that is refused as a whole, of those that are why."""
    try:
        return client.devices.load(piece, on_existing=on_existing, is_atomic=is_atomic)
    except BadRequestError as error:
        if "devices" not in error.body:
            raise
        report: list[dict[str, Any]] = error.body["devices"]
        return report


def say(told: dict[str, Any], *, as_json: bool) -> None:
    """A line that was done is only news to a program."""
    if as_json:
        print(line(told))
    elif told["result"] == "failed":
        print(
            f"thingscale: line {told['line']}: {told['device_id']}: {told['error']}: {told['detail']}",
            file=sys.stderr,
        )
