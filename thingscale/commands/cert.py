"""``thingscale cert``: certificates for development."""

import json
import socket
from pathlib import Path
from typing import Annotated

import typer

from thingscale.commands.options import fail

app = typer.Typer(no_args_is_help=True, help="Certificates.")


@app.command("dev")
def make_development_certificate(
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the files go.")] = Path(
        "tls"
    ),
    host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Name or address of this machine; repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Make a CA and a server certificate for development; prints what to configure."""
    from thingscale.devcert import FilesExistError, make_development_files

    hosts = host or ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    try:
        files = make_development_files(directory.absolute(), hosts, force=force)
    except (FilesExistError, OSError) as error:
        fail(error)
    except ValueError as error:
        fail(error, 2)
    print(f"# for {', '.join(hosts)}; clients trust {files.ca}")
    print('[server]\nmqtts = "127.0.0.1:8883"\nwss = "127.0.0.1:8084"\nhttps = "127.0.0.1:8443"\n')
    print(f"[tls]\ncertificate = {json.dumps(str(files.certificate))}\nkey = {json.dumps(str(files.key))}")
