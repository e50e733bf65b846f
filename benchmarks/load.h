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

#include "wire.h"
#include <getopt.h>

enum {
    EVENTS_MAX = 512,
    SCRATCH_BYTES = 1 << 20,   /* one connection's burst of messages; larger windows take several rounds */
    MESSAGE_BYTES_MAX = 1 << 17,
    OPENING_MAX = 64,          /* connections being opened at a time: below any listen backlog (mosquitto: 100) */
    PAYLOADS = 256,            /* different payloads, a power of two: no server sees the same bytes all the time */
};
#define OPENING_LIMIT_S 60
#define DRAIN_LIMIT_S 20

typedef struct {
    const char *host, *user, *token, *device_prefix, *payload_kind, *tls;
    int port, connections, devices, window, source_addresses, server_pid, keepalive_s;
    size_t payload_bytes;
    double rate, duration_s, warmup_s;
    uint64_t messages;         /* 0: as many as fit into duration_s */
    bool idle;
} Options;

typedef struct {
    Wire wire;
    int index;
    bool open, greets;         /* greets: open only when the greeting was answered */
    uint32_t in_flight;
    uint64_t sent, acknowledged; /* messages of this connection: ordinals */
    uint64_t *sent_at;           /* ring of clock values by ordinal & time_mask */
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

static Options options = {
    .host = "127.0.0.1", .user = "U000001", .token = "00000000000000000000000000000000", .device_prefix = "load-",
    .payload_kind = "json", .connections = 100, .window = 1, .source_addresses = 1, .payload_bytes = 45,
    .duration_s = 5, .warmup_s = 1, .keepalive_s = 600,
};

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
static int opened;
static uint64_t time_mask, sent_total, acknowledged_total, begin_ns, measure_from = UINT64_MAX, measure_to = UINT64_MAX;
static uint64_t measured_messages;
static bool sending;
static uint8_t scratch[SCRATCH_BYTES];

static void connection_start(Connection *c) {
    c->wire.index = c->index;
    c->wire.owner = c;
    wire_connect(&c->wire, options.host, options.port, options.source_addresses > 1 ? c->index % options.source_addresses : -1);
    c->wire.unsent_bytes = protocol_greeting(c, c->wire.unsent);
    c->greets = c->wire.unsent_bytes > 0;
}

static void connection_opened(Connection *c) {
    c->open = true;
    opened++;
}

static uint64_t due_messages(const Connection *c, uint64_t now) { /* open loop: ordinals of this connection due by now */
    double due = (double)(now - begin_ns) * options.rate / 1e9 - c->index;
    return due < 0 ? 0 : (uint64_t)(due / options.connections) + 1;
}

static uint64_t due_at(const Connection *c, uint64_t ordinal) {
    return begin_ns + (uint64_t)(((double)ordinal * options.connections + c->index) * 1e9 / options.rate);
}

static void connection_fill(Connection *c, uint64_t now) {
    while (sending && c->wire.unsent_bytes == 0 && c->in_flight < (uint32_t)options.window) {
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
        wire_write(&c->wire, scratch, n);
    }
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
    size_t have, at;
    do {
        have = wire_read(&c->wire);
        uint64_t now = now_ns();
        for (at = 0; at < have;) {
            Reply reply = protocol_reply(c, received + at, have - at);
            if (reply.bytes == 0) break;
            at += reply.bytes;
            if (reply.opened) connection_opened(c);
            if (reply.acknowledged) connection_acknowledge(c, reply.acknowledged, now);
        }
        if (have > 0) wire_keep(&c->wire, received + at, have - at);
        connection_fill(c, now);
    } while (have > 0 && wire_has_more(&c->wire));
}

static void turn(int timeout_ms) {
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(epoll_fd, events, EVENTS_MAX, timeout_ms);
    if (n < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        Connection *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) {
            if (!c->open && !c->greets && !(events[i].events & (EPOLLERR | EPOLLHUP))) connection_opened(c);
            wire_flush(&c->wire);
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
        if (n > 0) wire_write(&connections[i].wire, last, n);
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
    for (int i = 0; i < options.connections; i++) wire_close(&connections[i].wire, farewell, n);
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
    {"tls", 1, 0, 'L'},
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
        case 'L': options.tls = optarg; break;
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
    process_prepare();
    if (options.tls) wire_prepare_tls(options.tls);
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
    cpu_prepare(options.server_pid);

    begin_ns = now_ns();
    sending = true;
    for (int i = 0; i < options.connections; i++) connection_fill(&connections[i], begin_ns);
    run_until(begin_ns + (uint64_t)(options.warmup_s * 1e9));
    cpu_begin();
    measure_from = now_ns();
    run_until(options.messages ? UINT64_MAX : measure_from + (uint64_t)(options.duration_s * 1e9));
    measure_to = now_ns();
    cpu_end();
    drain();
    close_all();

    print_figures(measured_messages, (double)(measure_to - measure_from) / 1e9, options.connections, opening_s, bytes_sent);
    printf("\"sent\":%" PRIu64 ",\"acknowledged\":%" PRIu64 "}\n", sent_total, acknowledged_total);
    if (acknowledged_total != sent_total) fail("%" PRIu64 " messages were never acknowledged", sent_total - acknowledged_total);
    return 0;
}

#endif
