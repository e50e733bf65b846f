/* The load engine: one thread, one epoll set, many connections, exact counts.
 *
 * mqtt_load.c and http_load.c include this file and give it a protocol (the
 * functions below); everything that decides what a number means stands here, once:
 *
 * - Closed loop (--rate 0): each connection keeps --window messages in flight and sends
 *   the next one when a reply arrives. Latency runs from the encoding of a message
 *   to the reading of its reply.
 * - Open loop (--rate R): message k is due at k/R whatever the server does, on
 *   connection k mod n. Latency runs from the moment a message was *due*, so that a server that
 *   stalls cannot hide the stall by slowing the generator (coordinated omission).
 *   The window still bounds what is in flight; what is due waits.
 * - Counted are replies that arrive inside the measured window [warmup, warmup+duration).
 *   Afterwards sending stops and what is in flight is waited for: `sent` == `acknowledged` in
 *   the result says that nothing was lost.
 * - --messages N sends exactly N, without warmup, and measures until the last is acknowledged.
 * - --server-pid: the CPU clock of that process (all its threads, nanoseconds, user
 *   and kernel) is read at both ends of the measured window by the generator itself,
 *   so the window of the CPU figure is the window of the count.
 * - `generator_cpu_share` near 1.0 in a closed loop means that the generator was the bottleneck
 *   and that the throughput (not the CPU per message) is a lower bound. Open loops poll
 *   and always show 1.0.
 *
 * Replies are expected in order; a lost connection, an unexpected reply or a
 * reply without a request ends the run with exit code 1 and a line on stderr.
 */
#ifndef THINGSCALE_LOAD_H
#define THINGSCALE_LOAD_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 512,
    RECEIVE_BYTES = 1 << 18,
    SCRATCH_BYTES = 1 << 20,   /* one connection's burst of messages; larger windows take several rounds */
    MESSAGE_BYTES_MAX = 1 << 17,
    OPENING_MAX = 256,         /* connections being opened at a time: below any listen backlog */
    PAYLOADS = 256,            /* different payloads, a power of two: no server sees the same bytes all the time */
};
#define NS_PER_S 1000000000ull
#define OPENING_LIMIT_S 60
#define DRAIN_LIMIT_S 20

typedef struct {
    const char *host, *user, *token, *device_prefix, *payload_kind;
    int port, connections, devices, window, source_addresses, server_pid, keepalive_s;
    size_t payload_bytes;
    double rate, duration_s, warmup_s;
    uint64_t messages;         /* 0: as many as fit into duration_s */
    bool idle;
} Options;

typedef struct {
    int fd, index;
    bool open, greets;         /* greets: open only when the greeting was answered */
    uint32_t in_flight;
    uint64_t sent, acknowledged; /* messages of this connection: ordinals */
    uint64_t *sent_at;           /* ring of clock values by ordinal & time_mask */
    uint8_t *unsent;             /* what the socket did not take */
    size_t unsent_bytes, unsent_from;
    uint8_t *partial;            /* an incomplete reply */
    size_t partial_bytes;
} Connection;

typedef struct {
    size_t bytes;              /* consumed; 0: incomplete */
    uint32_t acknowledged;     /* messages that this reply acknowledges */
    bool opened;               /* the connection may be used from now on */
} Reply;

/* ---- what a protocol gives ------------------------------------------------------------------ */
static void protocol_option(int key, const char *value);              /* keys of protocol_options */
static void protocol_prepare(void);                                   /* options are complete */
static size_t protocol_greeting(const Connection *c, uint8_t *out);   /* sent first; 0: none, open at once */
static size_t protocol_message(const Connection *c, uint64_t ordinal, uint8_t *out);
static Reply protocol_reply(const Connection *c, const uint8_t *bytes, size_t n);
static size_t protocol_last(const Connection *c, uint8_t *out);       /* sent behind the last message; 0: nothing */
static size_t protocol_farewell(uint8_t *out);
extern const struct option protocol_options[];
extern const char protocol_name[];

