"""Notes between log and session store: those that undo each other never get there.

A message to a session that survives a crash is queued, perhaps sent later, and acknowledged: two to four notes, all of
which are worth nothing as soon as the last one is durable. They cannot meet in one log batch, because what is sent
waits for the batch that says so. They meet here: what is told of a message that was queued a moment ago is kept beside
it, a session that has acknowledged it is taken out of it, and when nobody is owed it any more everything about it is
forgotten. That is the way of nearly all of them while clients answer; only the rest is decoded, and costs rows of a
table.

Nothing is lost with it. All of these notes stand in the log, whose records go only when everything up to there was
applied, and a session store that is told of a message's end without its beginning passes over it. For that, the number
of the last note must come to the session store even if the note does not, and a note that is there already must not
come here again: it would take one with it that the tables need.
"""

from collections import namedtuple

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t

from storage.note_bytes cimport Scan, put_array, scan_count, scan_number, skip

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
    """A message: its Queued notes, mostly one, and of each session that is owed it what was noted since, or None."""

    cdef int64_t number     # of the first part
    cdef bytes first
    cdef list more          # (number, bytes) of further parts
    cdef dict sessions      # of lists of (number, bytes)


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
            if owed is not None and session in owed.sessions:
                if tag == DONE:
                    self.end(message, owed, session)
                elif owed.sessions[session] is None:
                    owed.sessions[session] = [(number, note)]
                else:
                    (<list>owed.sessions[session]).append((number, note))
                return 0
        self.rest.append((number, note))
        return 0

    cdef int end(self, int64_t message, Owed owed, int64_t session) except -1:
        """The session is owed it no more; this note and those about its delivery are worth nothing."""
        cdef list told = owed.sessions.pop(session)
        self.count -= 1 if told is None else 1 + len(told)
        if not owed.sessions:
            del self.owed[message]
            self.count -= 1 if owed.more is None else 1 + len(owed.more)
        return 0

    cdef bint take_queued(self, Scan* scan, int64_t number, bytes note) except -1:
        """Whether it was kept beside its message."""
        cdef int64_t message = scan_number(scan), session = 0, deliveries, _
        cdef Owed owed
        cdef dict sessions = {}
        skip(scan)
        deliveries = scan_count(scan)
        for _ in range(deliveries):
            session = scan_delivery(scan)
            if not scan.is_good:
                return False
            sessions[session] = None
        if not scan.is_good or scan.at != scan.end or not sessions:
            return False
        self.message_max = max(self.message_max, message)
        owed = self.owed.get(message)
        if owed is None:
            owed = Owed()
            owed.number, owed.first, owed.sessions = number, note, sessions
            self.owed[message] = owed
        else:
            # A further part of one for very many sessions.
            if owed.more is None:
                owed.more = []
            owed.more.append((number, note))
            for session in sessions:
                owed.sessions.setdefault(session, None)
        return True

    def portion(self, number=None):
        cdef int64_t up_to = self.number_max if number is None else number
        cdef Owed owed
        cdef list chosen = [each for each in self.rest if <int64_t>each[0] <= up_to]
        for owed in self.owed.values():
            if owed.number <= up_to:
                chosen += [each for each in told_of(owed) if <int64_t>each[0] <= up_to]
        chosen.sort()
        return Portion([note for _, note in chosen], up_to, self.message_max)

    def on_applied(self, portion):
        cdef int64_t up_to = portion.number, message
        cdef Owed owed
        cdef list told, kept = [each for each in self.rest if <int64_t>each[0] > up_to]
        for message, owed in list(self.owed.items()):
            if owed.number <= up_to:
                # The tables have it: what is told of it later concerns them.
                del self.owed[message]
                kept += [each for each in told_of(owed) if <int64_t>each[0] > up_to]
        self.rest = kept
        self.applied = max(self.applied, up_to)
        self.count = len(kept)
        for owed in self.owed.values():
            self.count += 1 if owed.more is None else 1 + len(owed.more)
            for told in owed.sessions.values():
                self.count += 0 if told is None else len(told)


cdef list told_of(Owed owed):
    """All notes about it that are still worth something."""
    cdef list told, found = []
    cdef bytes note
    for number, part in [(owed.number, owed.first)] + (owed.more or []):
        note = narrowed(part, owed.sessions)
        if note is not None:
            found.append((number, note))
    for told in owed.sessions.values():
        if told is not None:
            found += told
    return found


cdef int64_t scan_delivery(Scan* scan) noexcept:
    """A delivery's session."""
    cdef int64_t session
    if scan_count(scan) != 5:
        scan.is_good = False
    session = scan_number(scan)
    skip(scan)
    skip(scan)
    skip(scan)
    skip(scan)
    return session


cdef bytes narrowed(bytes note, dict sessions):
    """A Queued without the deliveries of other sessions; None when none is left."""
    cdef const uint8_t* begin = <const uint8_t*><const char*>note
    cdef const uint8_t* before
    cdef uint8_t[5] head
    cdef Scan scan
    cdef int64_t count, session, _
    cdef list kept = []
    cdef bytes prefix
    scan.at, scan.end, scan.is_good = begin, begin + len(note), True
    scan_count(&scan)
    skip(&scan)
    scan_count(&scan)
    skip(&scan)
    skip(&scan)
    skip(&scan)
    prefix = note[:scan.at - begin]
    count = scan_count(&scan)
    for _ in range(count):
        before = scan.at
        session = scan_delivery(&scan)
        if session in sessions:
            kept.append(note[before - begin:scan.at - begin])
    assert scan.is_good     # it was read before
    if len(kept) == count:
        return note
    if not kept:
        return None
    return prefix + <bytes>head[:put_array(head, <uint32_t>len(kept)) - head] + b"".join(kept)
