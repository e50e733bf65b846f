"""Running a command in this process, and what a command that succeeds or fails must look like."""

from click.testing import Result
from typer.testing import CliRunner

from thingscale.cli import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    """The output of a command that must succeed."""
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(code: int, *arguments: object) -> str:
    """The one line on stderr of a command that must fail with this code."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.startswith("thingscale: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("thingscale: ").rstrip("\n")
