"""The machine under a run: figures without it mean nothing."""

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

SYNC_SAMPLES = 200
SYNC_BYTES = 4096


def describe(directory: Path) -> dict[str, object]:
    """Processor, kernel, versions, the commit, and what a 4 KB sync costs where the data goes."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": model[0] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _first_line(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]),
        "load_average": os.getloadavg()[0],
        "sync_4k_p50_us": sync_us(directory),
    }


def sync_us(directory: Path) -> float:
    """Median of pwrite + fdatasync of 4 KB inside a file that is already written, microseconds."""
    path = directory / "sync-probe"
    block = os.urandom(SYNC_BYTES)
    path.write_bytes(block * SYNC_SAMPLES)
    samples = []
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        for i in range(SYNC_SAMPLES):
            began = time.perf_counter()
            os.pwrite(file.fileno(), block, i * SYNC_BYTES)
            os.fdatasync(file.fileno())
            samples.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(samples) * 1e6


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return (done.stdout or done.stderr).partition("\n")[0].strip() or "unknown"
