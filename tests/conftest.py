"""What every test may rely on: compiled modules that are not older than their source."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

settings.register_profile("thingscale", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For those who have time: `pytest --hypothesis-profile=long FILE`.
settings.register_profile("long", settings.get_profile("thingscale"), max_examples=10_000)
settings.load_profile("thingscale")


def pytest_sessionstart() -> None:
    for room in ("ingest", "query", "storage"):
        for source in (ROOT / room).rglob("*.pyx"):
            built = list(source.parent.glob(f"{source.stem}.*.so"))
            if not built or max(file.stat().st_mtime for file in built) < source.stat().st_mtime:
                pytest.exit(
                    f"{source.relative_to(ROOT)} is newer than its compiled module: run `make build`", 3
                )
