"""One target under libFuzzer, which keeps what reaches new code: ``python -m tests.fuzz.guided TARGET [libFuzzer's options]``.

tests/fuzz/campaign.py runs it for every target, with modules that were compiled for it.
"""

import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["ingest", "query", "storage"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.corpus import cases
from tests.fuzz.mutation import mutate, mutate_packets


def main() -> None:
    name, *options = sys.argv[1:]
    target = TARGETS[name]
    others = list(cases(target.language).values())
    has_packets = target.language == "mqtt"

    def mutator(data: bytes, size_max: int, seed: int) -> bytes:
        """libFuzzer's own changes for the most part; ours know what a packet is and what other cases are made of."""
        chance = Random(seed)
        dice = chance.random()
        if data and has_packets and dice < 0.5:
            return mutate_packets(chance, data, others)[:size_max]
        if dice < 0.7:
            return mutate(chance, data, others)[:size_max]
        changed: bytes = atheris.Mutate(data, size_max)
        return changed

    atheris.Setup([f"{sys.argv[0]}-{name}", *options], target.check, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