/* ---- small things ---------------------------------------------------------------------------- */
static Options options = {
    .host = "127.0.0.1", .user = "U000001", .token = "00000000000000000000000000000000", .device_prefix = "load-",
    .payload_kind = "json", .connections = 100, .window = 1, .source_addresses = 1, .payload_bytes = 45,
    .duration_s = 5, .warmup_s = 1, .keepalive_s = 600,
};

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s_load: ", protocol_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *allocate(size_t n, size_t size) {
    void *memory = calloc(n, size);
    if (memory == NULL) fail("out of memory");
    return memory;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t) != 0) fail("clock_gettime: %s", strerror(errno));
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* ---- latency: 64 linear steps per octave, so at most 1.6 % wide, from 1 ns to 18 minutes ---------- */
enum { STEP_BITS = 6, STEPS = 1 << STEP_BITS, BUCKETS = 36 * STEPS };
static struct { uint64_t bucket[BUCKETS], count, sum_ns, max_ns; } latency;

static void latency_record(uint64_t ns, uint64_t times) {
    unsigned octave = ns < STEPS ? 0 : 63u - (unsigned)__builtin_clzll(ns) - STEP_BITS + 1;
    uint64_t index = octave == 0 ? ns : octave * (uint64_t)STEPS + ((ns >> (octave - 1)) - STEPS);
    latency.bucket[index < BUCKETS ? index : BUCKETS - 1] += times;
    latency.count += times;
    latency.sum_ns += ns * times;
    if (ns > latency.max_ns) latency.max_ns = ns;
}

static double latency_us(double quantile) {
    uint64_t rank = (uint64_t)(quantile * (double)latency.count), seen = 0;
    for (uint64_t i = 0; i < BUCKETS; i++) {
        seen += latency.bucket[i];
        if (seen > rank) { /* the middle of the bucket */
            uint64_t octave = i / STEPS, low = octave == 0 ? i : (STEPS + i % STEPS) << (octave - 1);
            double middle = (double)low + (octave == 0 ? 0.0 : (double)(1ull << (octave - 1)) / 2);
            return (middle < (double)latency.max_ns ? middle : (double)latency.max_ns) / 1e3;
        }
    }
    return (double)latency.max_ns / 1e3;
}

/* ---- payloads --------------------------------------------------------------------------------- */
static struct { uint8_t *bytes; size_t n; } payloads[PAYLOADS];

/* Fills a payload up to --payload-bytes with one text stream; what is longer already stays as it is. */
static size_t payload_fill(char *text, const char *opening, const char *closing) {
    size_t n = strlen(text), frame = strlen(opening) + strlen(closing);
    if (text[n - 1] == '}' && options.payload_bytes > n + frame) n--; /* reopen the object */
    if (options.payload_bytes <= n + frame) return n;
    size_t pad = options.payload_bytes - n - frame;
    n += (size_t)sprintf(text + n, "%s", opening);
    memset(text + n, 'x', pad);
    strcpy(text + n + pad, closing);
    return options.payload_bytes;
}

static void payloads_prepare(void) {
    static char text[MESSAGE_BYTES_MAX];
    const char *kind = options.payload_kind;
    for (int i = 0; i < PAYLOADS; i++) {
        int t = i % 80, h = i % 7;
        if (strcmp(kind, "json") == 0) {
            if (options.payload_bytes < 45) sprintf(text, "{\"temp\":2%d.%d}", t % 10, h);
            else sprintf(text, "{\"temp\":2%d.%d,\"humidity\":%d.%d,\"pressure\":1%03d}", t % 10, h, 10 + t, h, t);
            payloads[i].n = payload_fill(text, ",\"note\":\"", "\"}");
        } else if (strcmp(kind, "number") == 0) {
            payloads[i].n = (size_t)sprintf(text, "%d.%d", 10 + t, h);
        } else if (strcmp(kind, "form") == 0) {
            sprintf(text, "v=%d.%d&v2=%d.%d", 10 + t, h, 20 + t, 9 - h);
            payloads[i].n = payload_fill(text, "&v3=", "");
        } else if (strcmp(kind, "binary") == 0) {
            sprintf(text, "%c%c", 1 + t, 128 + t);
            payloads[i].n = payload_fill(text, "\x93", "");
        } else {
            fail("--payload %s: expected json, number, form or binary", kind);
        }
        payloads[i].bytes = allocate(payloads[i].n, 1);
        memcpy(payloads[i].bytes, text, payloads[i].n);
    }
}

