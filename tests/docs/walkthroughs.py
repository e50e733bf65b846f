"""The shell blocks of the pages, run as a reader would, against a real daemon."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.daemon import Daemon

BLOCK = re.compile(r"```sh\n(.*?)```", re.S)
SEPARATOR = "----"


def blocks_of(text: str) -> list[str]:
    """The shell blocks, in order."""
    return BLOCK.findall(text)


def run_blocks(blocks: list[str], daemon: Daemon, directory: Path) -> list[str]:
    """What each block printed. Only the ports differ from what stands on the page."""
    script = "set -e\n" + "\n".join(f"{block}\necho; echo {SEPARATOR}" for block in blocks)
    script = script.replace("127.0.0.1:8080", daemon.ready["http"])
    script = re.sub(
        r"(mosquitto_[ps]ub) -h 127\.0\.0\.1", rf"\1 -h 127.0.0.1 -p {daemon.port('mqtt')}", script
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=directory, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split(SEPARATOR)[: len(blocks)]
