"""The registry's tables, as the steps by which they grew: step n makes format n out of format n - 1.

A new file goes through all of them, so an upgraded file and a new one are the same. A step that was released never
changes; docs/formats/registry.md says what the columns mean.
"""

import sqlite3
from typing import Final

FIRST: Final = """
CREATE TABLE user (
    user_id TEXT PRIMARY KEY, api_token TEXT NOT NULL UNIQUE, device_token TEXT NOT NULL UNIQUE,
    email1 TEXT NOT NULL, email2 TEXT NOT NULL, organization TEXT NOT NULL, locale TEXT NOT NULL,
    user_alias TEXT NOT NULL, created_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE channel (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL REFERENCES user, number INTEGER NOT NULL,
    channel_name TEXT NOT NULL, deleted_at_us INTEGER
) STRICT;
CREATE UNIQUE INDEX channel_number ON channel (user_id, number) WHERE deleted_at_us IS NULL;
CREATE TABLE device (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL REFERENCES user, device_id TEXT NOT NULL,
    description TEXT NOT NULL, enabled INTEGER NOT NULL, channel INTEGER REFERENCES channel, device_type TEXT NOT NULL,
    location TEXT NOT NULL, manufacturer TEXT NOT NULL, activate_at_us INTEGER NOT NULL, state BLOB,
    state_at_us INTEGER, deleted_at_us INTEGER, UNIQUE (user_id, device_id)
) STRICT;
CREATE INDEX device_channel ON device (channel);
CREATE TABLE tag_name (channel INTEGER NOT NULL REFERENCES channel, tag TEXT NOT NULL, channel_name TEXT NOT NULL,
    PRIMARY KEY (channel, tag)) STRICT;
CREATE TABLE version (number INTEGER NOT NULL) STRICT;
INSERT INTO version VALUES (1);
"""

SECOND: Final = """
ALTER TABLE user ADD COLUMN updated_at_us INTEGER NOT NULL DEFAULT 0;
UPDATE user SET updated_at_us = created_at_us;
ALTER TABLE user ADD COLUMN enabled INTEGER NOT NULL DEFAULT 1;
ALTER TABLE user ADD COLUMN devices_max INTEGER;
ALTER TABLE user ADD COLUMN channels_max INTEGER;
ALTER TABLE user ADD COLUMN storage_bytes_max INTEGER;
ALTER TABLE user ADD COLUMN rest_per_s REAL;
ALTER TABLE user ADD COLUMN connector_per_s REAL;
ALTER TABLE user ADD COLUMN event_id_last INTEGER NOT NULL DEFAULT 0;
ALTER TABLE user ADD COLUMN deleted_at_us INTEGER;
ALTER TABLE version ADD COLUMN users INTEGER NOT NULL DEFAULT 1;
ALTER TABLE version ADD COLUMN events INTEGER NOT NULL DEFAULT 1;
CREATE TABLE previous_token (
    token TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES user, which TEXT NOT NULL, ends_at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX previous_token_end ON previous_token (ends_at_us);
CREATE TABLE admin_token (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, created_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE stream_description (
    channel INTEGER NOT NULL REFERENCES channel, stream TEXT NOT NULL, label TEXT NOT NULL, unit TEXT NOT NULL,
    description TEXT NOT NULL, PRIMARY KEY (channel, stream)
) STRICT, WITHOUT ROWID;
CREATE TABLE event (
    user_id TEXT NOT NULL REFERENCES user, event_id INTEGER NOT NULL, channel INTEGER REFERENCES channel,
    description TEXT NOT NULL, notify_type TEXT NOT NULL, post_url TEXT NOT NULL, enabled INTEGER NOT NULL,
    source TEXT NOT NULL, operator TEXT NOT NULL, threshold TEXT NOT NULL, PRIMARY KEY (user_id, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_channel ON event (channel);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_us INTEGER NOT NULL, actor TEXT NOT NULL, user_id TEXT,
    action TEXT NOT NULL, subject TEXT NOT NULL, before TEXT, after TEXT
) STRICT;
CREATE INDEX audit_user ON audit (user_id, id);
CREATE INDEX audit_time ON audit (at_us);
"""

THIRD: Final = """
ALTER TABLE channel ADD COLUMN archived_at_us INTEGER;
CREATE INDEX channel_archived ON channel (id) WHERE archived_at_us IS NOT NULL AND deleted_at_us IS NULL;
"""

STEPS: Final = (FIRST, SECOND, THIRD)
FORMAT: Final = len(STEPS)  # PRAGMA user_version


def upgrade(database: sqlite3.Connection, found: int) -> None:
    """From format ``found``, 0 for an empty file, to FORMAT. The caller has begun a transaction."""
    for step in STEPS[found:]:
        for statement in step.split(";\n"):
            database.execute(statement)
    database.execute(f"PRAGMA user_version = {FORMAT}")