/* ---- the run ------------------------------------------------------------------------------------ */
static Connection *connections;
static int epoll_fd, opened;
static uint64_t time_mask, sent_total, acknowledged_total, bytes_sent, begin_ns, measure_from = UINT64_MAX, measure_to = UINT64_MAX;
static uint64_t measured_messages;
static bool sending;
static uint8_t received[RECEIVE_BYTES], scratch[SCRATCH_BYTES];
static volatile sig_atomic_t interrupted;

static void on_signal(int number) { interrupted = number; }

static void watch(Connection *c, bool wants_write, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll_fd, operation, c->fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
}

static void connection_start(Connection *c) {
    struct sockaddr_in here = {.sin_family = AF_INET}, there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int one = 1;
    if (inet_pton(AF_INET, options.host, &there.sin_addr) != 1) fail("--host %s: not an IPv4 address", options.host);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket %d of %d: %s", c->index, options.connections, strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (options.source_addresses > 1) { /* each source address has its own range of ports */
        here.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(c->index % options.source_addresses));
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&here, sizeof here) != 0) fail("bind: %s", strerror(errno));
    }
    if (connect(c->fd, (struct sockaddr *)&there, sizeof there) != 0 && errno != EINPROGRESS) fail("connect: %s", strerror(errno));
    watch(c, true, EPOLL_CTL_ADD);
    c->unsent = allocate(1, 1024);
    c->unsent_bytes = protocol_greeting(c, c->unsent);
    c->greets = c->unsent_bytes > 0;
}

static void connection_opened(Connection *c) {
    c->open = true;
    opened++;
}

/* Sends bytes now, behind what is waiting already; keeps what the socket does not take. */
static void send_or_keep(Connection *c, const uint8_t *bytes, size_t n) {
    ssize_t taken = 0;
    if (c->unsent_bytes == 0) {
        c->unsent_from = 0;
        taken = send(c->fd, bytes, n, MSG_NOSIGNAL);
        if (taken < 0) {
            if (errno != EAGAIN && errno != EINTR) fail("connection %d: send: %s", c->index, strerror(errno));
            taken = 0;
        }
        bytes_sent += (uint64_t)taken;
        if ((size_t)taken == n) return;
    }
    size_t rest = n - (size_t)taken, end = c->unsent_from + c->unsent_bytes;
    c->unsent = realloc(c->unsent, end + rest);
    if (c->unsent == NULL) fail("out of memory");
    memcpy(c->unsent + end, bytes + taken, rest);
    c->unsent_bytes += rest;
    watch(c, true, EPOLL_CTL_MOD);
}

static uint64_t due_messages(const Connection *c, uint64_t now) { /* open loop: ordinals of this connection due by now */
    double due = (double)(now - begin_ns) * options.rate / 1e9 - c->index;
    return due < 0 ? 0 : (uint64_t)(due / options.connections) + 1;
}

static uint64_t due_at(const Connection *c, uint64_t ordinal) {
    return begin_ns + (uint64_t)(((double)ordinal * options.connections + c->index) * 1e9 / options.rate);
}

