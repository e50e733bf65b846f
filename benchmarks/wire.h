/* One non-blocking connection in the epoll set of the process, plain or in TLS.
 *
 * A wire keeps what its socket did not take (and then watches for room) and the beginning of a packet
 * whose end has not come. All reads land in one buffer of the process: what wire_read found there
 * is valid until the next call, and what is to be seen again is given back with wire_keep.
 *
 * TLS is OpenSSL's, verified against the CA of --tls; without OpenSSL's headers the programs
 * still compile, and refuse --tls by name. While a handshake runs the wire asks for both directions, so
 * a turn of the loop may find nothing to do; that is before anything is measured.
 */
#ifndef THINGSCALE_WIRE_H
#define THINGSCALE_WIRE_H

#include "instruments.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef struct ssl_st SSL;
#endif

enum {
    RECEIVE_BYTES = 1 << 18,
    TLS_READ_BYTES_MIN = 1 << 14, /* a whole record fits into what is left of the buffer */
    GREETING_BYTES_MAX = 1024,
};

typedef struct {
    int fd, index;
    SSL *tls;
    void *owner;               /* what epoll events point to */
    uint8_t *unsent;           /* what the socket did not take */
    size_t unsent_bytes, unsent_from;
    uint8_t *partial;          /* an incomplete packet */
    size_t partial_bytes;
} Wire;

static int epoll_fd;
static uint64_t bytes_sent;
static uint8_t received[RECEIVE_BYTES];

#ifdef WITH_TLS
static SSL_CTX *tls_context;

static void wire_prepare_tls(const char *ca_file) {
    tls_context = SSL_CTX_new(TLS_client_method());
    if (tls_context == NULL || SSL_CTX_load_verify_file(tls_context, ca_file) != 1) fail("--tls %s: not a file of certificates", ca_file);
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(tls_context, 1);
}

static void wire_wrap(Wire *w) {
    if (tls_context == NULL) return;
    w->tls = SSL_new(tls_context);
    if (w->tls == NULL || SSL_set_fd(w->tls, w->fd) != 1 || SSL_set1_host(w->tls, "localhost") != 1) fail("connection %d: no TLS", w->index);
    SSL_set_connect_state(w->tls);
}

/* What SSL_read or SSL_write did, in the manner of recv(2) and send(2). */
static ssize_t tls_outcome(Wire *w, int outcome) {
    if (outcome > 0) return outcome;
    int reason = SSL_get_error(w->tls, outcome);
    if (reason == SSL_ERROR_ZERO_RETURN) return 0;
    if (reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE) errno = EAGAIN;
    else if (reason == SSL_ERROR_SSL) fail("connection %d: TLS: %s", w->index, ERR_reason_error_string(ERR_get_error()));
    else if (errno == 0) return 0;
    return -1;
}

static ssize_t tls_send(Wire *w, const uint8_t *bytes, size_t n) {
    size_t taken = 0;
    while (taken < n) {
        ERR_clear_error();
        errno = 0;
        ssize_t part = tls_outcome(w, SSL_write(w->tls, bytes + taken, (int)(n - taken)));
        if (part <= 0) return taken > 0 ? (ssize_t)taken : -1;
        taken += (size_t)part;
    }
    return (ssize_t)taken;
}

static ssize_t tls_receive(Wire *w, uint8_t *out, size_t n) {
    size_t got = 0;
    do {
        ERR_clear_error();
        errno = 0;
        ssize_t part = tls_outcome(w, SSL_read(w->tls, out + got, (int)(n - got)));
        if (part <= 0) return got > 0 ? (ssize_t)got : part;
        got += (size_t)part;
    } while (n - got >= TLS_READ_BYTES_MIN);
    return (ssize_t)got;
}

static bool wire_has_more(const Wire *w) { return w->tls != NULL && SSL_has_pending(w->tls); }
#else
static void wire_prepare_tls(const char *ca_file) { fail("--tls %s: compiled without OpenSSL's headers", ca_file); }
static void wire_wrap(Wire *w) { w->tls = NULL; }
static ssize_t tls_send(Wire *w, const uint8_t *bytes, size_t n) { (void)w, (void)bytes, (void)n; return -1; }
static ssize_t tls_receive(Wire *w, uint8_t *out, size_t n) { (void)w, (void)out, (void)n; return -1; }
static bool wire_has_more(const Wire *w) { (void)w; return false; }
#endif

