/* The null server: what an ingest server costs that does nothing.
 *
 * One thread, one level-triggered epoll set, one recv(2) and one send(2) per readable
 * connection; packets are framed and answered (CONNECT, PUBLISH of every QoS, PUBREL, SUBSCRIBE, UNSUBSCRIBE, PINGREQ; any HTTP
 * request with a Content-Length gets 200), nothing is parsed beyond framing, checked or stored. Its
 * CPU per message is the price of the kernel's sockets, and its throughput shows what the
 * load generators can drive.
 *
 *     null_server [--mqtt PORT] [--http PORT]
 *
 * Ports default to 0. Prints the ready line of `thingscale serve` and, after SIGTERM, one JSON line of counts.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 512,
    RECEIVE_BYTES = 1 << 18, /* one recv; also the largest packet or request head */
    REPLY_BYTES = 1 << 23,   /* replies to one recv: an HTTP reply of 79 bytes for a request of at least 5 */
    BACKLOG = 4096,
};
static const char HTTP_OK[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nOK";

typedef struct {
    int fd;
    bool http;
    uint8_t *partial, *unsent;
    size_t partial_bytes, unsent_bytes, unsent_from, skip; /* skip: bytes of a body that are still to come */
} Connection;

static int epoll_fd;
static uint64_t connections_total, publishes, requests;
static uint8_t received[RECEIVE_BYTES], replies[REPLY_BYTES];
static size_t reply_bytes;
static volatile sig_atomic_t stopped;

static void on_signal(int number) { stopped = number; }

static void fail(const char *what) {
    fprintf(stderr, "null_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void reply(const void *bytes, size_t n) {
    if (reply_bytes + n > REPLY_BYTES) fail("replies overflow");
    memcpy(replies + reply_bytes, bytes, n);
    reply_bytes += n;
}

static void watch(Connection *c, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) != 0) fail("epoll_ctl");
}

/* One packet: its size, 0 when incomplete, SIZE_MAX when the connection is to be closed. */
static size_t take_packet(const uint8_t *p, size_t n) {
    size_t remaining = 0, at = 1;
    for (unsigned shift = 0;; shift += 7) {
        if (at >= n) return 0;
        uint8_t digit = p[at++];
        remaining |= (size_t)(digit & 0x7f) << shift;
        if (!(digit & 0x80)) break;
        if (shift == 21) return SIZE_MAX;
    }
    if (at + remaining > RECEIVE_BYTES) return SIZE_MAX;
    if (n < at + remaining) return 0;
    const uint8_t *body = p + at;
    switch (p[0] >> 4) {
    case 1: reply("\x20\x02\x00\x00", 4); break;
    case 3: {
        unsigned qos = p[0] >> 1 & 3;
        size_t topic = remaining >= 2 ? (size_t)body[0] << 8 | body[1] : remaining;
        if (remaining < 2 + topic + (qos ? 2 : 0)) return SIZE_MAX;
        publishes++;
        uint8_t ack[4] = {qos == 1 ? 0x40 : 0x50, 2, body[2 + topic], body[3 + topic]};
        if (qos) reply(ack, 4);
        break;
    }
    case 6: case 8: case 10: {
        if (remaining < 2) return SIZE_MAX;
        uint8_t type = p[0] >> 4;
        uint8_t ack[5] = {type == 6 ? 0x70 : type == 8 ? 0x90 : 0xb0, type == 8 ? 3 : 2, body[0], body[1], 0x80};
        reply(ack, type == 8 ? 5 : 4);
        break;
    }
    case 12: reply("\xd0\x00", 2); break;
    case 14: return SIZE_MAX;
    default: break;
    }
    return at + remaining;
}

static size_t take_request(Connection *c, const char *p, size_t n) {
    if (c->skip > 0) {
        size_t part = n < c->skip ? n : c->skip;
        c->skip -= part;
        if (c->skip == 0) reply(HTTP_OK, sizeof HTTP_OK - 1);
        return part;
    }
    const char *end = memmem(p, n, "\r\n\r\n", 4);
    if (end == NULL) return n >= RECEIVE_BYTES / 2 ? SIZE_MAX : 0;
    for (const char *line = p; line < end; line++) { /* starts on the request line, which is no header */
        line = memchr(line, '\n', (size_t)(end - line));
        if (line == NULL) break;
        if (strncasecmp(line + 1, "content-length:", 15) == 0) c->skip = strtoul(line + 16, NULL, 10);
    }
    requests++;
    if (c->skip == 0) reply(HTTP_OK, sizeof HTTP_OK - 1);
    return (size_t)(end + 4 - p);
}

