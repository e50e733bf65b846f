"""Notes between log and session store: those that undo each other never get there.

A message to a session that survives a crash is queued, perhaps sent later, and acknowledged: two to four notes, all of
which are worth nothing as soon as the last one is durable. They cannot meet in one log batch, because what is sent
waits for the batch that says so. They meet here: what is told of a message that was queued a moment ago is kept beside
it, and when nobody is owed it any more everything about it is forgotten. That is the way of nearly all of them while
clients answer; only the rest is decoded, and costs rows of a table.

Nothing is lost with it. All of these notes stand in the log, whose records go only when everything up to there was
applied, and a session store that is told of a message's end without its beginning passes over it. For that, the number
of the last note must come to the session store even if the note does not, and a note that is there already must not
come here again: it would take one with it that the tables need.
"""

from collections import namedtuple

cimport cython
from libc.stdint cimport int64_t, uint8_t

from storage.note_bytes cimport Scan, scan_count, scan_number, skip

Portion = namedtuple("Portion", "notes number message")

cdef enum:
    QUEUED = 6
    SENT = 7
    RECEIVED = 8
    DONE = 9


@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class Owed:
    """A message, and what was noted of it: the first Queued, and the notes behind it as (number, bytes)."""

    cdef int64_t number
    cdef bytes queued
    cdef list more
    cdef int64_t session    # the only one that it is owed to; 0: see sessions
    cdef set sessions

    cdef bint is_owed_to(self, int64_t session):
        return session == self.session if self.session else session in self.sessions


@cython.final
cdef class WaitingNotes:
    """See the stub."""

    cdef readonly int64_t number_max
    cdef int64_t applied, message_max
    cdef Py_ssize_t count
    cdef list rest          # (number, bytes), of everything else
    cdef dict owed          # by message

    def __init__(self, int64_t applied):
        self.applied = self.number_max = applied
        self.rest = []
        self.owed = {}

    def __len__(self):
        return self.count

    def extend(self, list notes):
        cdef bytes note
        for note in notes:
            self.take(note)

    cdef int take(self, bytes note) except -1:
        cdef Scan scan
        cdef int64_t number, tag = 0, session, message
        cdef Owed owed
        scan.at = <const uint8_t*><const char*>note
        scan.end = scan.at + len(note)
        scan.is_good = True
        scan.is_good = scan_count(&scan) == 2 and scan.is_good
        number = scan_number(&scan)
        if not scan.is_good:
            number = self.number_max + 1    # no note: whoever applies it has the words for that
        elif number <= self.applied:
            return 0
        self.number_max = max(self.number_max, number)
        self.count += 1
        if scan.is_good and scan_count(&scan) >= 3:
            tag = scan_number(&scan)
        if tag == QUEUED and self.take_queued(&scan, number, note):
            return 0
        if SENT <= tag <= DONE:
            session = scan_number(&scan)
            message = scan_number(&scan)
            owed = self.owed.get(message) if scan.is_good else None
            if owed is not None and owed.is_owed_to(session):
                if tag == DONE and self.is_last(owed, session):
                    del self.owed[message]
                    self.count -= 2 if owed.more is None else 2 + len(owed.more)
                else:
                    add(owed, number, note)
                return 0
        self.rest.append((number, note))
        return 0

    cdef bint take_queued(self, Scan* scan, int64_t number, bytes note) except -1:
        """Whether it was kept beside its message."""
        cdef int64_t message = scan_number(scan), session = 0, deliveries, _
        cdef Owed owed
        skip(scan)
        deliveries = scan_count(scan)
        sessions = set()
        for _ in range(deliveries):
            if scan.is_good and scan_count(scan) < 5:
                scan.is_good = False
            session = scan_number(scan)
            skip(scan)
            skip(scan)
            skip(scan)
            skip(scan)
            if not scan.is_good:
                return False
            sessions.add(session)
        if not scan.is_good or scan.at != scan.end or not sessions or 0 in sessions:
            return False
        self.message_max = max(self.message_max, message)
        owed = self.owed.get(message)
        if owed is None:
            owed = Owed()
            owed.number, owed.queued = number, note
            self.owed[message] = owed
        else:
            # A further part of one for very many sessions.
            sessions |= owed.sessions if owed.session == 0 else {owed.session}
            add(owed, number, note)
        owed.session, owed.sessions = (session, None) if len(sessions) == 1 else (0, sessions)
        return True

    cdef bint is_last(self, Owed owed, int64_t session) except -1:
        """The session is owed it no more; whether nobody is."""
        if owed.session:
            return True
        owed.sessions.discard(session)
        return not owed.sessions

    def portion(self, number=None):
        cdef int64_t up_to = self.number_max if number is None else number
        cdef Owed owed
        chosen = [each for each in self.rest if <int64_t>each[0] <= up_to]
        for owed in self.owed.values():
            if owed.number <= up_to:
                chosen.append((owed.number, owed.queued))
                if owed.more is not None:
                    chosen += [each for each in owed.more if <int64_t>each[0] <= up_to]
        chosen.sort()
        return Portion([note for _, note in chosen], up_to, self.message_max)

    def on_applied(self, portion):
        cdef int64_t up_to = portion.number, message
        cdef Owed owed
        cdef list kept = [each for each in self.rest if <int64_t>each[0] > up_to]
        for message, owed in list(self.owed.items()):
            if owed.number <= up_to:
                # The tables have it: what is told of it later concerns them.
                del self.owed[message]
                if owed.more is not None:
                    kept += [each for each in owed.more if <int64_t>each[0] > up_to]
        self.rest = kept
        self.count -= <Py_ssize_t>len(portion.notes)
        self.applied = max(self.applied, up_to)


cdef int add(Owed owed, int64_t number, bytes note) except -1:
    if owed.more is None:
        owed.more = []
    owed.more.append((number, note))
    return 0
