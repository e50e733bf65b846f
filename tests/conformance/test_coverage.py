"""coverage.md tells the truth: what it calls covered is what the rows name, and nothing is called both."""

import re
from pathlib import Path

import pytest

from tests.conformance.script import STATEMENT
from tests.conformance.tables import ROWS

PAGE = Path(__file__).with_name("coverage.md").read_text()
# The rows of MQTT 3.1 name the statements of 3.1.1: it has none of its own.
VERSIONS = {"3.1.1": {3, 4}, "5.0": {5}}


def part(version: str, title: str) -> str:
    found = re.search(
        rf"^## MQTT {re.escape(version)}: {title}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_page_and_the_rows_name_the_same_statements(version: str) -> None:
    listed = STATEMENT.findall(part(version, "covered"))
    named = {statement for row in ROWS if row.version in VERSIONS[version] for statement in row.statements}
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) - named == set()
    assert named - set(listed) == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_covered_has_a_reason_and_no_row(version: str) -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", part(version, "not covered"), re.MULTILINE)[1:]
    reasons = {statement: why for cell, why in rows for statement in STATEMENT.findall(cell)}
    assert reasons
    assert all(len(why) > 10 for why in reasons.values())
    assert not reasons.keys() & set(STATEMENT.findall(part(version, "covered")))


@pytest.mark.parametrize(("version", "count"), [("3.1.1", 141), ("5.0", 251)])
def test_no_statement_of_appendix_b_is_missing(version: str, count: int) -> None:
    told = STATEMENT.findall(part(version, "covered")) + STATEMENT.findall(part(version, "not covered"))
    assert len(told) == len(set(told)) == count
