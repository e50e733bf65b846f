"""The second fence, alone: what a process in the jail cannot do, whatever DuckDB would allow."""

import subprocess
import sys
from pathlib import Path

import pytest

from query.sql import jail

if jail.missing() is not None:
    pytest.skip(f"no jail on this system: {jail.missing()}", allow_module_level=True)

REFUSALS = (
    "PermissionError",
    "OSError",
    "MemoryError",
    "ValueError",
    "NoJailError",
    "IOException",
    "IndexError",
)
ENTER = """
import os, socket, ctypes, resource, sys, threading, signal, mmap, struct
from pathlib import Path
import duckdb
from query.sql import jail
from query.sql.worker import CGROUP, open_database
from query.work.limits import Limits
directory, secret = Path(sys.argv[1]), sys.argv[2]
os.chdir(directory)
inherited = os.open(directory / "own.parquet", os.O_RDONLY)
{before}
Limits("sql", "memory_bytes_max", 1 << 29, 1 << 29, {seconds}).enter()
jail.enter([directory, *CGROUP])
"""
TRY = """
try:
    {code}
except (OSError, MemoryError, ValueError, IndexError, jail.NoJailError, duckdb.Error) as error:
    os.write(1, type(error).__name__.encode())
else:
    os.write(1, b"done")
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    import duckdb

    top = tmp_path_factory.mktemp("jail")
    (top / "own").mkdir()
    duckdb.sql("SELECT 42 AS a").write_parquet(str(top / "own" / "own.parquet"))
    (top / "secret.parquet").write_bytes((top / "own" / "own.parquet").read_bytes())
    return top / "own", top / "secret.parquet"


def run(places: tuple[Path, Path], code: str, seconds: float = 20, before: str = "") -> tuple[str, int]:
    script = ENTER.format(seconds=seconds, before=before) + TRY.format(code=code)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, places)],
        capture_output=True,
        timeout=60,
    )
    return done.stdout.decode() or done.stderr.decode()[-500:], done.returncode


@pytest.mark.parametrize(
    "code",
    [
        "open(secret)",
        "open('/etc/passwd')",
        "open('/proc/self/environ')",
        "open('../secret.parquet')",
        "os.listdir('.')",
        "os.listdir('/')",
        "open(directory / 'own.parquet', 'r+b')",
        "open(directory / 'new', 'w')",
        "open('/dev/shm/new', 'w')",
        "os.truncate('own.parquet', 0)",
        "os.unlink('own.parquet')",
        "os.rename('own.parquet', 'other')",
        "os.mkdir('new')",
        "os.symlink('/etc/passwd', 'link')",
        "os.link('own.parquet', 'link')",
        "os.chmod('own.parquet', 0o777)",
        "os.fchmod(inherited, 0o777)",
        "os.chown('own.parquet', 1, 1)",
        "os.utime('own.parquet')",
        "os.setxattr('own.parquet', 'user.a', b'b')",
        "os.mkfifo('fifo')",
        "os.fork()",
        "os.execv(sys.executable, ['python'])",
        "os.posix_spawn(sys.executable, ['python'], {})",
        "os.system('true') == 0 or open(secret)",
        "socket.socket()",
        "socket.socketpair()",
        "os.kill(os.getppid(), 0)",
        "os.pidfd_open(os.getppid())",
        "os.chroot('.')",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (9, 9))",
        "jail._checked(jail._libc.ptrace(16, os.getppid(), 0, 0), 'ptrace')",
        "mmap.mmap(-1, 8 << 30)",
        "mmap.mmap(-1, 3 << 28, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)",
        "bytearray(3 << 28)",
        "open_database(1, 1 << 28).sql(f\"FROM '{secret}'\").fetchall()",
        "open_database(1, 1 << 28).sql(f\"FROM read_text('{secret}')\").fetchall()",
        "open_database(1, 1 << 28).execute(\"COPY (SELECT 1) TO 'new.csv'\")",
        "open_database(1, 1 << 28).execute(\"ATTACH 'new.duckdb'\")",
        "open_database(1, 1 << 28).execute(f\"SET allowed_directories = ['/']; FROM glob('/*')\").fetchall()[0]",
    ],
)  # fmt: skip
def test_the_jail_forbids(places: tuple[Path, Path], code: str) -> None:
    before = {path: path.stat().st_mode for path in places[0].parent.rglob("*")}
    printed, status = run(places, code)
    assert printed in REFUSALS, printed
    assert status in (0, 1)
    assert {path: path.stat().st_mode for path in places[0].parent.rglob("*")} == before


@pytest.mark.parametrize(
    "code",
    [
        "open(directory / 'own.parquet', 'rb').read()",
        "threading.Thread(target=len, args=('',)).start()",
        "resource.getrlimit(resource.RLIMIT_AS)",
        "assert open_database(3, 1 << 28).sql(\"FROM 'own.parquet'\").fetchall() == [(42,)]",
        "assert open_database(2, 1 << 28).sql('SELECT count(*) FROM range(5000000) WHERE range % 7 = 3').fetchall()",
    ],
)
def test_the_jail_leaves_room_for_work(places: tuple[Path, Path], code: str) -> None:
    assert run(places, code) == ("done", 0)


def test_the_clock_ends_whoever_stays(places: tuple[Path, Path]) -> None:
    assert run(places, "while True: pass", seconds=0.5) == ("", -14)


def test_without_the_jail_all_that_works(places: tuple[Path, Path]) -> None:
    """The oracle: the forbidden things are possible for the same process outside."""
    before = "jail.enter = Limits.enter = lambda _: None"
    assert run(
        places, "open(secret, 'rb').read(); socket.socket(); os.chmod(secret, 0o600)", before=before
    ) == ("done", 0)
