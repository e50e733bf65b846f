"""All rows of all tables."""

from tests.conformance import (
    closing_rows,
    connect_rows,
    limit_rows,
    publish_rows,
    qos_rows,
    session_rows,
    subscribe_rows,
    topic_rows,
    will_rows,
)

TABLES = (
    connect_rows.TABLE,
    will_rows.TABLE,
    publish_rows.TABLE,
    qos_rows.TABLE,
    subscribe_rows.TABLE,
    topic_rows.TABLE,
    session_rows.TABLE,
    limit_rows.TABLE,
    closing_rows.TABLE,
)
ROWS = [row for table in TABLES for row in table.rows]
