"""What schemathesis must not do to the account that it works with: take its own token away."""

from typing import Any

import schemathesis


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """A token that ends at once would end the test."""
    body = case.body if isinstance(case.body, dict) else {}
    return not (case.operation.path.endswith("/token") and body.get("overlap_s") == 0)