static ssize_t send_some(Wire *w, const uint8_t *bytes, size_t n) {
    ssize_t taken = w->tls == NULL ? send(w->fd, bytes, n, MSG_NOSIGNAL) : tls_send(w, bytes, n);
    if (taken < 0 && errno != EAGAIN && errno != EINTR) fail("connection %d: send: %s", w->index, strerror(errno));
    if (taken > 0) bytes_sent += (uint64_t)taken;
    return taken < 0 ? 0 : taken;
}

static void watch(Wire *w, bool wants_write, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.ptr = w->owner};
    if (epoll_ctl(epoll_fd, operation, w->fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
}

/* Begins to connect; the first EPOLLOUT says that it is done. `source` >= 0 chooses an address of 127/8 to
   come from: each has its own range of ports. */
static void wire_connect(Wire *w, const char *host, int port, int source) {
    struct sockaddr_in here = {.sin_family = AF_INET}, there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    if (inet_pton(AF_INET, host, &there.sin_addr) != 1) fail("--host %s: not an IPv4 address", host);
    w->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->fd < 0) fail("socket of connection %d: %s", w->index, strerror(errno));
    setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (source >= 0) {
        here.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)source);
        setsockopt(w->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(w->fd, (struct sockaddr *)&here, sizeof here) != 0) fail("bind: %s", strerror(errno));
    }
    if (connect(w->fd, (struct sockaddr *)&there, sizeof there) != 0 && errno != EINPROGRESS) fail("connect: %s", strerror(errno));
    wire_wrap(w);
    watch(w, true, EPOLL_CTL_ADD);
    w->unsent = allocate(1, GREETING_BYTES_MAX);
}

/* Sends bytes now, behind what is waiting already; keeps what the socket does not take. */
static void wire_write(Wire *w, const uint8_t *bytes, size_t n) {
    size_t taken = 0;
    if (w->unsent_bytes == 0) {
        w->unsent_from = 0;
        taken = (size_t)send_some(w, bytes, n);
        if (taken == n) return;
    }
    size_t rest = n - taken, end = w->unsent_from + w->unsent_bytes;
    w->unsent = realloc(w->unsent, end + rest);
    if (w->unsent == NULL) fail("out of memory");
    memcpy(w->unsent + end, bytes + taken, rest);
    w->unsent_bytes += rest;
    watch(w, true, EPOLL_CTL_MOD);
}

static void wire_flush(Wire *w) {
    if (w->unsent_bytes > 0) {
        size_t taken = (size_t)send_some(w, w->unsent + w->unsent_from, w->unsent_bytes);
        if (taken == 0) return;
        w->unsent_from += taken;
        w->unsent_bytes -= taken;
    }
    if (w->unsent_bytes == 0) watch(w, false, EPOLL_CTL_MOD);
}

/* How many bytes stand in `received`, what was kept before included; 0: nothing new. */
static size_t wire_read(Wire *w) {
    size_t kept = w->partial_bytes, room = RECEIVE_BYTES - kept;
    if (kept > 0) memcpy(received, w->partial, kept);
    ssize_t n = w->tls == NULL ? recv(w->fd, received + kept, room, 0) : tls_receive(w, received + kept, room);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) fail("connection %d was lost: %s", w->index, n == 0 ? "closed" : strerror(errno));
    return kept + (size_t)n;
}

static void wire_keep(Wire *w, const uint8_t *bytes, size_t n) {
    w->partial_bytes = n;
    if (n == RECEIVE_BYTES) fail("connection %d: a packet of more than %d bytes", w->index, RECEIVE_BYTES);
    if (n == 0) return;
    w->partial = realloc(w->partial, n);
    if (w->partial == NULL) fail("out of memory");
    memcpy(w->partial, bytes, n);
}

/* Says goodbye, if there is something to say and nothing waits before it, and closes. */
static void wire_close(Wire *w, const uint8_t *farewell, size_t n) {
    if (n > 0 && w->unsent_bytes == 0) {
        if (w->tls != NULL) tls_send(w, farewell, n);
        else if (send(w->fd, farewell, n, MSG_NOSIGNAL) < 0) n = 0; /* it is over anyway */
    }
    close(w->fd);
}

#endif
