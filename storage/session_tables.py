"""The session store's tables, and how what notes have changed becomes rows (docs/formats/sessions.md)."""

import sqlite3
from typing import Any, Final

from storage.notes import Message
from storage.session_changes import SessionChanges

CONTENT: Final = (
    "topic BLOB NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL,"
    " properties BLOB NOT NULL, expires_at_us INTEGER NOT NULL, at_us INTEGER NOT NULL"
)
SCHEMA: Final = f"""
CREATE TABLE applied (note INTEGER NOT NULL, session INTEGER NOT NULL, message INTEGER NOT NULL) STRICT;
INSERT INTO applied VALUES (0, 0, 0);
CREATE TABLE session (
    session INTEGER PRIMARY KEY, user_id TEXT NOT NULL, client_id BLOB NOT NULL, expiry_s INTEGER NOT NULL,
    protocol INTEGER NOT NULL, connected INTEGER NOT NULL, opened_at_us INTEGER NOT NULL,
    closed_at_us INTEGER NOT NULL
) STRICT;
CREATE TABLE subscription (
    session INTEGER NOT NULL, filter BLOB NOT NULL, options INTEGER NOT NULL, identifier INTEGER NOT NULL,
    PRIMARY KEY (session, filter)
) STRICT, WITHOUT ROWID;
CREATE TABLE message (message INTEGER PRIMARY KEY, {CONTENT}) STRICT;
CREATE TABLE delivery (
    message INTEGER NOT NULL, session INTEGER NOT NULL, qos INTEGER NOT NULL, packet_id INTEGER NOT NULL,
    received INTEGER NOT NULL, retain INTEGER NOT NULL, identifiers TEXT NOT NULL, PRIMARY KEY (message, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_session ON delivery (session);
CREATE TABLE inbound (
    session INTEGER NOT NULL, packet_id INTEGER NOT NULL, PRIMARY KEY (session, packet_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE will (session INTEGER PRIMARY KEY, {CONTENT}, delay_s INTEGER NOT NULL) STRICT;
CREATE TABLE retained (user_id TEXT NOT NULL, place BLOB NOT NULL, {CONTENT}, PRIMARY KEY (user_id, place)) STRICT;
"""
WRITTEN: Final = """
CREATE TABLE written (
    user_id TEXT NOT NULL, channel INTEGER NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, stored INTEGER NOT NULL,
    rows INTEGER NOT NULL, at_us INTEGER NOT NULL, PRIMARY KEY (user_id, channel, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX written_at ON written (at_us);
"""
# What makes a file of format n one of format n + 1; the first one makes an empty file one of format 1.
STEPS: Final = (SCHEMA, WRITTEN)
OF_SESSION: Final = ("delivery", "subscription", "inbound", "will", "session")  # tables with its rows


def columns(content: Message) -> tuple[Any, ...]:
    """As the columns CONTENT hold it."""
    return (
        content.topic,
        content.payload,
        content.qos,
        content.retain,
        content.properties,
        content.expires_at_us,
        content.at_us,
    )


def message_of(row: tuple[Any, ...]) -> Message:
    topic, payload, qos, retain, *rest = row
    return Message(topic, payload, qos, bool(retain), *rest)


def write(database: sqlite3.Connection, changes: SessionChanges) -> None:
    """Inside a transaction. Whole sessions and users go first, see SessionChanges."""
    touched = {message for message, _ in changes.done}
    ended = [(session,) for session in changes.ended]
    for session in ended:
        touched.update(
            row[0] for row in database.execute("SELECT message FROM delivery WHERE session = ?", session)
        )
    for table in OF_SESSION:
        database.executemany(f"DELETE FROM {table} WHERE session = ?", ended)
    for table in ("retained", "written"):
        database.executemany(
            f"DELETE FROM {table} WHERE user_id = ?", ((user,) for user in changes.forgotten)
        )
    _write_sessions(database, changes)
    _write_deliveries(database, changes)
    database.executemany(
        "INSERT OR REPLACE INTO written VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (note.user_id, note.channel, note.key, note.digest, note.stored, note.rows, note.at_us)
            for note in changes.written.values()
        ),
    )
    database.executemany(
        "DELETE FROM message WHERE message = ?1 AND NOT EXISTS (SELECT 1 FROM delivery WHERE message = ?1)",
        ((message,) for message in touched),
    )
    retained = [
        (user, topic, content)
        for user, topics in changes.retained.items()
        for topic, content in topics.items()
    ]
    database.executemany(
        "DELETE FROM retained WHERE user_id = ? AND place = ?",
        ((user, topic) for user, topic, content in retained if content is None),
    )
    database.executemany(
        "INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ((user, topic, *columns(content)) for user, topic, content in retained if content is not None),
    )


def _write_sessions(database: sqlite3.Connection, changes: SessionChanges) -> None:
    database.executemany(
        "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, 1, ?, 0)",
        (
            (note.session, note.user_id, note.client_id, note.expiry_s, note.protocol, note.at_us)
            for note in changes.opened.values()
        ),
    )
    database.executemany(
        "UPDATE session SET connected = 0, expiry_s = ?, closed_at_us = ? WHERE session = ?",
        ((note.expiry_s, note.at_us, note.session) for note in changes.closed.values()),
    )
    for session, filters in changes.subscriptions.items():
        database.executemany(
            "DELETE FROM subscription WHERE session = ? AND filter = ?",
            ((session, key) for key, note in filters.items() if note is None),
        )
        database.executemany(
            "INSERT OR REPLACE INTO subscription VALUES (?, ?, ?, ?)",
            (
                (session, key, note.options, note.identifier)
                for key, note in filters.items()
                if note is not None
            ),
        )
    for session, packet_ids in changes.inbound.items():
        database.executemany(
            "DELETE FROM inbound WHERE session = ? AND packet_id = ?",
            ((session, packet_id) for packet_id, is_taken in packet_ids.items() if not is_taken),
        )
        database.executemany(
            "INSERT OR REPLACE INTO inbound VALUES (?, ?)",
            ((session, packet_id) for packet_id, is_taken in packet_ids.items() if is_taken),
        )
    database.executemany(
        "DELETE FROM will WHERE session = ?",
        ((session,) for session, note in changes.wills.items() if note is None),
    )
    database.executemany(
        "INSERT OR REPLACE INTO will VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (session, *columns(note.content), note.delay_s)
            for session, note in changes.wills.items()
            if note is not None
        ),
    )


def _write_deliveries(database: sqlite3.Connection, changes: SessionChanges) -> None:
    messages = []
    deliveries = []
    for message, content, owed in changes.delivery_rows():
        messages.append((message, *columns(content)))
        for session, delivery, progress in owed:
            packet_id = delivery.packet_id if progress.packet_id is None else progress.packet_id
            identifiers = ",".join(map(str, delivery.identifiers))
            deliveries.append(
                (
                    message,
                    session,
                    delivery.qos,
                    packet_id,
                    progress.is_received,
                    delivery.retain,
                    identifiers,
                )
            )
    database.executemany("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)", messages)
    database.executemany("INSERT OR REPLACE INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?)", deliveries)
    database.executemany(
        "UPDATE delivery SET packet_id = coalesce(?3, packet_id), received = max(received, ?4)"
        " WHERE message = ?1 AND session = ?2",
        ((*key, *progress) for key, progress in changes.progress.items()),
    )
    database.executemany("DELETE FROM delivery WHERE message = ? AND session = ?", changes.done)
