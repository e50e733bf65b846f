"""The reactor: every device connection in one epoll set, a whole batch of readings in one compiled call.

A turn takes what is ready: ``recv``, all complete packets or requests of that connection, their readings into the
journal (ring and log batch), their replies into the batch's arena. At the end of the turn the batch goes to the
committer unless one is out already; while it is being synced the next one fills. When its record is durable the
replies leave, one ``send`` per connection. No reply that says «stored» can leave earlier, because every reply of a
connection goes through the arena as long as anything before it waits there. What waits for nothing is gathered, too,
and leaves at the end of the round, so that a client whose neighbours have a lot to say to it gets one segment.

Two epoll sets: ``clients`` holds listeners and connections, ``outer`` holds ``clients`` and the committer's eventfd.
trio waits on ``outer``. When ring and batch are full the reactor takes ``clients`` out of ``outer``: it stops reading,
the kernel's windows fill, and the devices slow down. Nothing is dropped. When that lasts (the disk is full, say) it
becomes choosy: it reads again, but takes whoever brings a reading out of ``clients`` until there is room, so that
everybody else is still answered.

The lanes (http_lane, mqtt_lane) take the commonest traffic, and the ``relay`` what clients most often say to each
other; whatever they decline goes, one packet at a time and in order, to the ``door`` (the MQTT session machine), or the
whole HTTP connection moves to the HTTP server with the bytes that were read. A connection that was reset or half
closed is read to its end first: small devices close right after their last publish. After a failed send the reactor
drops the replies, never the input.

A wrapped connection has a transport (ingest.transports: WebSocket, ingest.tls) between socket and buffer; from the
buffer on it is like any other, the lane included. Plain connections pay one test of a flag for that. TLS, when nothing
is within it but MQTT, is compiled like the lane; other transports are asked as Python objects.

The reactor runs in trio's thread and holds the GIL; only the committer works beside it.
"""

import errno
import logging
import os
import socket
from collections import namedtuple

from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno as c_errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from ingest.arena cimport Arena, Chain, Reply
from ingest.http_lane cimport DECLINE, NEED_MORE, Post, Verdict, parse_post
from ingest.mqtt.relay cimport Relay
from ingest.mqtt_lane cimport Publish, frame_bytes, is_topic_name, parse_publish
from ingest.tls cimport TlsTransport, sealed
from ingest.wire cimport Wire
from storage.journal cimport FULL_ANSWER, Journal

from ingest.transports import TransportError
from storage.kinds import PayloadKind, Refusal

log = logging.getLogger("thingscale.reactor")

cdef extern from "sys/epoll.h":
    cdef enum:
        EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
        EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD
        EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event* event)
    int epoll_wait(int epfd, epoll_event* events, int maxevents, int timeout)

cdef extern from "sys/socket.h":
    cdef enum:
        SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, MSG_DONTWAIT, MSG_TRUNC
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass
    int accept4(int fd, sockaddr* addr, socklen_t* length, int flags)
    ssize_t recv(int fd, void* data, size_t size, int flags)
    ssize_t send(int fd, const void* data, size_t size, int flags)
    int setsockopt(int fd, int level, int name, const void* value, socklen_t size)

cdef extern from "netinet/in.h":
    cdef enum:
        IPPROTO_TCP

cdef extern from "netinet/tcp.h":
    cdef enum:
        TCP_NODELAY

cdef extern from "unistd.h":
    int c_close "close"(int fd)

cdef enum Speaks:
    NOBODY = 0
    MQTT = 1
    HTTP = 2

cdef enum:
    ADMITTED = 1        # MQTT: CONNECT was accepted, the lane is on
    CLOSING = 2         # close when every reply has left
    DEAF = 4            # nobody reads our replies any more
    BLOCKED = 8         # the socket's send buffer is full; not reading until it drains
    ENDED = 16          # EOF or reset was read
    LEAVING = 32        # moves to the HTTP server when every reply has left
    STALLED = 64        # waits for room in ring or batch, with a complete packet in rest
    SILENT = 128        # not in the epoll set
    WRAPPED = 256       # has a transport
    SPEAKS_5 = 512      # MQTT 5: properties, reasons
    AWAITED = 1024      # the door is to be told when everything has been sent

cdef enum:
    EVENTS_MAX = 512
    ACCEPTS_PER_TURN_MAX = 128
    RECV_BYTES = 1 << 18            # one recv; the largest packet must fit
    WRAPPED_RECV_BYTES = 1 << 13    # one recv that goes through Python: 10 ms when it is all empty WebSocket frames
    SEALED_RECV_BYTES = 1 << 16     # one recv that goes through TLS alone
    HTTP_REQUEST_BYTES_MAX = 4096   # the lane's head limit, besides the body
    REFUSALS = 32
    TOPIC_BYTES_CACHED_MAX = 512
    PUBACK_BYTES_MAX = 129          # its remaining length is one byte
    CHOOSY_AFTER_DS = 10            # a commit that is slow is no reason yet
    GATHERED_BYTES_MAX = 1 << 20    # of a round, before they leave in its midst
    GATHERED_EACH_MAX = 1 << 17     # of one connection
    LISTENER = 0xFFFFFFFF

# A commit that took longer than reading all who are ready does.
cdef double SLOW_COMMIT_S = 0.002

cdef int PAYLOAD_JSON = PayloadKind.JSON
cdef int PAYLOAD_FORM = PayloadKind.FORM
cdef int TOO_MANY_REQUESTS = Refusal.TOO_MANY_REQUESTS


cdef struct Connection:
    int fd
    uint32_t generation
    uint32_t flags
    void* tls                   # its transport, when that is TLS alone; ``transports`` keeps it
    uint8_t speaks
    uint8_t route_kind          # 0: nothing is stored
    bint is_relayed             # the cached route has subscribers, perhaps
    uint32_t key_bytes          # the cached route's key: MQTT the topic; HTTP token, device and tag
    uint32_t key_size
    uint8_t* key
    uint32_t route_version
    uint32_t device
    uint32_t channel
    uint32_t tag_offset         # the tag is a slice of the key
    uint32_t tag_bytes
    uint32_t pending            # replies that wait for a batch
    uint32_t pending_bytes
    uint32_t words_bytes_max    # MQTT 5: the longest PUBACK that may have a reason string, 0 for none
    uint32_t gathered           # replies that leave at the end of the round
    uint32_t gathered_bytes
    Chain chain                 # of the arena that got its last reply
    uint8_t* rest               # input that is not a whole packet yet
    uint32_t rest_bytes
    uint32_t rest_size
    uint8_t* out                # output that the socket did not take
    uint32_t out_at
    uint32_t out_bytes
    uint32_t last_input_ds      # deciseconds since the reactor began
    uint32_t rest_since_ds      # when rest stopped being empty
    uint32_t patience_ds        # silence allowed; 0 is for ever
    int64_t next_seq            # behind its last reading


ReactorStatistics = namedtuple(
    "ReactorStatistics",
    "mqtt_connections http_connections accepted_mqtt accepted_http closed handed_over refused_connections "
    "mqtt_stored http_stored mqtt_received http_received bytes_received bytes_sent declined_packets stalls timeouts "
    "overflows mqtt_refusals http_refusals input_bytes output_bytes turns wrapped_connections transport_errors",
)

Options = namedtuple(
    "Options",
    "mqtt_connections_max http_connections_max packet_bytes_max payload_bytes_max connect_timeout_s http_idle_s "
    "partial_timeout_s input_bytes_max reply_bytes_max rate_limited",
    defaults=(100_000, 10_000, 131_072, 65_536, 10.0, 120.0, 20.0, 268_435_456, 1_048_576, True),
)