static void connection_fill(Connection *c, uint64_t now) {
    while (sending && c->unsent_bytes == 0 && c->in_flight < (uint32_t)options.window) {
        uint64_t room = (uint64_t)options.window - c->in_flight;
        if (options.rate > 0) {
            uint64_t due = due_messages(c, now);
            if (due <= c->sent) return;
            if (due - c->sent < room) room = due - c->sent;
        }
        if (options.messages && options.messages - sent_total < room) room = options.messages - sent_total;
        if (room == 0) return;
        size_t n = 0;
        while (room-- > 0 && n < SCRATCH_BYTES - MESSAGE_BYTES_MAX) {
            c->sent_at[c->sent & time_mask] = options.rate > 0 ? due_at(c, c->sent) : now;
            n += protocol_message(c, c->sent, scratch + n);
            c->sent++, c->in_flight++, sent_total++;
        }
        send_or_keep(c, scratch, n);
    }
}

static void connection_flush(Connection *c) {
    if (c->unsent_bytes > 0) {
        ssize_t taken = send(c->fd, c->unsent + c->unsent_from, c->unsent_bytes, MSG_NOSIGNAL);
        if (taken < 0) {
            if (errno == EAGAIN || errno == EINTR) return;
            fail("connection %d: send: %s", c->index, strerror(errno));
        }
        bytes_sent += (uint64_t)taken;
        c->unsent_from += (size_t)taken;
        c->unsent_bytes -= (size_t)taken;
    }
    if (c->unsent_bytes == 0) watch(c, false, EPOLL_CTL_MOD);
}

static void connection_acknowledge(Connection *c, uint32_t messages, uint64_t now) {
    if (messages > c->in_flight) fail("connection %d: a reply without a request", c->index);
    c->in_flight -= messages;
    acknowledged_total += messages;
    bool measured = now >= measure_from && now < measure_to;
    for (; messages > 0; messages--, c->acknowledged++) {
        if (!measured) continue;
        uint64_t sent_at = c->sent_at[c->acknowledged & time_mask];
        latency_record(now > sent_at ? now - sent_at : 0, 1);
        measured_messages++;
    }
}

static void connection_receive(Connection *c) {
    if (c->partial_bytes > 0) memcpy(received, c->partial, c->partial_bytes);
    ssize_t n = recv(c->fd, received + c->partial_bytes, RECEIVE_BYTES - c->partial_bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) fail("connection %d was lost after %" PRIu64 " messages: %s", c->index, c->sent, n == 0 ? "closed" : strerror(errno));
    uint64_t now = now_ns();
    size_t have = c->partial_bytes + (size_t)n, at = 0;
    while (at < have) {
        Reply reply = protocol_reply(c, received + at, have - at);
        if (reply.bytes == 0) break;
        at += reply.bytes;
        if (reply.opened) connection_opened(c);
        if (reply.acknowledged) connection_acknowledge(c, reply.acknowledged, now);
    }
    c->partial_bytes = have - at;
    if (c->partial_bytes == RECEIVE_BYTES) fail("connection %d: a reply of more than %d bytes", c->index, RECEIVE_BYTES);
    if (c->partial_bytes > 0) {
        c->partial = realloc(c->partial, c->partial_bytes);
        if (c->partial == NULL) fail("out of memory");
        memcpy(c->partial, received + at, c->partial_bytes);
    }
    connection_fill(c, now);
}

static void turn(int timeout_ms) {
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(epoll_fd, events, EVENTS_MAX, timeout_ms);
    if (n < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        Connection *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) {
            if (!c->open && !c->greets && !(events[i].events & (EPOLLERR | EPOLLHUP))) connection_opened(c);
            connection_flush(c);
            if (c->open) connection_fill(c, now_ns());
        }
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) connection_receive(c);
    }
}

static void open_all(void) {
    uint64_t limit = now_ns() + OPENING_LIMIT_S * NS_PER_S;
    for (int started = 0; opened < options.connections;) {
        while (started < options.connections && started - opened < OPENING_MAX) {
            connections[started].index = started;
            connection_start(&connections[started++]);
        }
        turn(1000);
        if (now_ns() > limit) fail("%d of %d connections open after %d s", opened, options.connections, OPENING_LIMIT_S);
    }
}

