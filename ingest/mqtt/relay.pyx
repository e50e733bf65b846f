"""The relay: what most packets between clients are, without a Python object for each of them.

A PUBLISH without RETAIN and properties, on a topic whose subscribers are known: its route is a flat list of sessions,
good until a subscription or the registry changes. A message is framed once for all who get the same bytes. What a
reading's topic is stored as is part of its route; the reactor appends it first. Acknowledgements of four bytes, too.
What sessions get that survive a crash is noted first, in the same log batch.

Everything else is declined and goes to the session machine (door.py), which sees the same sessions and outboxes: what
is said and counted here must be what it would say and count (tests/ingest/test_relay_twin.py).
"""

cimport cython
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from ingest.mqtt.delivery cimport put_head, room_for
from ingest.mqtt.outbox cimport Outgoing

from ingest.mqtt.notebook import NOTE_BYTES
from ingest.mqtt.options import SEPARATORS_MAX
from ingest.mqtt.packets import ReasonCode
from ingest.mqtt.subscriptions import REMEMBERED_MAX
from ingest.topics import DataTopic, NotData, parse_topic
from storage.kinds import PayloadKind
from storage.notes import Message

cdef tuple NO_READING = (0, 0, 0, b"")
cdef int64_t NOTE = NOTE_BYTES
cdef int NO_MATCHING_SUBSCRIBERS = ReasonCode.NO_MATCHING_SUBSCRIBERS


@cython.final
cdef class Target:
    """A session and what it gets of a topic: all its subscriptions that fit, as one."""

    def __cinit__(self, Session session, grants):
        self.session = session
        self.qos = max(granted.qos for granted in grants)
        self.no_local = any(granted.no_local for granted in grants)
        self.identifiers = tuple(granted.identifier for granted in grants if granted.identifier)


@cython.final
cdef class Group:
    """The members of a shared subscription."""

    def __cinit__(self, share):
        self.share = share
        self.members = [Target(session, (granted,)) for session, granted in share.members.items()]


@cython.final
cdef class Route:
    """Where the messages of one topic go.

    reading: (payload kind, device, channel, tag); kind 0 for what is not stored.
    is_foreign: of a general topic.
    is_noted: QoS 1 and 2 may go to a session that survives a crash.
    is_tangled: some session may get several copies.
    """