cdef class Reactor(Wire):
    """One epoll set of devices; see the module.

    Args:
        journal: takes the readings.
        commits: ``submit_nowait() -> bool``, ``complete_nowait() -> Completed | None``, ``fileno``.
        gate: resolves what the lanes do not know (ingest.gate.Gate).
        door: the MQTT session machine's driver (ingest.mqtt.door.MqttDoor).
        hand_over: called with (socket, bytes received) for an HTTP connection that is not a plain post.
        options: limits.
        relay: the door's; without one everything that is relayed is the door's.

    Only trio's thread calls it.
    """

    cdef Journal journal
    cdef Relay relay
    cdef object commits, gate, door, hand_over, on_completed
    cdef object options
    cdef readonly int outer
    cdef int clients, commit_fd
    cdef Connection* connections
    cdef uint32_t connections_used, connections_size, free_head
    cdef list free_slots
    cdef dict listeners             # fd -> Speaks
    cdef dict wraps                 # fd of a listener -> what makes a transport
    cdef dict transports            # slot -> transport, of wrapped connections
    cdef uint64_t transport_errors
    cdef Arena filling, waiting, spare      # one fills, one waits for the commit, one is being sent
    cdef Arena gathering, leaving           # what waits for nothing: of this round, and what is being sent
    cdef bint is_gathering, is_leaving
    cdef uint8_t* buffer            # rest of a connection, then what recv adds
    cdef uint8_t* unopened          # what recv gives of a connection in TLS
    cdef int64_t current            # the connection in hand, -1 for none
    cdef bint current_freed
    cdef list stalled
    cdef list drained               # awaited, and everything has been sent, or never will be
    cdef readonly bint is_full      # somebody waits for room; not reading, unless choosy
    cdef readonly bint is_choosy
    cdef uint32_t full_since_ds     # the last time that is_full changed
    cdef readonly bint is_draining
    cdef bint accepting
    cdef uint32_t now_ds
    cdef int64_t now_us
    cdef double now_s, began_s
    cdef uint32_t packet_bytes_max, payload_bytes_max, patience_connect_ds, patience_http_ds
    cdef uint32_t patience_partial_ds
    cdef uint64_t input_bytes_max, input_bytes, output_bytes
    cdef uint32_t reply_bytes_max
    cdef bint rate_limited
    cdef uint32_t mqtt_max, http_max, mqtt_open, http_open
    cdef uint64_t accepted_mqtt, accepted_http, closed, handed_over, refused_connections, mqtt_stored, http_stored
    cdef uint64_t mqtt_received, http_received, bytes_received, bytes_sent, declined, stalls, timeouts, overflows, turns
    cdef uint64_t[REFUSALS] mqtt_refusals, http_refusals
    cdef list puback_tails          # by refusal: what follows the packet id in MQTT 5 (without words, with them)
    cdef list http_replies          # by refusal (0 is 200): (keep-alive bytes, closing bytes)

    def __cinit__(self, Journal journal, *args, **kwargs):
        self.filling, self.waiting, self.spare = Arena(), Arena(), Arena()
        self.gathering, self.leaving = Arena(), Arena()
        memset(&self.mqtt_refusals[0], 0, sizeof(self.mqtt_refusals))
        memset(&self.http_refusals[0], 0, sizeof(self.http_refusals))
        self.outer = self.clients = -1
        self.buffer = <uint8_t*>malloc(2 * RECV_BYTES)
        self.unopened = <uint8_t*>malloc(SEALED_RECV_BYTES)
        self.connections_size = 256
        self.connections = <Connection*>malloc(self.connections_size * sizeof(Connection))
        if self.buffer == NULL or self.unopened == NULL or self.connections == NULL:
            raise MemoryError

    def __init__(self, Journal journal, commits, gate, door, hand_over, options, now_s, relay=None):
        if options.packet_bytes_max > RECV_BYTES:
            raise ValueError(f"packet_bytes_max must be at most {RECV_BYTES}")
        self.journal = journal
        self.commits = commits
        self.gate = gate
        self.door = door
        self.hand_over = hand_over
        self.relay = relay
        self.on_completed = None
        self.options = options
        self.listeners = {}
        self.wraps = {}
        self.transports = {}
        self.free_slots = []
        self.stalled = []
        self.drained = []
        self.current = -1
        self.accepting = True
        self.route_version = 1
        self.began_s = now_s
        self.packet_bytes_max = options.packet_bytes_max
        # A request that the lane waits for has to fit beside one recv in the buffer; h11 takes the larger ones.
        self.payload_bytes_max = min(options.payload_bytes_max, RECV_BYTES - HTTP_REQUEST_BYTES_MAX)
        self.patience_connect_ds = <uint32_t>(options.connect_timeout_s * 10)
        self.patience_http_ds = <uint32_t>(options.http_idle_s * 10)
        self.patience_partial_ds = <uint32_t>(options.partial_timeout_s * 10)
        self.input_bytes_max = options.input_bytes_max
        self.reply_bytes_max = options.reply_bytes_max
        self.rate_limited = options.rate_limited
        self.mqtt_max = options.mqtt_connections_max
        self.http_max = options.http_connections_max
        self.http_replies = []
        self.puback_tails = [(b"\x80", b"\x80")] * REFUSALS
        self.outer = epoll_create1(EPOLL_CLOEXEC)
        self.clients = epoll_create1(EPOLL_CLOEXEC)
        if self.outer < 0 or self.clients < 0:
            raise OSError(c_errno, "epoll_create1")
        self.commit_fd = commits.fileno
        self.watch(self.outer, EPOLL_CTL_ADD, self.clients, EPOLLIN, 1)
        self.watch(self.outer, EPOLL_CTL_ADD, self.commit_fd, EPOLLIN, 2)

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.connections_used):
            if self.connections[i].speaks != NOBODY:
                c_close(self.connections[i].fd)
                free(self.connections[i].key)
                free(self.connections[i].rest)
                free(self.connections[i].out)
        free(self.connections)
        free(self.buffer)
        free(self.unopened)
        if self.clients >= 0:
            c_close(self.clients)
        if self.outer >= 0:
            c_close(self.outer)

    cdef int watch(self, int epoll, int operation, int fd, uint32_t events, uint64_t data) except -1:
        cdef epoll_event event
        event.events = events
        event.data.u64 = data
        if epoll_ctl(epoll, operation, fd, &event) < 0:
            raise OSError(c_errno, os.strerror(c_errno))
        return 0

    # ---- listeners and connections

    def listen(self, int fd, str speaks, wrap=None):
        """Accept from a listening, non-blocking socket: ``"mqtt"`` or ``"http"``. The caller keeps it open.

        ``wrap()``, if there is one, makes the transport of a client.
        """
        self.listeners[fd] = MQTT if speaks == "mqtt" else HTTP
        if wrap is not None:
            self.wraps[fd] = wrap
        self.watch(self.clients, EPOLL_CTL_ADD, fd, EPOLLIN, (<uint64_t>LISTENER << 32) | <uint32_t>fd)

    def stop_listening(self):
        """The doors close: no further client is taken."""
        for fd in self.listeners:
            self.watch(self.clients, EPOLL_CTL_DEL, fd, 0, 0)
        self.listeners.clear()
        self.wraps.clear()

    cdef int accept_some(self, int listener) except -1:
        cdef int fd, on = 1
        cdef uint8_t speaks = self.listeners[listener]
        for _ in range(ACCEPTS_PER_TURN_MAX):
            fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                if c_errno == EAGAIN:
                    return 0
                if c_errno == EINTR or c_errno == ECONNABORTED:
                    continue
                if c_errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
                    # Out of descriptors or buffers: leave the backlog alone until the next tick.
                    self.set_accepting(False)
                    return 0
                # accept(2): network errors of the new connection may be reported here; they are its own.
                continue
            if (self.mqtt_open >= self.mqtt_max) if speaks == MQTT else (self.http_open >= self.http_max):
                self.refused_connections += 1
                c_close(fd)
                continue
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
            wrap = self.wraps.get(listener)
            self.take(fd, speaks, None if wrap is None else wrap())
        return 0

    cdef int set_accepting(self, bint accepting) except -1:
        if accepting == self.accepting:
            return 0
        self.accepting = accepting
        for fd in self.listeners:
            self.watch(self.clients, EPOLL_CTL_MOD, fd, EPOLLIN if accepting else 0,
                       (<uint64_t>LISTENER << 32) | <uint32_t><int>fd)
        return 0

    cdef int64_t take(self, int fd, uint8_t speaks, transport) except -1:
        cdef uint32_t slot, generation = 1
        cdef void* grown
        cdef Connection* c
        if self.free_slots:
            slot = self.free_slots.pop()
            generation = self.connections[slot].generation + 1
        else:
            if self.connections_used == self.connections_size:
                grown = realloc(self.connections, 2 * self.connections_size * sizeof(Connection))
                if grown == NULL:
                    c_close(fd)
                    raise MemoryError
                self.connections = <Connection*>grown
                self.connections_size *= 2
            slot = self.connections_used
            self.connections_used += 1
        c = &self.connections[slot]
        memset(c, 0, sizeof(Connection))
        c.fd = fd
        c.generation = generation
        c.speaks = speaks
        c.last_input_ds = self.now_ds
        if speaks == MQTT:
            c.patience_ds = self.patience_connect_ds
            self.mqtt_open += 1
            self.accepted_mqtt += 1
        else:
            c.patience_ds = self.patience_http_ds
            self.http_open += 1
            self.accepted_http += 1
        if transport is not None:
            c.flags |= WRAPPED
            self.transports[slot] = transport
            if type(transport) is TlsTransport:
                c.tls = <void*>transport
        self.watch(self.clients, EPOLL_CTL_ADD, fd, EPOLLIN, (<uint64_t>generation << 32) | slot)
        return slot

    cdef int end(self, uint32_t slot) except -1:
        """Let go of the connection now, with whatever it still had."""
        cdef Connection* c = &self.connections[slot]
        cdef bint mqtt = c.speaks == MQTT
        if c.speaks == NOBODY:
            return 0
        if c.flags & WRAPPED:
            self.say_goodbye(slot)
        if c.flags & CLOSING and not c.flags & (ENDED | DEAF):
            # Closing over input that nobody read is a reset, which may take the last reply from the client.
            recv(c.fd, NULL, RECV_BYTES, MSG_TRUNC | MSG_DONTWAIT)
        c_close(c.fd)
        self.forget(slot)
        self.closed += 1
        if mqtt:
            self.door.on_closed(slot, self.now_us)
        return 0

    cdef void forget(self, uint32_t slot) except *:
        """Free the slot; the descriptor is somebody else's matter."""
        cdef Connection* c = &self.connections[slot]
        if c.speaks == MQTT:
            self.mqtt_open -= 1
        else:
            self.http_open -= 1
        self.input_bytes -= c.rest_size
        self.output_bytes -= c.out_bytes
        free(c.key)
        free(c.rest)
        free(c.out)
        c.key = c.rest = c.out = NULL
        c.rest_size = c.rest_bytes = c.out_bytes = c.out_at = c.key_bytes = c.key_size = 0
        c.speaks = NOBODY
        c.generation = (c.generation + 1) & 0x7FFFFFFF
        c.pending = c.pending_bytes = c.gathered = c.gathered_bytes = 0
        self.free_slots.append(slot)
        if c.flags & WRAPPED:
            del self.transports[slot]
        if self.current == slot:
            self.current_freed = True

    cdef int silence(self, uint32_t slot) except -1:
        """Take the connection out of the epoll set: nothing more is to be read."""
        cdef Connection* c = &self.connections[slot]
        if not c.flags & SILENT:
            c.flags |= SILENT
            self.watch(self.clients, EPOLL_CTL_DEL, c.fd, 0, 0)
        return 0

    cdef int settle(self, uint32_t slot) except -1:
        """After replies left or none were owed: what was waiting for that?"""
        cdef Connection* c = &self.connections[slot]
        if c.speaks == NOBODY or c.pending or c.gathered or (c.out_bytes and not c.flags & DEAF):
            return 0
        if c.flags & LEAVING:
            self.move(slot)
        elif c.flags & CLOSING or (c.flags & ENDED and not c.flags & STALLED):
            self.end(slot)
        return 0

    cdef int move(self, uint32_t slot) except -1:
        """Give the connection and its unread bytes to the HTTP server."""
        cdef Connection* c = &self.connections[slot]
        cdef bytes received = <bytes>c.rest[:c.rest_bytes] if c.rest_bytes else b""
        cdef int fd = c.fd
        self.silence(slot)
        self.forget(slot)
        self.handed_over += 1
        self.hand_over(socket.socket(fileno=fd), received)
        return 0

    # ---- output

    cdef int put(self, uint32_t slot, const uint8_t* data, uint32_t length, bint waits) except -1:
        """Queue a reply in order: behind the batch that fills if it waits for it or stands behind one, else for now.

        What says nothing about storing (a refusal, say) does not wait: a slow or full disk is no reason for it.
        """
        cdef Connection* c = &self.connections[slot]
        if c.flags & DEAF or length == 0 or c.speaks == NOBODY:
            return 0
        if c.pending or (waits and (self.journal.out or not self.journal.is_empty())):
            c.pending += self.filling.add(slot, c.generation, &c.chain, data, length)
            c.pending_bytes += length
            return 0
        if c.gathered == 0 and (not self.is_gathering or length > GATHERED_EACH_MAX):
            return self.deliver(slot, data, length)
        c.gathered += self.gathering.add(slot, c.generation, &c.chain, data, length)
        c.gathered_bytes += length
        if self.gathering.used > GATHERED_BYTES_MAX or c.gathered_bytes > GATHERED_EACH_MAX:
            self.send_gathered()
        return 0

    cdef uint32_t unsent(self, uint32_t slot) except? 0xFFFFFFFF:
        """What was gathered is not counted: the socket has not been asked yet."""
        return self.connections[slot].pending_bytes + self.connections[slot].out_bytes

    cdef int deliver(self, uint32_t slot, const uint8_t* data, uint32_t length, bint is_raw=False) except -1:
        """Send now what the socket takes; keep the rest and stop reading from this client until it is gone."""
        cdef Connection* c = &self.connections[slot]
        cdef ssize_t sent = 0
        cdef void* grown
        cdef uint32_t kept
        if c.flags & DEAF:
            return 0
        if c.flags & WRAPPED and not is_raw:
            return self.deliver_wrapped(slot, data, length)
        if c.out_bytes == 0:
            sent = send(c.fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)
            if sent < 0:
                if c_errno != EAGAIN and c_errno != EINTR:
                    c.flags |= DEAF
                    return 0
                sent = 0
            self.bytes_sent += sent
            if sent == length:
                return 0
        kept = length - <uint32_t>sent
        if c.out_bytes + kept > self.reply_bytes_max:
            # Somebody who asks without ever reading the answers.
            self.overflows += 1
            c.flags |= DEAF | CLOSING
            if self.current != slot:
                self.drained.append((slot, c.generation))   # it ends later: somebody is in the middle of something
            return 0
        grown = realloc(c.out, c.out_at + c.out_bytes + kept)
        if grown == NULL:
            raise MemoryError
        c.out = <uint8_t*>grown
        memcpy(c.out + c.out_at + c.out_bytes, data + sent, kept)
        c.out_bytes += kept
        self.output_bytes += kept
        if not c.flags & BLOCKED:
            c.flags |= BLOCKED
            self.watch(self.clients, EPOLL_CTL_ADD if c.flags & SILENT else EPOLL_CTL_MOD, c.fd, EPOLLOUT,
                       (<uint64_t>c.generation << 32) | slot)
            c.flags &= ~SILENT
        return 0

    cdef int on_writable(self, uint32_t slot) except -1:
        cdef Connection* c = &self.connections[slot]
        cdef ssize_t sent = send(c.fd, c.out + c.out_at, c.out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT)
        if sent < 0:
            if c_errno == EAGAIN or c_errno == EINTR:
                return 0
            c.flags |= DEAF
            sent = c.out_bytes
        else:
            self.bytes_sent += sent
        c.out_at += <uint32_t>sent
        c.out_bytes -= <uint32_t>sent
        self.output_bytes -= sent
        if c.out_bytes:
            return 0
        free(c.out)
        c.out = NULL
        c.out_at = 0
        c.flags &= ~BLOCKED
        if c.flags & AWAITED and c.pending == 0:
            self.drained.append((slot, c.generation))
        if c.flags & (ENDED | LEAVING | CLOSING | STALLED):
            self.silence(slot)
        else:
            self.watch(self.clients, EPOLL_CTL_MOD, c.fd, EPOLLIN, (<uint64_t>c.generation << 32) | slot)
            if c.rest_bytes and not c.flags & STALLED:
                self.process(slot, 0)
                if self.connections[slot].speaks == NOBODY:
                    return 0
            if self.connections[slot].flags & WRAPPED:
                return self.conclude(slot)
        return self.settle(slot)

    cdef int send_replies(self, Arena arena, bint waited) except -1:
        """Every reply of the arena leaves, one ``send`` for each connection. Nobody adds to it meanwhile."""
        cdef uint32_t i, slot, length = 0, count = 0
        cdef Reply* reply
        cdef Connection* c
        cdef const uint8_t* data
        for i in range(arena.count):
            reply = &arena.replies[i]
            slot = reply.connection
            c = &self.connections[slot]
            if not reply.is_first or c.generation != reply.generation or c.speaks == NOBODY:
                continue
            data = arena.gather(i, &length, &count)
            if waited:
                c.pending -= count
                c.pending_bytes -= length
            else:
                c.gathered -= count
                c.gathered_bytes -= length
            self.deliver(slot, data, length)
            c = &self.connections[slot]
            if c.flags & AWAITED and c.pending == 0 and c.out_bytes == 0:
                self.drained.append((slot, c.generation))
            if c.flags & (CLOSING | LEAVING | ENDED):
                if self.current >= 0:
                    self.drained.append((slot, c.generation))   # later: somebody is in the middle of something
                else:
                    self.settle(slot)
        arena.clear()
        return 0

    cdef int send_gathered(self) except -1:
        """What waits for nothing leaves, and what that leads to."""
        if self.is_leaving:
            return 0
        self.is_leaving = True
        while self.gathering.count:
            self.gathering, self.leaving = self.leaving, self.gathering
            self.send_replies(self.leaving, False)
        self.is_leaving = False
        return 0

    # ---- input

    cdef int on_readable(self, uint32_t slot) except -1:
        cdef Connection* c = &self.connections[slot]
        cdef ssize_t got
        if c.rest_bytes:
            memcpy(self.buffer, c.rest, c.rest_bytes)
        if c.tls != NULL:
            got = recv(c.fd, self.unopened, SEALED_RECV_BYTES, MSG_DONTWAIT)
        else:
            got = recv(c.fd, self.buffer + c.rest_bytes, WRAPPED_RECV_BYTES if c.flags & WRAPPED else RECV_BYTES,
                       MSG_DONTWAIT)
        if got <= 0:
            if got < 0 and (c_errno == EAGAIN or c_errno == EINTR):
                return 0
            c.flags |= ENDED | (DEAF if got < 0 else 0)
            if c.speaks == HTTP and c.rest_bytes and not c.flags & (CLOSING | LEAVING) and got == 0:
                c.flags |= LEAVING      # half a request, then EOF: h11 knows what to say
            self.silence(slot)
            return self.settle(slot)
        self.bytes_received += got
        if c.tls != NULL:
            return self.receive_sealed(slot, <size_t>got)
        if c.flags & WRAPPED:
            return self.receive_wrapped(slot, <bytes>(self.buffer + c.rest_bytes)[:got])
        # Until CONNECT is whole the client's time runs, however it drips.
        if c.flags & ADMITTED or c.speaks == HTTP:
            c.last_input_ds = self.now_ds
        return self.process(slot, <uint32_t>got)

    cdef int process(self, uint32_t slot, uint32_t got) except -1:
        """Take every complete packet or request of ``rest`` and the ``got`` new bytes behind it in the buffer."""
        cdef Connection* c = &self.connections[slot]
        cdef uint32_t total = c.rest_bytes + got, used
        if got == 0:
            memcpy(self.buffer, c.rest, c.rest_bytes)
        self.current = slot
        self.current_freed = False
        used = self.take_mqtt(slot, total) if c.speaks == MQTT else self.take_http(slot, total)
        self.current = -1
        if self.current_freed:
            return 0
        c = &self.connections[slot]
        self.keep(slot, used, total)
        if c.flags & (CLOSING | LEAVING):
            if not c.flags & BLOCKED:
                self.silence(slot)
            self.settle(slot)
        return 0

    cdef int keep(self, uint32_t slot, uint32_t used, uint32_t total) except -1:
        """Remember buffer[used:total] as the connection's rest."""
        cdef Connection* c = &self.connections[slot]
        cdef uint32_t left = total - used
        cdef void* grown
        if c.flags & CLOSING:
            left = 0
        if left == 0:
            if c.rest != NULL:
                self.input_bytes -= c.rest_size
                free(c.rest)
                c.rest = NULL
                c.rest_size = 0
            c.rest_bytes = 0
            return 0
        if left > c.rest_size or c.rest_size > 4 * left:
            if self.input_bytes - c.rest_size + left > self.input_bytes_max:
                self.overflows += 1
                c.flags |= CLOSING
                return self.keep(slot, total, total)
            grown = realloc(c.rest, left)
            if grown == NULL:
                raise MemoryError
            c.rest = <uint8_t*>grown
            self.input_bytes += left
            self.input_bytes -= c.rest_size
            c.rest_size = left
        if c.rest_bytes == 0 or used:
            c.rest_since_ds = self.now_ds
        memcpy(c.rest, self.buffer + used, left)
        c.rest_bytes = left
        return 0

    cdef int stall(self, uint32_t slot) except -1:
        """No room in batch or ring: this connection keeps its bytes, and nobody is read until there is room."""
        self.connections[slot].flags |= STALLED
        self.stalled.append((slot, self.connections[slot].generation))
        self.stalls += 1
        if self.is_choosy and not self.connections[slot].flags & BLOCKED:
            self.silence(slot)
        self.set_full(True)
        return 0

    cdef int set_full(self, bint full) except -1:
        if full == self.is_full:
            return 0
        self.is_full = full
        self.is_choosy = False
        self.full_since_ds = self.now_ds
        self.watch(self.outer, EPOLL_CTL_MOD, self.clients, 0 if full else EPOLLIN, 1)
        return 0

    cdef int set_choosy(self, bint choosy) except -1:
        """While full: whether those are read who have not brought a reading yet."""
        if choosy == self.is_choosy:
            return 0
        self.is_choosy = choosy
        for slot, generation in self.stalled:
            if choosy and self.connections[<uint32_t>slot].generation == generation:
                if not self.connections[<uint32_t>slot].flags & BLOCKED:
                    self.silence(slot)
        self.watch(self.outer, EPOLL_CTL_MOD, self.clients, EPOLLIN if choosy else 0, 1)
        return 0

    cdef int attend(self, uint32_t slot) except -1:
        """Read again from who was silenced for want of room."""
        cdef Connection* c = &self.connections[slot]
        if c.flags & SILENT and not c.flags & (CLOSING | LEAVING | ENDED | BLOCKED | STALLED):
            c.flags &= ~SILENT
            self.watch(self.clients, EPOLL_CTL_ADD, c.fd, EPOLLIN, (<uint64_t>c.generation << 32) | slot)
        return 0

    cdef int64_t append(self, int kind, uint32_t device, uint32_t channel, const uint8_t* tag, uint32_t tag_bytes,
                        const uint8_t* payload, uint32_t payload_bytes) except? -2000:
        """The journal's answer; a full batch is handed to the committer first if it is free."""
        cdef int64_t answer = self.journal.append_bytes(self.now_us, kind, device, channel, tag, tag_bytes, payload,
                                                        payload_bytes)
        if answer == FULL_ANSWER and not self.journal.is_empty() and not self.journal.out:
            self.submit()
            answer = self.journal.append_bytes(self.now_us, kind, device, channel, tag, tag_bytes, payload,
                                               payload_bytes)
        return answer

    # ---- wrapped connections

    cdef int receive_sealed(self, uint32_t slot, size_t size) except -1:
        """``unopened``, through TLS into the buffer; the connection's rest is there already."""
        cdef Connection* c = &self.connections[slot]
        cdef TlsTransport tls = <TlsTransport>c.tls
        cdef int64_t got = tls.unseal(self.unopened, size, self.buffer + c.rest_bytes,
                                      2 * RECV_BYTES - c.rest_bytes)
        if tls.broken is not None:
            self.count_broken(tls.broken)
        if sealed.used:
            self.deliver(slot, sealed.data, <uint32_t>sealed.used, True)
        return self.take_unwrapped(slot, <uint32_t>got)

    cdef int receive_wrapped(self, uint32_t slot, bytes received) except -1:
        """Socket bytes: through the transport into the buffer."""
        cdef Connection* c = &self.connections[slot]
        cdef bytes plain, owed
        transport = self.transports[slot]
        try:
            try:
                plain = transport.receive(received)
            except TransportError as error:
                self.count_broken(error.reason)
                plain = error.received
            owed = transport.take_pending()
        except Exception:   # the connection's guard: one client's trouble is nobody else's
            log.exception("a transport failed")
            c.flags |= DEAF
            return self.end(slot)
        if owed:
            self.deliver(slot, <const uint8_t*><const char*>owed, <uint32_t>len(owed), True)
        if plain:
            assert c.rest_bytes + len(plain) <= 2 * RECV_BYTES, "a transport gave more than it got"
            if c.rest_bytes:
                memcpy(self.buffer, c.rest, c.rest_bytes)
            memcpy(self.buffer + c.rest_bytes, <const char*>plain, len(plain))
        return self.take_unwrapped(slot, <uint32_t>len(plain))

    cdef int count_broken(self, str reason) except -1:
        self.transport_errors += 1
        log.debug("a client's transport broke: %s", reason)
        return 0

    cdef int take_unwrapped(self, uint32_t slot, uint32_t got) except -1:
        """What came out of a transport goes on as with any other connection.

        Only that counts as a sign of life: a handshake or a ping is none.
        """
        cdef Connection* c = &self.connections[slot]
        cdef uint32_t generation = c.generation
        if got:
            if c.flags & ADMITTED:
                c.last_input_ds = self.now_ds
            self.process(slot, got)
            if self.connections[slot].generation != generation:
                return 0
        return self.conclude(slot)

    cdef int conclude(self, uint32_t slot) except -1:
        """The peer's goodbye within the transport is an end of input, once what came before it was taken."""
        cdef Connection* c = &self.connections[slot]
        cdef bint is_ended = (<TlsTransport>c.tls).is_ended if c.tls != NULL else self.transports[slot].is_ended
        if is_ended and not c.flags & BLOCKED:
            c.flags |= ENDED
        if c.flags & (ENDED | CLOSING) and not c.flags & BLOCKED:
            self.silence(slot)
        return self.settle(slot)

    cdef int deliver_wrapped(self, uint32_t slot, const uint8_t* data, uint32_t length) except -1:
        cdef Connection* c = &self.connections[slot]
        cdef bytes wrapped
        if c.tls != NULL:
            if not (<TlsTransport>c.tls).seal(data, length):
                c.flags |= DEAF
                return 0
            return self.deliver(slot, sealed.data, <uint32_t>sealed.used, True)
        try:
            wrapped = self.transports[slot].send(<bytes>data[:length])
        except TransportError as error:
            log.debug("a client's transport broke: %s", error)
            c.flags |= DEAF
            return 0
        return self.deliver(slot, <const uint8_t*><const char*>wrapped, <uint32_t>len(wrapped), True)

    cdef int say_goodbye(self, uint32_t slot) except -1:
        """What the transport says last, if the socket takes it at once."""
        cdef Connection* c = &self.connections[slot]
        cdef bytes goodbye
        if c.flags & DEAF or c.out_bytes:
            return 0
        goodbye = self.transports[slot].ended()
        if goodbye:
            self.bytes_sent += max(0, send(c.fd, <const char*>goodbye, len(goodbye), MSG_NOSIGNAL | MSG_DONTWAIT))
        return 0

    def adopt(self, int fd, str speaks, transport, bytes received, double now_s, int64_t now_us):
        """Take over a connected, non-blocking socket that somebody else accepted; the reactor closes it.

        received: what was read from the socket already, for the transport.
        """
        cdef int64_t slot
        assert speaks == "mqtt" and len(received) <= RECV_BYTES
        if self.is_draining or self.mqtt_open >= self.mqtt_max:
            self.refused_connections += 1
            c_close(fd)
            return
        self.set_time(now_s, now_us)
        slot = self.take(fd, MQTT, transport)
        self.is_gathering = True
        self.receive_wrapped(<uint32_t>slot, received)
        self.send_gathered()
        self.is_gathering = False
        self.submit()

    # ---- MQTT

    cdef uint32_t take_mqtt(self, uint32_t slot, uint32_t total) except? 0xFFFFFFFF:
        cdef uint32_t used = 0
        cdef int64_t size
        cdef Connection* c = &self.connections[slot]
        cdef uint8_t* frame
        cdef int verdict
        while used < total and not c.flags & (CLOSING | BLOCKED):
            frame = self.buffer + used
            if not c.flags & ADMITTED and frame[0] >> 4 != 1:
                # Not CONNECT [MQTT-3.1.0-1], most likely another protocol: its packet may never come to an end.
                self.door.on_malformed(slot, "the first packet")
                self.connections[slot].flags |= CLOSING
                break
            size = frame_bytes(frame, total - used)
            if size == 0:
                break
            if size < 0 or size > self.packet_bytes_max:
                self.overflows += size > 0
                self.door.on_malformed(slot, "packet_bytes_max" if size > 0 else "remaining length")
                self.connections[slot].flags |= CLOSING
                break
            if not c.flags & ADMITTED and size > 4096 and frame[0] != 0x10:
                c.flags |= CLOSING
                break
            if size > total - used:
                break
            verdict = -1
            if c.flags & ADMITTED:
                if frame[0] >> 4 == 3:
                    verdict = self.publish(slot, frame, <uint32_t>size)
                elif size == 4 and self.relay is not None and frame[0] in (0x40, 0x50, 0x62, 0x70):
                    verdict = self.relay.acknowledged(slot, frame[0] >> 4, frame[2] << 8 | frame[3], self.now_us)
                elif frame[0] == 0xC0 and size == 2:
                    # It says that what came before is durable, which is all that a client with QoS 0 can learn.
                    self.put(slot, b"\xd0\x00", 2, c.next_seq > self.journal.ring.durable)
                    verdict = 1
            if verdict < 0:
                verdict = self.ask_door(slot, frame, <uint32_t>size)
                if self.current_freed:
                    return 0
                c = &self.connections[slot]
            if verdict == 0:
                self.stall(slot)
                break
            used += <uint32_t>size
        return used

    cdef int ask_door(self, uint32_t slot, uint8_t* frame, uint32_t size) except -2:
        """One packet for the session machine: 1 taken, 0 no room now."""
        cdef object taken
        # The machine appends by itself: see to it that the batch can take what this packet may hold.
        if not self.journal.has_room(size):
            if self.journal.out:
                return 0
            self.submit()
        self.declined += 1
        taken = self.door.on_packet(slot, <bytes>frame[:size], self.now_s, self.now_us)
        return 0 if taken is False else 1

    cdef int publish(self, uint32_t slot, uint8_t* frame, uint32_t size) except -2:
        """A PUBLISH on the lane: 1 taken, 0 no room now, -1 declined."""
        cdef Publish packet
        cdef Connection* c = &self.connections[slot]
        cdef int64_t answer
        cdef bint is_relayed
        if not parse_publish(frame, size, c.flags & SPEAKS_5 != 0, &packet):
            return -1
        # QoS 2 is never the lane's alone: the relay remembers its packet id.
        if not (c.key_bytes == packet.topic_bytes and c.route_version == self.route_version
                and (c.is_relayed or packet.qos < 2)
                and memcmp(c.key, packet.topic, packet.topic_bytes) == 0):
            topic = <bytes>packet.topic[:packet.topic_bytes]
            if not is_topic_name(topic, c.flags & SPEAKS_5 != 0):
                return -1
            route = None if self.relay is None else self.relay.find(slot, topic)
            is_relayed = route is not None
            if not is_relayed and packet.qos < 2:
                route = self.gate.route_mqtt(slot, topic, self.now_us)
                if type(route) is int:
                    return self.finish_publish(slot, &packet, -<int>route)
            if route is None and self.relay is not None:
                route = self.relay.resolve(slot, topic)
                is_relayed = True
            if route is None:
                return -1
            c = &self.connections[slot]
            self.cache_route(c, packet.topic, packet.topic_bytes, route)
            c.is_relayed = is_relayed
        if c.is_relayed:
            return self.publish_further(slot, &packet)
        answer = self.append(c.route_kind, c.device, c.channel, c.key + c.tag_offset, c.tag_bytes, packet.payload,
                             packet.payload_bytes)
        if answer == FULL_ANSWER:
            return 0
        return self.finish_publish(slot, &packet, answer)

    cdef int publish_further(self, uint32_t slot, Publish* packet) except -2:
        """One that is relayed, or QoS 2: stored if it is a reading, the rest is the relay's."""
        cdef Connection* c = &self.connections[slot]
        cdef int64_t answer = 0
        cdef int verdict = self.relay.begin(slot, packet)
        if verdict != 1:
            return 1 if verdict == 2 else verdict
        if c.route_kind:
            answer = self.append(c.route_kind, c.device, c.channel, c.key + c.tag_offset, c.tag_bytes, packet.payload,
                                 packet.payload_bytes)
            if answer == FULL_ANSWER:
                return 0
            if answer < 0:
                return -1       # it left no trace; the machine is refused the same, and has the words for it
            self.count_reading(c, answer)
        return self.relay.publish(slot, packet, c.route_kind, self.now_us)

    cdef void count_reading(self, Connection* c, int64_t answer) noexcept:
        self.mqtt_received += 1
        if answer >= 0:
            self.mqtt_stored += 1
            c.next_seq = answer + 1
        else:
            self.mqtt_refusals[-answer] += 1

    cdef int finish_publish(self, uint32_t slot, Publish* packet, int64_t answer) except -2:
        """Count and acknowledge: a refused reading is acknowledged too (contract 2.3.4), or the client never stops."""
        cdef uint8_t[PUBACK_BYTES_MAX] puback
        cdef uint32_t length = 4
        cdef bytes tail
        self.count_reading(&self.connections[slot], answer)
        if packet.qos:
            puback[0], puback[1], puback[2], puback[3] = 0x40, 2, packet.packet_id[0], packet.packet_id[1]
            if answer < 0 and self.connections[slot].flags & SPEAKS_5:
                brief, tail = self.puback_tails[-answer]
                if length + len(tail) > self.connections[slot].words_bytes_max:
                    tail = brief
                memcpy(&puback[4], <const char*>tail, len(tail))
                length += <uint32_t>len(tail)
                puback[1] = <uint8_t>(length - 2)
            self.put(slot, puback, length, answer >= 0)
        return 1

    cdef int cache_route(self, Connection* c, const uint8_t* key, uint32_t key_bytes, route) except -1:
        """route: (payload kind, device, channel, tag); the tag is the key's last bytes."""
        cdef void* grown
        cdef bytes tag
        kind, device, channel, tag = route
        if key_bytes != c.key_size:
            grown = realloc(c.key, key_bytes)
            if grown == NULL:
                raise MemoryError
            c.key = <uint8_t*>grown
            c.key_size = key_bytes
        memcpy(c.key, key, key_bytes)
        c.key_bytes = key_bytes
        c.route_kind = kind
        c.device = device
        c.channel = channel
        c.tag_bytes = <uint32_t>len(tag)
        c.tag_offset = key_bytes - c.tag_bytes
        if memcmp(c.key + c.tag_offset, <const char*>tag, c.tag_bytes) != 0:
            # A trailing slash after the tag: find the tag before it.
            c.tag_offset -= 1
            assert memcmp(c.key + c.tag_offset, <const char*>tag, c.tag_bytes) == 0
        c.route_version = self.route_version
        return 0

    # ---- HTTP

    cdef uint32_t take_http(self, uint32_t slot, uint32_t total) except? 0xFFFFFFFF:
        cdef uint32_t used = 0
        cdef Connection* c = &self.connections[slot]
        cdef Post post
        cdef Verdict verdict
        cdef int taken
        while used < total and not c.flags & (CLOSING | BLOCKED):
            # RFC 9112 section 2.2: an empty line before the request line is ignored. One client sends it always.
            if self.buffer[used] == 13 and c.flags & ADMITTED:
                if total - used < 2:
                    break
                if self.buffer[used + 1] == 10:
                    c.flags &= ~ADMITTED
                    used += 2
                    continue
            verdict = parse_post(self.buffer + used, total - used, self.payload_bytes_max, &post)
            if verdict == NEED_MORE:
                break
            if verdict == DECLINE:
                c.flags |= LEAVING
                break
            taken = self.post(slot, &post)
            if taken == 0:
                self.stall(slot)
                break
            c.flags |= ADMITTED         # here: one request was answered, its trailing CRLF may follow
            used += post.consumed
        return used

    cdef int post(self, uint32_t slot, Post* post) except -2:
        """A plain post: 1 answered, 0 no room now."""
        cdef Connection* c = &self.connections[slot]
        cdef uint8_t[1024] key
        cdef uint32_t key_bytes = post.token_bytes + post.device_bytes + post.tag_bytes + 12
        cdef int64_t answer
        cdef bint cached = False
        cdef int kind = PAYLOAD_JSON if post.version == 2 else PAYLOAD_FORM
        if post.version == 1:
            post.tag = NULL
            post.tag_bytes = 0
            key_bytes = post.token_bytes + post.device_bytes + 12
        if key_bytes <= sizeof(key):
            memcpy(key, &post.token_bytes, 4)
            memcpy(key + 4, &post.device_bytes, 4)
            memset(key + 8, 0, 4)
            key[8] = post.version
            memcpy(key + 12, post.token, post.token_bytes)
            memcpy(key + 12 + post.token_bytes, post.device, post.device_bytes)
            memcpy(key + 12 + post.token_bytes + post.device_bytes, post.tag, post.tag_bytes)
            cached = (c.key_bytes == key_bytes and c.route_version == self.route_version
                      and memcmp(c.key, key, key_bytes) == 0)
        if cached and self.rate_limited:
            if not self.gate.allow(c.device, self.now_s):
                return self.finish_post(slot, post, -TOO_MANY_REQUESTS)
        if not cached:
            route = self.gate.route_http(
                None if post.token == NULL else <bytes>post.token[:post.token_bytes],
                None if post.device == NULL else <bytes>post.device[:post.device_bytes],
                b"" if post.tag == NULL else <bytes>post.tag[:post.tag_bytes],
                self.now_s, self.now_us)
            if type(route) is int:
                return self.finish_post(slot, post, -<int>route)
            device, channel = route
            if key_bytes <= sizeof(key):
                tag = <bytes>post.tag[:post.tag_bytes] if post.tag_bytes else b""
                self.cache_route(c, key, key_bytes, (kind, device, channel, tag))
            answer = self.append(kind, device, channel, post.tag, post.tag_bytes, post.body, post.body_bytes)
            if answer == FULL_ANSWER:
                # The rate limit was taken already; it is given back so that the retry is not refused.
                self.gate.give_back(<uint32_t>device)
                return 0
            return self.finish_post(slot, post, answer)
        answer = self.append(c.route_kind, c.device, c.channel, c.key + c.tag_offset, c.tag_bytes, post.body,
                             post.body_bytes)
        if answer == FULL_ANSWER:
            if self.rate_limited:
                self.gate.give_back(c.device)
            return 0
        return self.finish_post(slot, post, answer)

    cdef int finish_post(self, uint32_t slot, Post* post, int64_t answer) except -2:
        cdef bytes text = self.http_replies[-answer if answer < 0 else 0][1 if post.close else 0]
        if answer == -TOO_MANY_REQUESTS:
            text = text % self.gate.retry_s()  # ingest/refusals.py, RETRY_S
        self.http_received += 1
        if answer >= 0:
            self.http_stored += 1
        else:
            self.http_refusals[-answer] += 1
        self.put(slot, <const uint8_t*><const char*>text, <uint32_t>len(text), answer >= 0)
        if post.close:
            self.connections[slot].flags |= CLOSING
        return 1

    # ---- the turn

    def turn(self, double now_s, int64_t now_us):
        """Do everything that is ready; never blocks. now_s is monotonic, now_us the wall clock's UTC.

        What becomes ready meanwhile is taken, too, until a turn's share of events is used up: going out to trio and
        coming back costs 15 µs.
        """
        cdef int events = 0, found
        self.turns += 1
        self.set_time(now_s, now_us)
        self.is_gathering = True
        while events < EVENTS_MAX or self.drained:
            found = self.round()
            if found == 0:
                break
            events += found
        self.is_gathering = False

    cdef int round(self) except -1:
        """One look at who is ready; how many were."""
        cdef epoll_event[EVENTS_MAX] events
        cdef int count, found, i
        cdef uint32_t slot, generation
        cdef uint64_t data
        found = epoll_wait(self.outer, events, 2, 0)
        for i in range(found):
            if events[i].data.u64 == 2:
                self.complete()
        if self.stalled:
            self.resume()
        if self.drained:
            found += self.tell_drained()
        if not self.is_full or self.is_choosy:
            count = epoll_wait(self.clients, events, EVENTS_MAX, 0)
            for i in range(count):
                data = events[i].data.u64
                generation = <uint32_t>(data >> 32)
                slot = <uint32_t>data
                if generation == LISTENER:
                    if <int>slot in self.listeners:
                        self.accept_some(<int>slot)
                    continue
                if self.connections[slot].generation != generation or self.connections[slot].speaks == NOBODY:
                    continue
                if self.connections[slot].flags & BLOCKED:
                    self.on_writable(slot)
                elif not self.is_full or self.is_choosy:
                    self.on_readable(slot)
            found += max(count, 0)
        self.send_gathered()
        self.submit()
        return found

    cdef void set_time(self, double now_s, int64_t now_us):
        self.now_s = now_s
        self.now_us = now_us
        self.now_ds = <uint32_t>((now_s - self.began_s) * 10)

    cdef int resume(self) except -1:
        """Try the connections that waited for room, in the order in which they began to wait."""
        if self.is_draining:
            return 0
        waiting, self.stalled = self.stalled, []
        for number, (slot, generation) in enumerate(waiting):
            if self.stalled:
                self.stalled.extend(waiting[number:])       # still no room
                return 0
            if self.connections[<uint32_t>slot].generation != generation:
                continue
            self.connections[<uint32_t>slot].flags &= ~STALLED
            self.process(slot, 0)
            if self.connections[<uint32_t>slot].generation == generation:
                self.attend(slot)
                self.settle(slot)
        if not self.stalled:
            self.set_full(False)
        return 0

    cdef int tell_drained(self) except -1:
        """Those whose last byte the door waited for, or whose end was put off."""
        cdef Connection* c
        told, self.drained = self.drained, []
        for slot, generation in told:
            c = &self.connections[<uint32_t>slot]
            if c.generation != generation:
                continue
            if c.flags & (DEAF | CLOSING | LEAVING | ENDED):
                self.settle(slot)
            elif c.flags & AWAITED:
                c.flags &= ~AWAITED
                self.door.on_writable(slot, self.now_us)
        return <int>len(told)

    cdef int submit(self) except -1:
        """Give the filling batch to the committer if it is free."""
        if self.journal.out:
            return 0
        if self.journal.is_empty():
            # Replies that only waited for an earlier batch of the same connection.
            if self.filling.count:
                self.filling, self.spare = self.spare, self.filling
                self.send_replies(self.spare, True)
            return 0
        if self.commits.submit_nowait():
            self.filling, self.waiting = self.waiting, self.filling
        return 0

    cdef int complete(self) except -1:
        """The committer has finished: send what waited for it.

        A slow disk gets the next batch before that, so that it never idles. A fast one gets it at the end of the turn,
        when all who are ready have been read: fewer, larger commits cost less CPU (at one in flight 5 % of all).
        """
        completed = self.commits.complete_nowait()
        if completed is None:
            return 0
        self.waiting, self.spare = self.spare, self.waiting
        if completed.elapsed_s > SLOW_COMMIT_S and not self.journal.is_empty():
            self.submit()
        self.send_replies(self.spare, True)
        if self.on_completed is not None:
            self.on_completed(completed)
        return 0

    def tick(self, double now_s, int64_t now_us):
        """Once a second: keepalive and idle limits, and the listeners that ran out of descriptors."""
        cdef uint32_t slot
        cdef bint late
        cdef Connection* c
        self.set_time(now_s, now_us)
        self.set_accepting(True)
        if self.is_full:
            if not self.is_draining and self.now_ds - self.full_since_ds > CHOOSY_AFTER_DS:
                # Half of the input is left for what the silenced ones have brought already.
                self.set_choosy(self.input_bytes < self.input_bytes_max // 2)
            return                      # nobody's silence is their own fault now
        for slot in range(self.connections_used):
            c = &self.connections[slot]
            if c.speaks == NOBODY or c.patience_ds == 0 or c.pending or c.flags & STALLED:
                continue
            # While nobody was read nobody could be heard: patience begins again with the reading.
            late = self.now_ds - max(c.last_input_ds, self.full_since_ds) > c.patience_ds
            if c.rest_bytes and not c.flags & BLOCKED and (
                    late or self.now_ds - max(c.rest_since_ds, self.full_since_ds) > self.patience_partial_ds):
                # A packet or request that does not come to its end. For HTTP the server has an answer to that.
                self.timeouts += 1
                if c.speaks == HTTP:
                    c.flags |= LEAVING
                    self.silence(slot)
                    self.settle(slot)
                else:
                    self.end(slot)
            elif late:
                self.timeouts += 1
                if c.speaks == MQTT and c.flags & ADMITTED and not c.flags & (CLOSING | BLOCKED):
                    self.door.on_timeout(slot)
                    self.close(slot)
                else:
                    self.end(slot)

    # ---- what gate, door and the front door may ask for

    def send(self, uint32_t slot, bytes data):
        """Queue bytes for a connection, behind every reply that waits for durability."""
        self.put(slot, <const uint8_t*><const char*>data, <uint32_t>len(data), True)

    def backlog(self, uint32_t slot):
        """Bytes for the connection that have not reached its socket."""
        return self.unsent(slot)

    def call_when_drained(self, uint32_t slot):
        """Call the door's on_writable when the backlog is gone."""
        cdef Connection* c = &self.connections[slot]
        if not c.flags & AWAITED:
            c.flags |= AWAITED
            if c.pending == 0 and c.out_bytes == 0:
                self.drained.append((slot, c.generation))

    def close(self, uint32_t slot):
        """Close when everything queued has left."""
        cdef Connection* c = &self.connections[slot]
        if c.speaks == NOBODY:
            return
        c.flags |= CLOSING
        if self.current != slot:
            if not c.flags & BLOCKED:
                self.silence(slot)
            self.settle(slot)

    def abort(self, uint32_t slot):
        """Close now."""
        self.end(slot)

    def set_keepalive(self, uint32_t slot, double deadline_s):
        """Close after this much silence; 0 is for ever."""
        self.connections[slot].patience_ds = <uint32_t>(deadline_s * 10)

    def admit(self, uint32_t slot, int protocol=4, uint32_t words_bytes_max=0):
        """CONNECT was accepted: the lane is on. words_bytes_max: the longest PUBACK that may have a reason string."""
        self.connections[slot].flags |= ADMITTED | (SPEAKS_5 if protocol == 5 else 0)
        self.connections[slot].last_input_ds = self.now_ds
        self.connections[slot].words_bytes_max = words_bytes_max

    def peer(self, uint32_t slot):
        """The client's address, empty when it is gone."""
        with socket.socket(fileno=os.dup(self.connections[slot].fd)) as twin:
            try:
                return twin.getpeername()[0]
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise
                return ""

    def invalidate_routes(self):
        """The registry changed: look every route up again."""
        self.route_version += 1

    def set_rate_limited(self, bint rate_limited):
        """Whether the gate is asked before every post from now on."""
        self.rate_limited = rate_limited

    def drain(self):
        """Read nothing more; what was taken is still committed and answered. turn() goes on until that is done."""
        self.stop_listening()
        self.is_draining = True
        self.set_full(True)
        self.set_choosy(False)

    def close_all(self):
        """The end: every connection is let go."""
        cdef uint32_t slot
        for slot in range(self.connections_used):
            self.connections[slot].flags |= CLOSING
            self.end(slot)

    def set_http_replies(self, replies):
        """Index 0 is for stored, n for Refusal n: (bytes for keep-alive, bytes before a close)."""
        self.http_replies = list(replies)

    def set_puback_tails(self, tails):
        """Index n is what MQTT 5 is told of Refusal n behind the packet id: (reason code, the same with words)."""
        if max(len(tail) for pair in tails for tail in pair) > PUBACK_BYTES_MAX - 4:
            raise ValueError(f"a PUBACK is longer than {PUBACK_BYTES_MAX} bytes")
        self.puback_tails = list(tails)

    def set_on_completed(self, callback):
        """Called with the commit's Completed after its replies were queued."""
        self.on_completed = callback

    def kick(self, double now_s, int64_t now_us):
        """Room may have come, or somebody else appended: resume who waits and submit what there is."""
        cdef bint is_in_turn = self.is_gathering
        self.set_time(now_s, now_us)
        self.is_gathering = True
        if self.stalled:
            self.resume()
        self.send_gathered()
        self.is_gathering = is_in_turn
        self.submit()

    def count_refusal(self, str speaks, int refusal):
        """One refusal that the slow path met."""
        if speaks == "mqtt":
            self.mqtt_received += 1
            self.mqtt_refusals[refusal] += 1
        else:
            self.http_received += 1
            self.http_refusals[refusal] += 1

    def count_stored(self, str speaks):
        """One reading that the slow path stored."""
        if speaks == "mqtt":
            self.mqtt_received += 1
            self.mqtt_stored += 1
        else:
            self.http_received += 1
            self.http_stored += 1

    @property
    def replies_waiting(self):
        """Replies that have not reached a socket yet; 0 when everything taken has been answered."""
        return self.filling.count + self.waiting.count + self.gathering.count

    def statistics(self):
        return ReactorStatistics(
            self.mqtt_open, self.http_open, self.accepted_mqtt, self.accepted_http, self.closed, self.handed_over,
            self.refused_connections, self.mqtt_stored, self.http_stored, self.mqtt_received, self.http_received,
            self.bytes_received, self.bytes_sent, self.declined, self.stalls, self.timeouts, self.overflows,
            {Refusal(i).name: self.mqtt_refusals[i] for i in range(1, len(Refusal) + 1)},
            {Refusal(i).name: self.http_refusals[i] for i in range(1, len(Refusal) + 1)},
            self.input_bytes, self.output_bytes, self.turns, len(self.transports), self.transport_errors)