/* No further messages; asks for the acknowledgement of those that are under way. */
static void stop_sending(void) {
    uint8_t last[64];
    if (!sending) return;
    sending = false;
    for (int i = 0; i < options.connections; i++) {
        size_t n = protocol_last(&connections[i], last);
        if (n > 0) send_or_keep(&connections[i], last, n);
    }
}

/* Runs until `until`, until --messages are acknowledged, or until a signal comes. */
static void run_until(uint64_t until) {
    for (uint64_t now = now_ns(); now < until && !interrupted; now = now_ns()) {
        if (options.messages && sent_total >= options.messages) {
            if (acknowledged_total >= options.messages) return;
            stop_sending();
        }
        if (options.rate > 0) {
            for (int i = 0; i < options.connections; i++) connection_fill(&connections[i], now);
            turn(0);
        } else {
            uint64_t left_ms = (until - now) / 1000000 + 1;
            turn(left_ms < 100 ? (int)left_ms : 100);
        }
    }
}

static void drain(void) {
    uint64_t limit = now_ns() + DRAIN_LIMIT_S * NS_PER_S;
    stop_sending();
    while (acknowledged_total < sent_total && now_ns() < limit) turn(100);
}

static void close_all(void) {
    uint8_t farewell[64];
    size_t n = protocol_farewell(farewell);
    for (int i = 0; i < options.connections; i++) {
        if (n > 0 && send(connections[i].fd, farewell, n, MSG_NOSIGNAL) < 0) continue; /* it is over anyway */
        close(connections[i].fd);
    }
}

static void hold_idle(double opening_s) {
    printf("{\"event\":\"idle\",\"connections\":%d,\"opening_s\":%.3f}\n", opened, opening_s);
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0) fail("stdin must be a pipe: %s", strerror(errno));
    while (!interrupted) { /* until stdin ends; a connection that says anything was closed by the server */
        struct epoll_event events[1];
        int n = epoll_wait(epoll_fd, events, 1, -1);
        if (n == 1 && events[0].data.ptr == NULL) return;
        if (n == 1) fail("connection %d did not stay idle", ((Connection *)events[0].data.ptr)->index);
    }
}

static const struct option engine_options[] = {
    {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"connections", 1, 0, 'c'}, {"window", 1, 0, 'w'}, {"devices", 1, 0, 'D'},
    {"device-prefix", 1, 0, 'P'}, {"user", 1, 0, 'u'}, {"token", 1, 0, 't'}, {"payload", 1, 0, 'k'}, {"payload-bytes", 1, 0, 'b'},
    {"rate", 1, 0, 'r'}, {"duration", 1, 0, 'd'}, {"warmup", 1, 0, 'W'}, {"messages", 1, 0, 'm'}, {"server-pid", 1, 0, 'S'},
    {"source-addresses", 1, 0, 'A'}, {"keepalive", 1, 0, 'K'}, {"idle", 0, 0, 'I'},
};

