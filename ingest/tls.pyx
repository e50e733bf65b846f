"""TLS as the reactor speaks it: OpenSSL over two stretches of memory, without a Python object per record.

OpenSSL wants something to read from and write to for each connection. Ours has no memory: it reads what the caller has
received just now and writes behind what it has written in this call, into one buffer for all connections, which the
caller sends before the next one has its turn. A record thus goes from the socket's buffer through OpenSSL to the
reactor's and back with one copy each, and an idle connection has OpenSSL's state alone; record buffers exist while a
record is under way (SSL_MODE_RELEASE_BUFFERS). All of that stands on one thread: whoever calls holds the GIL, and
OpenSSL never waits.

``TlsTransport`` is also a transport like the others (ingest.transports), for WebSocket within TLS: bytes in, bytes out.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from ingest.libssl cimport Libssl, libssl, reason, set_options

from ingest.transports import TransportError

cdef enum:
    # openssl/ssl.h
    CTRL_MODE = 33
    CTRL_MAX_SEND_FRAGMENT = 52
    CTRL_MIN_PROTO_VERSION = 123
    MODE_RELEASE_BUFFERS = 0x10
    OP_NO_COMPRESSION = 1 << 17
    OP_CIPHER_SERVER_PREFERENCE = 1 << 22
    OP_NO_RENEGOTIATION = 1 << 30
    FILETYPE_PEM = 1
    VERIFY_PEER = 1
    VERIFY_FAIL_IF_NO_PEER_CERT = 2
    ERROR_WANT_READ = 2
    ERROR_ZERO_RETURN = 6
    # openssl/bio.h
    BIO_TYPE_SOURCE_SINK = 0x400
    BIO_CTRL_FLUSH = 11
    BIO_RETRY_READ = 0x01 | 0x08    # BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY
    SEALED_BYTES_LEAST = 1 << 15

VERSIONS = {"1.2": 0x0303, "1.3": 0x0304}
# Which sessions belong together. OpenSSL resumes none with a client's certificate unless this is set.
cdef const unsigned char* SESSION_CONTEXT = b"thingscale"

cdef const Libssl* lib = NULL
cdef void* method = NULL                # of the connections' BIOs

# Of the connection in hand: what came. What leaves is ``sealed``.
cdef const uint8_t* incoming = NULL
cdef size_t incoming_left = 0


cdef int bio_read(void* bio, char* data, size_t size, size_t* got) noexcept nogil:
    global incoming, incoming_left
    lib.bio_clear_flags(bio, BIO_RETRY_READ)
    if incoming_left == 0:
        lib.bio_set_flags(bio, BIO_RETRY_READ)
        return 0
    got[0] = min(size, incoming_left)
    memcpy(data, incoming, got[0])
    incoming += got[0]
    incoming_left -= got[0]
    return 1


cdef int bio_write(void* bio, const char* data, size_t size, size_t* written) noexcept nogil:
    cdef size_t wanted = max(sealed.size, <size_t>SEALED_BYTES_LEAST)
    cdef void* grown
    while wanted < sealed.used + size:
        wanted *= 2
    if wanted > sealed.size:
        grown = realloc(sealed.data, wanted)
        if grown == NULL:
            return 0
        sealed.data = <uint8_t*>grown
        sealed.size = wanted
    memcpy(sealed.data + sealed.used, data, size)
    sealed.used += size
    written[0] = size
    return 1


cdef long bio_ctrl(void* bio, int command, long number, void* more) noexcept nogil:
    return command == BIO_CTRL_FLUSH


cdef int start() except -1:
    """Once, before the first context. Raises LibsslMissingError."""
    global lib, method
    if method != NULL:
        return 0
    lib = libssl()
    cdef void* made = lib.bio_meth_new(lib.bio_get_new_index() | BIO_TYPE_SOURCE_SINK, "thingscale")
    if made == NULL:
        raise MemoryError
    lib.bio_meth_set_read(made, bio_read)
    lib.bio_meth_set_write(made, bio_write)
    lib.bio_meth_set_ctrl(made, bio_ctrl)
    method = made
    return 0


cdef class TlsContext:
    """See the stub."""

    def __cinit__(self, str minimum, str ciphers, int tickets, int record_bytes_max):
        start()
        self.ctx = lib.ctx_new(lib.tls_server_method())
        if self.ctx == NULL:
            raise ValueError(reason())
        set_options(self.ctx, OP_NO_COMPRESSION | OP_NO_RENEGOTIATION | OP_CIPHER_SERVER_PREFERENCE)
        lib.ctx_ctrl(self.ctx, CTRL_MODE, MODE_RELEASE_BUFFERS, NULL)
        # An empty password: a key that has one is refused, instead of asked for on the terminal.
        lib.ctx_set_password(self.ctx, <void*><const char*>b"")
        self.check(lib.ctx_ctrl(self.ctx, CTRL_MIN_PROTO_VERSION, VERSIONS[minimum], NULL))
        self.check(lib.ctx_ctrl(self.ctx, CTRL_MAX_SEND_FRAGMENT, record_bytes_max, NULL))
        self.check(lib.ctx_set_cipher_list(self.ctx, ciphers.encode()))
        self.check(lib.ctx_set_num_tickets(self.ctx, tickets))
        self.check(lib.ctx_set_session_id_context(self.ctx, SESSION_CONTEXT, 10))

    def __dealloc__(self):
        if self.ctx != NULL:
            lib.ctx_free(self.ctx)

    cdef int check(self, long answer) except -1:
        if answer != 1:
            raise ValueError(reason())
        return 0

    def load_certificate(self, str chain, str key):
        readable(chain)
        readable(key)
        self.check(lib.ctx_use_certificate_chain_file(self.ctx, chain.encode()))
        self.check(lib.ctx_use_private_key_file(self.ctx, key.encode(), FILETYPE_PEM))
        self.check(lib.ctx_check_private_key(self.ctx))

    def ask_for_client_certificates(self, str ca, bint is_required):
        readable(ca)
        self.check(lib.ctx_load_verify_locations(self.ctx, ca.encode(), NULL))
        lib.ctx_set_verify(self.ctx, VERIFY_PEER | (VERIFY_FAIL_IF_NO_PEER_CERT if is_required else 0), NULL)


def readable(str path):
    """Raises OSError: OpenSSL's words for that name no reason."""
    with open(path, "rb"):
        pass


