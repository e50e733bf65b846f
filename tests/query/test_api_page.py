"""docs/api.md tells the truth: every path, every header and parameter, every token with its status."""

import re
from pathlib import Path

import pytest

from ingest.connector import PATHS
from ingest.refusals import ANSWERS
from query.app import SERVICES
from query.errors import MEANINGS, TOKENS
from query.http.errors import TOKENS as SERVER_TOKENS
from query.stream_request import PARAMETERS
from storage.kinds import Refusal
from tests.query.filled_store import FilledStore

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
ROOT = PAGE.parent


def tables() -> dict[str, list[list[str]]]:
    """The page's tables by the text before them."""
    found = re.findall(r"([^\n]+)\n\n((?:^\|.*\|\n)+)", PAGE.read_text(), re.MULTILINE)
    return {
        before: [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table.splitlines()[2:]]
        for before, table in found
    }


def rows_of(before: str) -> list[list[str]]:
    (rows,) = (rows for text, rows in tables().items() if text.startswith(before))
    assert all(len(row) == 3 and row[2] for row in rows)
    return rows


def tokens(before: str) -> list[tuple[str, int]]:
    return [(row[0].strip("` "), int(row[1])) for row in rows_of(before)]


def test_tokens_mean_here_what_the_openapi_document_says() -> None:
    rows = [row for row in rows_of("A request that is not HTTP") if row[0].strip("` ") not in TOKENS]
    meanings = {row[0].strip("` "): row[2] for row in [*rows_of("Of REST"), *rows]}
    assert meanings == MEANINGS


def test_every_token_of_rest_is_explained() -> None:
    assert tokens("Of REST") == sorted(TOKENS.items())


def test_every_refusal_of_the_connectors_is_explained() -> None:
    wanted = sorted((refusal.name, ANSWERS[refusal].status) for refusal in Refusal)
    assert tokens("Of the connectors") == [("OK", 200), *wanted]


def test_every_token_of_the_http_server_is_explained() -> None:
    assert tokens("A request that is not HTTP") == [
        (token, status) for status, token in SERVER_TOKENS.items()
    ]


def test_every_header_and_parameter_of_the_stream_service_is_explained() -> None:
    rows = {
        row[1].strip("` "): row[0].strip("` ").lower() for row in tables()["header counts if both are there."]
    }
    assert rows == {name: field or "-" for name, field in PARAMETERS.items()}


@pytest.fixture
def house(tmp_path: Path) -> FilledStore:
    return FilledStore(tmp_path / "data", ("a",))


def test_every_path_is_there(house: FilledStore) -> None:
    backend = house.backend
    routers = [service.routes(backend) for service in SERVICES]
    paths = {
        re.sub(r"\{(\w+)(:path)?\}", r"{\1}", route.path) for router in routers for route in router.routes
    }  # type: ignore[attr-defined]
    text = PAGE.read_text()
    known = {path.replace("{number}", "{channel}") for path in paths}
    assert {path for path in known if f"`{path}`" not in text} == set()
    assert {path for path in PATHS if f"`{path.rstrip('/')}/`" not in text} == set()
    house.close()


def test_links_lead_somewhere() -> None:
    for page in (PAGE, ROOT / "metrics.md"):
        for target, anchor in re.findall(r"\]\(([\w./]*)#?([\w-]*)\)", page.read_text()):
            linked = ROOT / target if target else page
            assert linked.exists(), target
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], anchor