static void connection_close(Connection *c) {
    close(c->fd);
    free(c->partial);
    free(c->unsent);
    free(c);
}

static void connection_flush(Connection *c) {
    ssize_t taken = send(c->fd, c->unsent + c->unsent_from, c->unsent_bytes, MSG_NOSIGNAL);
    if (taken < 0 && errno != EAGAIN) {
        connection_close(c);
        return;
    }
    if (taken > 0) c->unsent_from += (size_t)taken, c->unsent_bytes -= (size_t)taken;
    if (c->unsent_bytes == 0) watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

static void connection_read(Connection *c) {
    if (c->partial_bytes > 0) memcpy(received, c->partial, c->partial_bytes);
    ssize_t n = recv(c->fd, received + c->partial_bytes, RECEIVE_BYTES - c->partial_bytes, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        connection_close(c);
        return;
    }
    size_t have = c->partial_bytes + (size_t)n, at = 0, taken = 0;
    reply_bytes = 0;
    while (at < have) {
        taken = c->http ? take_request(c, (char *)received + at, have - at) : take_packet(received + at, have - at);
        if (taken == 0 || taken == SIZE_MAX) break;
        at += taken;
    }
    ssize_t sent = reply_bytes == 0 ? 0 : send(c->fd, replies, reply_bytes, MSG_NOSIGNAL);
    if (taken == SIZE_MAX || (sent < 0 && errno != EAGAIN)) {
        connection_close(c);
        return;
    }
    c->partial_bytes = have - at;
    if (c->partial_bytes > 0) {
        c->partial = realloc(c->partial, c->partial_bytes);
        if (c->partial == NULL) fail("partial");
        memcpy(c->partial, received + at, c->partial_bytes);
    } else if (c->partial != NULL) {
        free(c->partial);
        c->partial = NULL;
    }
    size_t kept = reply_bytes - (sent > 0 ? (size_t)sent : 0);
    if (kept > 0) { /* the peer does not read: stop reading until it does */
        c->unsent = realloc(c->unsent, kept);
        if (c->unsent == NULL) fail("unsent");
        memcpy(c->unsent, replies + (reply_bytes - kept), kept);
        c->unsent_bytes = kept;
        c->unsent_from = 0;
        watch(c, EPOLLOUT, EPOLL_CTL_MOD);
    }
}

static Connection listen_on(int *port, bool http) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, BACKLOG) != 0) fail("listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return (Connection){.fd = fd, .http = http};
}

static void accept_all(const Connection *listener) {
    int one = 1;
    for (int fd; (fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0; connections_total++) {
        Connection *c = calloc(1, sizeof *c);
        if (c == NULL) fail("accept");
        *c = (Connection){.fd = fd, .http = listener->http};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(c, EPOLLIN, EPOLL_CTL_ADD);
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) fail("accept");
}

int main(int count, char **arguments) {
    static const struct option names[] = {{"mqtt", 1, 0, 'm'}, {"http", 1, 0, 'h'}, {NULL, 0, 0, 0}};
    int mqtt_port = 0, http_port = 0;
    for (int key; (key = getopt_long(count, arguments, "", names, NULL)) != -1;) {
        if (key == '?') return 2;
        *(key == 'm' ? &mqtt_port : &http_port) = atoi(optarg);
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    Connection mqtt = listen_on(&mqtt_port, false), http = listen_on(&http_port, true);
    watch(&mqtt, EPOLLIN, EPOLL_CTL_ADD);
    watch(&http, EPOLLIN, EPOLL_CTL_ADD);
    printf("{\"ready\":true,\"http\":\"127.0.0.1:%d\",\"mqtt\":\"127.0.0.1:%d\",\"data\":null,\"pid\":%d}\n", http_port, mqtt_port, (int)getpid());
    fflush(stdout);
    while (!stopped) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        if (n < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            if (c == &mqtt || c == &http) accept_all(c);
            else if (c->unsent_bytes > 0) connection_flush(c);
            else connection_read(c);
        }
    }
    printf("{\"connections\":%" PRIu64 ",\"publishes\":%" PRIu64 ",\"requests\":%" PRIu64 "}\n", connections_total, publishes, requests);
    return 0;
}
