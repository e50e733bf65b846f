"""Sessions and the namespaces they live in.

A session is what MQTT remembers of a client: subscriptions, messages owed to it, packet ids of its own QoS 2 messages,
its will. It may outlive its connection; then it has a number, and every change of it is noted in the log. A namespace
is a user's topics and clients; nothing passes from one to another.

Compiled so that the relay reads them without a look-up by name; what the fields mean stands in the stub.
"""

cimport cython

from ingest.mqtt.options import NEVER
from ingest.mqtt.retained import RetainedMessages
from ingest.mqtt.subscriptions import SubscriptionTree

cdef int64_t NEVER_S = NEVER
cdef dict NO_SUBSCRIPTIONS = {}
cdef frozenset NO_IDS = frozenset()


@cython.final
cdef class Connection:
    """See the stub."""

    def __cinit__(self, uint32_t slot):
        self.slot = slot
        self.explains = self.is_clean = True


@cython.final
cdef class Session:
    """See the stub."""

    def __cinit__(self, Namespace namespace, bytes client_id):
        self.namespace = namespace
        self.client_id = client_id
        self.subscriptions = NO_SUBSCRIPTIONS
        self.inbound = NO_IDS

    @property
    def expires_at_us(self):
        return 0 if self.expiry_s == NEVER_S else self.closed_at_us + self.expiry_s * 1_000_000

    def subscribe(self, bytes text, granted):
        if self.subscriptions is NO_SUBSCRIPTIONS:
            self.subscriptions = {}
        self.subscriptions[text] = granted
        return self.namespace.tree.add(text, self, granted)

    def unsubscribe(self, bytes text):
        if self.subscriptions.pop(text, None) is None:
            return False
        return self.namespace.tree.remove(text, self)

    cpdef int take_inbound(self, int packet_id) except -1:
        if self.inbound is NO_IDS:
            self.inbound = set()
        self.inbound.add(packet_id)
        return 0

    cpdef bint release_inbound(self, int packet_id):
        if packet_id not in self.inbound:
            return False
        self.inbound.remove(packet_id)
        return True


@cython.final
cdef class Namespace:
    """See the stub."""

    def __cinit__(self, str user_id, bytes token):
        self.user_id = user_id
        self.token = token
        self.previous = ()
        self.sessions = {}
        self.tree = SubscriptionTree()
        self.retained = RetainedMessages()
        self.routes = {}

    def token_in(self, bytes topic):
        if self.previous:
            first = topic.split(b"/", 1)[0]
            for token in self.previous:
                if token == first:
                    return token
        return self.token

    def twins(self, bytes topic):
        if not self.previous:
            return []
        first, slash, rest = topic.partition(b"/")
        tokens = (self.token, *self.previous)
        if first not in tokens:
            return []
        return [token + slash + rest for token in tokens if token != first]

    def live(self):
        for session in self.sessions.values():
            if session.connection is not None:
                yield session, session.connection