@cython.final
cdef class Relay:
    """See the stub."""

    def __cinit__(self):
        memset(&self.frames[0], 0, sizeof(self.frames))

    def __init__(self, dict connections, Deliveries deliveries, Notebook notebook, admission, may_use, options):
        self.connections = connections
        self.deliveries = deliveries
        self.notebook = notebook
        self.admission = admission
        self.may_use = may_use
        self.qos_max = options.qos_max
        self.receive_max = options.receive_max

    def __dealloc__(self):
        for i in range(6):
            free(self.frames[i].bytes)

    # ---- routes

    cdef tuple find(self, uint32_t slot, bytes topic):
        """The reading of a route that is known, which becomes the connection's; None for an unknown one."""
        cdef Connection connection = self.connections[slot]
        namespace = connection.session.namespace
        if namespace.routes_version != self.deliveries.wire.route_version:
            namespace.routes.clear()
            namespace.routes_version = self.deliveries.wire.route_version
        route = namespace.routes.get(topic)
        if route is None:
            return None
        connection.route = route
        return (<Route>route).reading

    cdef tuple resolve(self, uint32_t slot, bytes topic):
        """Make the topic's route; its reading, or None when that is not for the relay."""
        cdef Connection connection = self.connections[slot]
        namespace = connection.session.namespace
        route = self.build(namespace, topic)
        if route is None:
            return None
        if len(namespace.routes) >= REMEMBERED_MAX:
            namespace.routes.clear()
        namespace.routes[topic] = connection.route = route
        return (<Route>route).reading

    cdef Route build(self, namespace, bytes topic):
        cdef Route route = Route()
        cdef Target target
        if namespace.previous:
            return None     # a replaced token still works: topics have further names
        if topic.count(b"/") > SEPARATORS_MAX or not self.may_use(namespace, topic):
            return None
        route.reading = NO_READING
        parsed = parse_topic(topic, namespace.token)
        route.is_foreign = parsed is NotData.FOREIGN
        if isinstance(parsed, DataTopic) and parsed.kind is not PayloadKind.STATE:
            reading = self.admission.known_route(namespace.user_id, parsed.device_id, parsed.tag)
            if reading is None:
                return None
            route.reading = int(parsed.kind), reading.device, reading.channel, parsed.tag
        elif parsed is not NotData.FOREIGN and parsed is not NotData.COMMAND:
            return None
        matches = namespace.tree.match(topic)
        route.targets = []
        for session, grants in matches.direct.items():
            target = Target(session, grants)
            route.has_no_local |= target.no_local
            if target.no_local and len(grants) > 1:
                return None     # with some of them, it depends on who publishes
            route.targets.append(target)
            route.is_noted |= target.qos > 0 and target.session.number > 0
        route.groups = [Group(share) for share in matches.shares]
        for group in route.groups:
            for target in (<Group>group).members:
                route.is_noted |= target.qos > 0 and target.session.number > 0
        if route.is_noted and route.groups:
            sessions = [(<Target>each).session for each in route.targets]
            sessions += [(<Target>each).session for group in route.groups for each in (<Group>group).members]
            route.is_tangled = len(set(sessions)) < len(sessions)
        return route

    # ---- PUBLISH

    cdef int begin(self, uint32_t slot, Publish* packet) except -2:
        """Before anything is stored: 1 go on, 2 it was taken before, 0 no room for its notes now, -1 declined."""
        cdef Connection connection = self.connections[slot]
        cdef Session session = connection.session
        cdef Route route = <Route>connection.route
        cdef bint is_noted = packet.qos and route.is_noted
        cdef int packet_id
        cdef int64_t room = NOTE + packet.payload_bytes
        if packet.qos > self.qos_max or self.notebook.is_late():
            return -1
        if packet.qos == 2:
            packet_id = packet.packet_id[0] << 8 | packet.packet_id[1]
            if packet_id in session.inbound:
                self.deliveries.say(connection, 5, packet_id, 0, True)
                return 2
            if len(session.inbound) >= self.receive_max:
                return -1
        if is_noted:
            room += room_for(packet.topic_bytes + packet.payload_bytes, len(route.targets), len(route.groups))
        elif packet.qos < 2 or session.number == 0:
            return 1
        return self.notebook.has_room(room)

    cdef int publish(self, uint32_t slot, Publish* packet, bint is_stored, int64_t at_us) except -2:
        """Acknowledge it, and give it to everybody."""
        cdef Connection connection = self.connections[slot]
        cdef Session origin = connection.session
        cdef Route route = <Route>connection.route
        cdef Target target
        cdef int packet_id = packet.packet_id[0] << 8 | packet.packet_id[1], reason = 0
        cdef bint waits = is_stored
        cdef list chosen = [self.choose(<Group>group) for group in route.groups] if route.groups else route.groups
        cdef list targets, more
        if packet.qos == 2:
            origin.take_inbound(packet_id)
            if origin.number:
                self.notebook.inbound_taken(origin, packet_id, at_us)
                waits = True
        elif route.is_foreign and not (route.targets or route.groups):
            reason = NO_MATCHING_SUBSCRIBERS
        self.built = 0
        targets = targets_but(route.targets, origin) if route.has_no_local else route.targets
        if chosen:
            targets = targets + chosen
        self.deliveries.counts.relayed += bool(targets)
        if packet.qos and route.is_noted and is_noted(targets):
            while targets:
                # A number is for one copy a session.
                targets, more = once_each(targets) if route.is_tangled else (targets, None)
                self.give_noted(targets, packet, at_us)
                targets = more
            # Last, because it waits for the batch with the notes.
            self.deliveries.say(connection, 3 + packet.qos, packet_id, reason, True)
            self.message = None
            return 1
        # Before the message itself, which may be for the same client.
        if packet.qos:
            self.deliveries.say(connection, 3 + packet.qos, packet_id, reason, waits)
        for target in targets:
            self.give(target, packet, waits, at_us)
        self.message = None
        return 1

    cdef int give_noted(self, list targets, Publish* packet, int64_t at_us) except -1:
        """Into all outboxes, into the log, and then out; no session comes twice."""
        cdef int64_t number = self.deliveries.next_message
        cdef object message = self.message_of(packet, at_us)
        cdef list now = [], noted = []
        cdef Target target
        cdef Session session
        cdef Connection connection
        cdef Outgoing outgoing
        cdef int qos
        cdef bint is_sent
        for target in targets:
            session = target.session
            connection = session.connection
            qos = min(packet.qos, target.qos)
            if qos == 0 and (connection is None or self.deliveries.is_dropped(connection)):
                continue
            outgoing = Outgoing(message, 0, qos, False, target.identifiers)
            if qos and session.number:
                outgoing.number = number
                self.deliveries.next_message = number + 1
            if qos and not self.deliveries.take(session, outgoing, at_us):
                continue
            if connection is not None and (qos == 0 or outgoing.packet_id):
                now.append((target, outgoing))
            if outgoing.number:
                noted.append((session, outgoing))
        if noted:
            self.notebook.queued(number, message, noted, at_us)
        for target, outgoing in now:
            connection = target.session.connection
            if connection.protocol == 5 and (target.identifiers or connection.alias_max):
                is_sent = self.deliveries.transmit(connection, outgoing, at_us, False)
            else:
                is_sent = self.transmit(connection, outgoing.qos, outgoing.packet_id, packet, True)
            if not is_sent and outgoing.qos:
                self.deliveries.done(target.session, outgoing, at_us)
        return 0

    cdef Target choose(self, Group group):
        """The member whose turn it is: one that is there and keeps up, else one that will come back."""
        cdef Py_ssize_t count = len(group.members), first = <Py_ssize_t>group.share.turn % count, i
        cdef Target member, second = None
        group.share.turn = first + 1
        for i in range(count):
            member = group.members[(first + i) % count]
            if member.session.connection is not None and not self.deliveries.is_behind(member.session.connection):
                return member
            if second is None or (second.session.connection is None and member.session.connection is not None):
                second = member
        return second

    cdef int give(self, Target target, Publish* packet, bint waits, int64_t at_us) except -1:
        cdef Session session = target.session
        cdef Connection connection = session.connection
        cdef Outgoing outgoing
        cdef int qos = min(packet.qos, target.qos)
        if connection is not None and connection.protocol == 5 and (target.identifiers or connection.alias_max):
            outgoing = Outgoing(self.message_of(packet, at_us), 0, qos, False, target.identifiers)
            self.deliveries.deliver(outgoing.message, [(session, outgoing)], 0, at_us)
            return 0
        if qos == 0:
            if connection is not None and not self.deliveries.is_dropped(connection):
                self.transmit(connection, 0, 0, packet, waits)
            return 0
        outgoing = Outgoing(self.message_of(packet, at_us), 0, qos, False, target.identifiers)
        if not self.deliveries.take(session, outgoing, at_us):
            return 0
        if connection is not None and outgoing.packet_id:
            if not self.transmit(connection, qos, outgoing.packet_id, packet, waits):
                self.deliveries.done(session, outgoing, at_us)
        return 0

    cdef object message_of(self, Publish* packet, int64_t at_us):
        """The message in hand, for outboxes."""
        if self.message is None:
            self.message = Message(<bytes>packet.topic[:packet.topic_bytes],
                                   <bytes>packet.payload[:packet.payload_bytes], packet.qos, False, b"", 0, at_us)
        return self.message

    cdef bint transmit(self, Connection connection, int qos, int packet_id, Publish* packet, bint waits) except? True:
        """Send it; False when it is longer than the client takes."""
        cdef bint is_5 = connection.protocol == 5
        cdef int which = 2 * qos + is_5
        cdef Frame* frame = &self.frames[which]
        if not self.built & 1 << which:
            build_frame(frame, qos, is_5, packet)
            self.built |= 1 << which
        if connection.packet_bytes_max and frame.length > connection.packet_bytes_max:
            self.deliveries.counts.dropped_too_large += 1
            return False
        if qos:
            frame.bytes[frame.id_at] = <uint8_t>(packet_id >> 8)
            frame.bytes[frame.id_at + 1] = <uint8_t>packet_id
        self.deliveries.counts.delivered += 1
        self.deliveries.wire.put(connection.slot, frame.bytes, frame.length, waits)
        return True

    # ---- acknowledgements

    cdef int acknowledged(self, uint32_t slot, int kind, int packet_id, int64_t at_us) except -2:
        """PUBACK 4, PUBREC 5, PUBREL 6 or PUBCOMP 7 without a reason: 1 taken, 0 no room now, -1 declined."""
        cdef Connection connection = self.connections[slot]
        cdef Session session = connection.session
        if packet_id == 0 or self.notebook.is_late():
            return -1
        if session.number and not self.notebook.has_room(2 * NOTE):
            return 0
        if kind != 6:
            return 1 if self.deliveries.acknowledged(session, kind, packet_id, 0, at_us) else -1
        if session.release_inbound(packet_id):
            if session.number:
                self.notebook.inbound_released(session, packet_id, at_us)
            self.deliveries.say(connection, 7, packet_id, 0, session.number != 0)
        else:
            self.deliveries.say_unknown(connection, 7, packet_id)
        return 1