cdef class TlsTransport:
    """See the stub."""

    def __cinit__(self, TlsContext context):
        cdef void* bio
        self.owed = b""
        self.ssl = lib.new(context.ctx)
        bio = lib.bio_new(method)
        if self.ssl == NULL or bio == NULL:
            raise MemoryError
        lib.bio_set_init(bio, 1)
        lib.set_bio(self.ssl, bio, bio)
        lib.set_accept_state(self.ssl)

    def __dealloc__(self):
        if self.ssl != NULL:
            lib.free(self.ssl)

    # ---- for the reactor

    cdef int64_t unseal(self, const uint8_t* data, size_t size, uint8_t* plain, size_t room) except -1:
        """Socket bytes in, MQTT bytes into ``plain``; how many. What ``sealed`` then has is owed at once.

        Afterwards ``broken`` says whether the peer broke TLS; what came before that has come out.
        """
        global incoming, incoming_left
        cdef size_t got = 0
        cdef int answer
        assert room >= size + RECORD_BYTES_MAX, "a record that came in pieces comes out at its last one"
        sealed.used = 0
        if self.is_ended:
            return 0
        forget_errors()
        incoming, incoming_left = data, size
        # OpenSSL takes the bytes of one record at a time, so it holds nothing back when nothing is left here.
        while incoming_left and not self.is_ended:
            answer = lib.read(self.ssl, plain + got, <int>min(room - got, <size_t>RECORD_BYTES_MAX))
            if answer > 0:
                got += <size_t>answer
            else:
                self.look_at(lib.get_error(self.ssl, answer))
        incoming, incoming_left = NULL, 0
        return <int64_t>got

    cdef int look_at(self, int error) except -1:
        """Why nothing came out."""
        if error == ERROR_WANT_READ:
            assert incoming_left == 0, "OpenSSL wants more than there is"
            return 0
        self.is_ended = True
        if error != ERROR_ZERO_RETURN:
            self.broken = reason()
        return 0

    cdef bint seal(self, const uint8_t* data, size_t size) except -1:
        """MQTT bytes in, socket bytes into ``sealed``. False when nothing can be said any more."""
        sealed.used = 0
        if size == 0 or lib.write(self.ssl, data, <int>size) > 0:
            return True
        lib.err_clear_error()
        sealed.used = 0
        return False

    # ---- for everybody

    def receive(self, bytes data not None):
        cdef size_t room = <size_t>len(data) + RECORD_BYTES_MAX
        cdef bytes plain = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>room)
        cdef bint was_broken = self.broken is not None
        cdef int64_t got = self.unseal(<const uint8_t*><const char*>data, <size_t>len(data),
                                       <uint8_t*>PyBytes_AS_STRING(plain), room)
        if sealed.used:
            self.owed += sealed_bytes()
        if self.broken is not None and not was_broken:
            raise TransportError(f"TLS: {self.broken}", plain[:got])
        return plain[:got]

    def send(self, bytes data not None):
        if not self.seal(<const uint8_t*><const char*>data, <size_t>len(data)):
            raise TransportError(f"TLS: {self.broken or 'nothing can be said any more'}")
        return sealed_bytes()

    def take_pending(self):
        owed, self.owed = self.owed, b""
        return owed

    def ended(self):
        goodbye = self.take_pending()
        if not self.has_parted and self.broken is None and lib.is_init_finished(self.ssl):
            # The peer's close_notify is not waited for.
            self.has_parted = True
            sealed.used = 0
            lib.shutdown(self.ssl)
            forget_errors()
            goodbye += sealed_bytes()
        return goodbye

    @property
    def is_resumed(self):
        return bool(lib.session_reused(self.ssl))


cdef void forget_errors() noexcept:
    """Somebody else's would be taken for this connection's."""
    if lib.err_peek_last_error():
        lib.err_clear_error()


cdef bytes sealed_bytes():
    return <bytes>(<const char*>sealed.data)[:sealed.used] if sealed.used else b""