static void parse_options(int count, char **arguments) {
    struct option all[64] = {0};
    size_t n = 0;
    for (size_t i = 0; i < sizeof engine_options / sizeof *engine_options; i++) all[n++] = engine_options[i];
    for (const struct option *o = protocol_options; o->name != NULL; o++) all[n++] = *o;
    for (int key; (key = getopt_long(count, arguments, "", all, NULL)) != -1;) {
        switch (key) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 'w': options.window = atoi(optarg); break;
        case 'D': options.devices = atoi(optarg); break;
        case 'P': options.device_prefix = optarg; break;
        case 'u': options.user = optarg; break;
        case 't': options.token = optarg; break;
        case 'k': options.payload_kind = optarg; break;
        case 'b': options.payload_bytes = (size_t)atoll(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'd': options.duration_s = atof(optarg); break;
        case 'W': options.warmup_s = atof(optarg); break;
        case 'm': options.messages = (uint64_t)atoll(optarg); break;
        case 'S': options.server_pid = atoi(optarg); break;
        case 'A': options.source_addresses = atoi(optarg); break;
        case 'K': options.keepalive_s = atoi(optarg); break;
        case 'I': options.idle = true; break;
        case '?': exit(2);
        default: protocol_option(key, optarg);
        }
    }
    if (options.devices == 0) options.devices = options.connections;
    if (options.messages) options.warmup_s = 0; /* a given number is measured whole */
    if (options.port < 1 || options.port > 65535) fail("--port is missing");
    if (options.connections < 1 || options.window < 1 || options.window > 32768) fail("--connections or --window is out of range");
    if (options.source_addresses < 1 || options.source_addresses > 250) fail("--source-addresses is out of range");
    if (options.payload_bytes > MESSAGE_BYTES_MAX - 4096) fail("--payload-bytes: at most %d", MESSAGE_BYTES_MAX - 4096);
}

/* The device that connection i speaks for: prefix and five digits. */
static int device_name(const Connection *c, char *out) { return sprintf(out, "%s%05d", options.device_prefix, c->index % options.devices); }

int main(int count, char **arguments) {
    parse_options(count, arguments);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    payloads_prepare();
    protocol_prepare();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    connections = allocate((size_t)options.connections, sizeof *connections);
    for (time_mask = 1; time_mask < (uint64_t)options.window; time_mask <<= 1) {}
    time_mask--;
    if (!options.idle)
        for (int i = 0; i < options.connections; i++) connections[i].sent_at = allocate(time_mask + 1, sizeof(uint64_t));

    uint64_t opening_ns = now_ns();
    open_all();
    double opening_s = (double)(now_ns() - opening_ns) / 1e9;
    if (options.idle) {
        hold_idle(opening_s);
        close_all();
        return 0;
    }
    clockid_t server_clock = 0;
    if (options.server_pid && clock_getcpuclockid(options.server_pid, &server_clock) != 0) fail("--server-pid %d: no such process", options.server_pid);

    begin_ns = now_ns();
    sending = true;
    for (int i = 0; i < options.connections; i++) connection_fill(&connections[i], begin_ns);
    run_until(begin_ns + (uint64_t)(options.warmup_s * 1e9));
    uint64_t server_cpu = options.server_pid ? clock_ns(server_clock) : 0, own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    measure_from = now_ns();
    run_until(options.messages ? UINT64_MAX : measure_from + (uint64_t)(options.duration_s * 1e9));
    measure_to = now_ns();
    if (options.server_pid) server_cpu = clock_ns(server_clock) - server_cpu;
    own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_cpu;
    drain();
    close_all();

    double seconds = (double)(measure_to - measure_from) / 1e9, messages = (double)measured_messages;
    printf("{\"messages\":%" PRIu64 ",\"seconds\":%.6f,\"per_second\":%.1f,", measured_messages, seconds, messages / seconds);
    printf("\"latency_us\":{\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f},",
           latency.count ? (double)latency.sum_ns / (double)latency.count / 1e3 : 0.0, latency_us(0.5), latency_us(0.9),
           latency_us(0.99), latency_us(0.999), (double)latency.max_ns / 1e3);
    if (options.server_pid)
        printf("\"server_cpu_s\":%.6f,\"server_cpu_us_per_message\":%.4f,", (double)server_cpu / 1e9, messages > 0 ? (double)server_cpu / 1e3 / messages : 0.0);
    printf("\"generator_cpu_share\":%.3f,\"connections\":%d,\"opening_s\":%.3f,\"bytes_sent\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"acknowledged\":%" PRIu64 "}\n",
           (double)own_cpu / 1e9 / seconds, options.connections, opening_s, bytes_sent, sent_total, acknowledged_total);
    if (acknowledged_total != sent_total) fail("%" PRIu64 " messages were never acknowledged", sent_total - acknowledged_total);
    return 0;
}

#endif