cdef bint is_noted(list targets):
    """Whether anybody gets it, with QoS 1 or 2, whose session survives a crash."""
    cdef Target target
    for target in targets:
        if target.qos and target.session.number:
            return True
    return False


cdef list targets_but(list targets, Session origin):
    """Without a publisher that does not want its own."""
    return [each for each in targets if not ((<Target>each).no_local and (<Target>each).session is origin)]


cdef tuple once_each(list targets):
    """Each session's first one, and the others."""
    cdef list first = [], more = []
    seen = set()
    for target in targets:
        (more if (<Target>target).session in seen else first).append(target)
        seen.add((<Target>target).session)
    return first, more


cdef int build_frame(Frame* frame, int qos, bint is_5, Publish* packet) except -1:
    """The PUBLISH as those get it who have this QoS and protocol; room for the packet id."""
    cdef uint32_t remaining = 2 + packet.topic_bytes + (2 if qos else 0) + is_5 + packet.payload_bytes
    cdef uint32_t at
    cdef void* grown
    cdef uint8_t* to
    if remaining + 5 > frame.size:
        grown = realloc(frame.bytes, remaining + 5)
        if grown == NULL:
            raise MemoryError
        frame.bytes = <uint8_t*>grown
        frame.size = remaining + 5
    to = frame.bytes
    at = put_head(to, <uint8_t>(0x30 | qos << 1), remaining)
    frame.length = at + remaining
    to[at], to[at + 1] = <uint8_t>(packet.topic_bytes >> 8), <uint8_t>packet.topic_bytes
    memcpy(to + at + 2, packet.topic, packet.topic_bytes)
    at += 2 + packet.topic_bytes
    frame.id_at = at
    at += 2 if qos else 0
    if is_5:
        to[at] = 0
        at += 1
    memcpy(to + at, packet.payload, packet.payload_bytes)
    return 0
