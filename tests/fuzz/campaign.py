"""The long form: every target under libFuzzer with AddressSanitizer and UBSan, then the live ports. ``make fuzz``.

The compiled modules are built once more, by clang, in build/fuzz/lib: with counters on their branches, which is what
guides libFuzzer through them, and with checks of every access. Without clang they are the ordinary ones, and only the
Python code guides. What reaches new code is kept in build/fuzz/corpus and is where the next run begins; an input that
fails is in build/fuzz/findings, and ``python -m tests.fuzz.campaign --again FILE...`` runs it alone.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.corpus import ROOT
from tests.fuzz.targets import TARGETS

TOP = Path(__file__).parents[2]
HOME = TOP / "build" / "fuzz"
# Left out: nothing added to a null pointer, and copies of nothing from there, which is what an empty payload is.
FLAGS = (
    "-g -w -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize=pointer-overflow,nonnull-attribute"
    " -fno-sanitize-recover=undefined"
)
INPUT_BYTES_MAX = 4_096
TIMEOUT_S = 20  # of one input
MEMORY_MB_MAX = 4_096
PROGRESS = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Run:
    """How it went for one target: inputs tried, branches reached at the beginning and at the end, and the exit code."""

    executions: int
    covered_first: int
    covered: int
    code: int


def build() -> bool:
    """Compile with sanitizers; whether that can be done here."""
    clang = shutil.which("clang")
    if clang is None:
        print("clang is not installed: the compiled modules are neither watched nor a guide", flush=True)
        return False
    command = [
        sys.executable,
        "setup.py",
        "--quiet",
        "build",
        "--build-base",
        str(HOME),
        "--build-lib",
        str(HOME / "lib"),
    ]
    environment = {**os.environ, "CC": clang, "LDSHARED": f"{clang} -shared", "CFLAGS": FLAGS}
    used = HOME / "flags"
    if not used.exists() or used.read_text() != FLAGS:
        shutil.rmtree(HOME / "lib", ignore_errors=True)  # the sources alone do not say that these are too old
        shutil.rmtree(HOME / "temp", ignore_errors=True)
    command += ["--build-temp", str(HOME / "temp"), "--parallel", "2"]
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3_000:])
    used.write_text(FLAGS)
    return True


def environment_of(is_watched: bool) -> dict[str, str]:
    """For a process that runs targets."""
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    if not is_watched:
        return environment
    atheris = importlib.util.find_spec("atheris")
    assert atheris is not None
    assert atheris.origin is not None
    runtime = Path(atheris.origin).parents[1] / "asan_with_fuzzer.so"
    return environment | {
        "PYTHONPATH": f"{HOME / 'lib'}:{TOP}",
        # Every object is an allocation of its own, so that what is read behind one is seen.
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": str(runtime),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_abort=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def fuzz(name: str, seconds: int, environment: dict[str, str]) -> Run:
    """One target for so long, or until it fails; the end of what it says is shown then."""
    kept, findings = HOME / "corpus" / name, HOME / "findings"
    for directory in (kept, findings):
        directory.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", f"-timeout={TIMEOUT_S}", "-len_control=0",
        f"-rss_limit_mb={MEMORY_MB_MAX}", f"-artifact_prefix={findings}/{name}-", "-print_final_stats=1",
    ]  # fmt: skip
    # -P: the modules of build/fuzz/lib, not those of this directory.
    command = [
        sys.executable,
        "-P",
        "-m",
        "tests.fuzz.guided",
        name,
        *options,
        str(kept),
        str(ROOT / TARGETS[name].language),
    ]
    done = subprocess.run(
        command, cwd=HOME, env=environment, capture_output=True, text=True, errors="replace"
    )
    progress = PROGRESS.findall(done.stderr)
    if done.returncode:
        print(done.stdout[-2_000:], done.stderr[-6_000:], flush=True)
    first = next((int(covered) for _, word, covered, _ in progress if word == "INITED"), 0)
    last = progress[-1] if progress else ("0", "", "0", "")
    return Run(int(last[0]), first, int(last[2]), done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=1_200, help="for the decoders, all together")
    parser.add_argument("--live-seconds", type=int, default=120, help="for the live ports")
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), help="these decoders alone")
    parser.add_argument("--again", nargs="+", type=Path, help="run these findings alone")
    arguments = parser.parse_args()
    environment = environment_of(build())
    if arguments.again:
        for path in arguments.again:
            name = max((name for name in TARGETS if path.name.startswith(name)), key=len)
            subprocess.run(
                [sys.executable, "-P", "-m", "tests.fuzz.guided", name, str(path.resolve())],
                cwd=HOME,
                env=environment,
                check=False,
            )
        return
    names = arguments.only or list(TARGETS)
    total = sum(TARGETS[name].weight for name in names)
    failed: list[str] = []
    print(f"{'target':20}{'inputs':>10}{'branches':>18}  seconds", flush=True)
    for name in names:
        seconds = max(5, arguments.seconds * TARGETS[name].weight // total)
        run = fuzz(name, seconds, environment)
        branches = f"{run.covered_first} to {run.covered}"
        print(
            f"{name:20}{run.executions:>10}{branches:>18}  {seconds}{'  FAILED' * bool(run.code)}", flush=True
        )
        failed += [name] * bool(run.code)
    if arguments.live_seconds:
        live = [sys.executable, "-m", "tests.fuzz.live", "--seconds", str(arguments.live_seconds)]
        failed += ["live ports"] * bool(subprocess.run(live, cwd=TOP, check=False).returncode)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {HOME / 'findings'}")


if __name__ == "__main__":
    main()
