"""The short form of the fuzzing: the corpus and mutations of it, each decoder for a moment, and the live ports.

What ``make fuzz`` does for many minutes, guided by coverage, is here a few hundred inputs that are the same every time.
"""

import time
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.corpus import CASE_BYTES_MAX, NAME_LENGTH_MAX, ROOT, cases
from tests.fuzz.live import WAYS, run_live
from tests.fuzz.mutation import mutate, mutate_packets, split_packets
from tests.fuzz.seeds import LANGUAGES
from tests.fuzz.targets import TARGETS

# Whole conversations take milliseconds each, and other tests hold most of them: one in so many is run here.
SAMPLED = {"mqtt-conversation": 8, "http-conversation": 8}
MUTATED_S = 0.3
LIVE_S = 4.0
LIVE_CONNECTIONS_MAX = 600


def test_every_language_has_a_corpus_of_small_files_with_names() -> None:
    assert (
        {path.name for path in ROOT.iterdir()}
        == {target.language for target in TARGETS.values()}
        == set(LANGUAGES)
    )
    for language in LANGUAGES:
        found = cases(language)
        assert len(found) >= 7
        assert max(map(len, found.values())) <= CASE_BYTES_MAX
        assert max(map(len, found)) <= NAME_LENGTH_MAX + 4
    assert len(cases("mqtt")) > 1_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_holds(name: str) -> None:
    target = TARGETS[name]
    for number, (case, data) in enumerate(cases(target.language).items()):
        if number % SAMPLED.get(name, 1) == 0 or case.startswith("found-"):
            try:
                target.check(data)
            except Exception as error:
                raise AssertionError(f"{name}: {target.language}/{case}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_wrong_with_it_does_no_harm(name: str) -> None:
    target, chance = TARGETS[name], Random(name)
    all_cases = list(cases(target.language).values())
    changes = (mutate, mutate_packets) if target.language == "mqtt" else (mutate,)
    end = time.monotonic() + MUTATED_S
    tried = 0
    while time.monotonic() < end or not tried:
        data = chance.choice(changes)(chance, chance.choice(all_cases), all_cases)
        try:
            target.check(data)
        except Exception as error:
            raise AssertionError(f"{name}: {data!r}") from error
        tried += 1


def test_mutations_come_from_chance_alone_and_change_something() -> None:
    data = list(cases("mqtt").values())
    for change in (mutate, mutate_packets):
        twice = [[change(Random(seed), each, data) for seed, each in enumerate(data)] for _ in range(2)]
        assert twice[0] == twice[1]
        assert sum(before != after for before, after in zip(data, twice[0], strict=True)) > len(data) * 0.8
    for each in data:
        assert b"".join(split_packets(each)) == each


def test_a_crowd_on_every_port_disturbs_no_witness(tmp_path: Path) -> None:
    result = run_live(tmp_path, 1, LIVE_S, LIVE_CONNECTIONS_MAX)
    assert all(result.connections[way] > 5 for way in WAYS)
