"""Pages of the audit log, for an account and for admins."""

from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request, Response

from query.ports import Backend
from query.requests import number_from, point_to_next, reply
from query.times import format_time
from storage.registry import AuditRow

PAGED = ("limit", "before")
PAGE_ROWS = 100
PAGE_ROWS_MAX = 1_000


def shown(row: AuditRow, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": format_time(row.at_us, zone, colon=True),
        "actor": row.actor,
        "user_id": row.user_id,
        "action": row.action,
        "subject": row.subject,
        "before": row.before,
        "after": row.after,
    }


def audit_page(request: Request, backend: Backend, user_id: str | None, zone: ZoneInfo) -> Response:
    """Rows from the newest on; ``before`` and ``limit`` are the URL's. Raises ApiError."""
    limit = number_from(request, "limit", PAGE_ROWS, PAGE_ROWS_MAX)
    before = number_from(request, "before", 10**18 - 1, 10**18 - 1)
    rows = backend.store.registry.audit(user_id, before, limit + 1)
    response = reply([shown(row, zone) for row in rows[:limit]])
    if len(rows) > limit:
        point_to_next(request, response, "before", str(rows[limit - 1].id))
    return response
