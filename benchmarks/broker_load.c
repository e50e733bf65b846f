/* Broker load: publishers and subscribers of MQTT 3.1.1 in one thread, every delivery checked.
 *
 * Three patterns (--pattern):
 *
 * - `pair`: publisher i sends to bench/i, to which subscriber i alone has subscribed;
 * - `fanout`: one publisher sends to bench/all, every subscriber gets every message;
 * - `shared`: the subscribers share $share/workers/bench/+, each message goes to one of them.
 *
 * A payload names its publisher, its place in that publisher's sequence and when it was sent (open loop:
 * was due), all else is filling. With `pair` and `fanout` a subscriber must get the sequence in order
 * [MQTT-4.6.0-5], with `shared` each message must come once to somebody.
 *
 * Flow: --window bounds, per publisher, both what the broker has not acknowledged (QoS 1 and 2) and what is
 * not at all its subscribers. So no broker has a reason to drop anything, queues have a known
 * length (window x publishers / subscribers), and the throughput of QoS 0 is what arrived, not what was sent.
 * A message that was lost at QoS 0 is given up when a later one overtakes it. --rate R sends message k at
 * k/R whatever the broker does, within the same window.
 *
 * Counted are deliveries (a message at one subscriber: PUBLISH, at every QoS) inside the measured window; the CPU clock of
 * --server-pid is read at both its ends. Then sending stops, and the run waits until everything has arrived
 * and every handshake is complete. It fails if at QoS 1 or 2 a message is missing or out of order, or if at
 * QoS 0 or 2 one came twice; at QoS 0 what is missing is printed as `lost`.
 */
#include "broker_clients.h"
#include <getopt.h>

const char program_name[] = "broker_load";

enum {
    EVENTS_MAX = 512,
    OPENING_MAX = 64,          /* connections being opened at a time: below any listen backlog (mosquitto: 100) */
    KEEPALIVE_S = 600,
};
#define OPENING_LIMIT_S 60
#define DRAIN_LIMIT_S 20
#define GIVE_UP_S 3            /* of silence at QoS 0, until what is missing counts as lost */
static const char *const pattern_names[] = {"pair", "fanout", "shared"};

/* ---- connections ---------------------------------------------------------------------------------- */
/* The length of the packet at `bytes`, 0 while it is incomplete; `head` becomes the length of its fixed header. */
static size_t packet_end(const uint8_t *bytes, size_t n, size_t *head) {
    size_t length = 0;
    for (size_t i = 1; i < n && i < 5; i++) {
        length |= (size_t)(bytes[i] & 0x7f) << (7 * (i - 1));
        if (bytes[i] & 0x80) continue;
        if (length < 2) fail("an unexpected packet %02x of %zu bytes", bytes[0], length);
        *head = i + 1;
        return i + 1 + length <= n ? i + 1 + length : 0;
    }
    return 0;
}

static void client_receive(Client *c) {
    size_t have;
    do {
        have = wire_read(&c->wire);
        uint64_t now = now_ns();
        size_t at = 0, head = 0, end, answer = 0;
        for (; (end = packet_end(received + at, have - at, &head)) > 0; at += end)
            answer += c->publishes ? publisher_packet((Publisher *)c, received + at, head, scratch + answer)
                                   : subscriber_packet((Subscriber *)c, received + at, head, end, now, scratch + answer);
        if (have > 0) wire_keep(&c->wire, received + at, have - at);
        if (answer > 0) wire_write(&c->wire, scratch, answer);
    } while (have > 0 && wire_has_more(&c->wire));
}

static void turn(int timeout_ms) {
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(epoll_fd, events, EVENTS_MAX, timeout_ms);
    if (n < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        Client *c = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) {
            wire_flush(&c->wire);
            if (c->publishes) publisher_is_ready((Publisher *)c);
        }
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) client_receive(c);
    }
    if (sending && options.rate > 0) schedule(now_ns());
    if (ready_count > 0) fill_ready(now_ns());
}

static void client_start(Client *c, int index, bool publishes) {
    char name[64];
    c->publishes = publishes;
    c->wire.index = index;
    c->wire.owner = c;
    wire_connect(&c->wire, options.host, options.port, -1);
    snprintf(name, sizeof name, "%s-%d", publishes ? "publisher" : "subscriber", index);
    int flags = options.kept && !publishes ? 0 : CLEAN_SESSION;
    c->wire.unsent_bytes = put_connect(c->wire.unsent, name, options.user, options.token, KEEPALIVE_S, flags);
}

static void open_all(void) {
    int clients = options.subscribers + options.publishers;
    uint64_t limit = now_ns() + OPENING_LIMIT_S * NS_PER_S;
    for (int started = 0; opened < clients;) {
        for (; started < clients && started - opened < OPENING_MAX; started++) {
            int publisher = started - options.subscribers;
            if (publisher < 0) client_start(&subscribers[started].client, started, false);
            else client_start(&publishers[publisher].client, publisher, true);
        }
        turn(1000);
        if (now_ns() > limit || interrupted) fail("%d of %d clients ready after %d s", opened, clients, OPENING_LIMIT_S);
    }
}

static void close_all(void) {
    for (int i = 0; i < options.publishers; i++) wire_close(&publishers[i].client.wire, DISCONNECT, sizeof DISCONNECT);
    for (int i = 0; i < options.subscribers; i++) wire_close(&subscribers[i].client.wire, DISCONNECT, sizeof DISCONNECT);
}

static bool all_sent(void) { return options.messages > 0 && sent >= options.messages; }

static bool all_arrived(void) { return delivered + lost == sent * copies() && (options.qos == 0 || completed == sent) && held == 0; }

static void run_until(uint64_t until) {
    for (uint64_t now = now_ns(); now < until && !interrupted && !(all_sent() && all_arrived()); now = now_ns()) {
        uint64_t left_ms = (until - now) / 1000000 + 1;
        turn(options.rate > 0 ? 0 : left_ms < 100 ? (int)left_ms : 100);
        if (all_sent() && now - begin_ns > (uint64_t)((options.duration_s + DRAIN_LIMIT_S) * 1e9)) return;
    }
}

/* Waits for what is under way. At QoS 0 what does not come any more was lost. */
static void drain(void) {
    uint64_t begun = now_ns(), heard = begun, before = delivered;
    sending = false;
    while (!all_arrived() && now_ns() - begun < DRAIN_LIMIT_S * NS_PER_S) {
        turn(100);
        if (delivered != before) heard = now_ns();
        else if (options.qos == 0 && now_ns() - heard > GIVE_UP_S * NS_PER_S) break;
        before = delivered;
    }
    lost = sent * copies() - delivered;
}

/* ---- the program ------------------------------------------------------------------------------------ */
static const struct option names[] = {
    {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"user", 1, 0, 'u'}, {"token", 1, 0, 't'}, {"tls", 1, 0, 'L'}, {"pattern", 1, 0, 'a'},
    {"publishers", 1, 0, 'P'}, {"subscribers", 1, 0, 's'}, {"qos", 1, 0, 'q'}, {"window", 1, 0, 'w'}, {"rate", 1, 0, 'r'},
    {"payload-bytes", 1, 0, 'b'}, {"duration", 1, 0, 'd'}, {"warmup", 1, 0, 'W'}, {"messages", 1, 0, 'm'}, {"server-pid", 1, 0, 'S'},
    {"kept", 0, 0, 'k'}, {0},
};

static Pattern pattern_of(const char *name) {
    for (int i = PAIR; i <= SHARED; i++)
        if (strcmp(name, pattern_names[i]) == 0) return (Pattern)i;
    fail("--pattern %s: expected pair, fanout or shared", name);
}

static void parse_options(int count, char **arguments) {
    for (int key; (key = getopt_long(count, arguments, "", names, NULL)) != -1;) {
        switch (key) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'u': options.user = optarg; break;
        case 't': options.token = optarg; break;
        case 'L': options.tls = optarg; break;
        case 'a': options.pattern = pattern_of(optarg); break;
        case 'P': options.publishers = atoi(optarg); break;
        case 's': options.subscribers = atoi(optarg); break;
        case 'q': options.qos = atoi(optarg); break;
        case 'w': options.window = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'b': options.payload_bytes = (size_t)atoll(optarg); break;
        case 'd': options.duration_s = atof(optarg); break;
        case 'W': options.warmup_s = atof(optarg); break;
        case 'm': options.messages = (uint64_t)atoll(optarg); break;
        case 'S': options.server_pid = atoi(optarg); break;
        case 'k': options.kept = true; break;
        default: exit(2);
        }
    }
    if (options.messages) options.warmup_s = 0; /* a given number is measured whole */
    if (options.port < 1 || options.port > 65535) fail("--port is missing");
    if (options.publishers < 1 || options.subscribers < 1 || options.subscribers > 65535) fail("--publishers or --subscribers is out of range");
    if (options.pattern == PAIR && options.publishers != options.subscribers) fail("--pattern pair: as many publishers as subscribers");
    if (options.pattern == FANOUT && options.publishers != 1) fail("--pattern fanout: one publisher");
    if (options.qos < 0 || options.qos > 2) fail("--qos: expected 0, 1 or 2");
    if (options.window < 1 || options.window > WINDOW_MAX) fail("--window: 1 to %d", WINDOW_MAX);
    if (options.payload_bytes < HEAD_BYTES || options.payload_bytes > PAYLOAD_BYTES_MAX) fail("--payload-bytes: %d to %d", HEAD_BYTES, PAYLOAD_BYTES_MAX);
}

static void clients_prepare(void) {
    for (window_mask = 1; window_mask < (uint64_t)options.window; window_mask <<= 1) {}
    window_mask--;
    memset(filling, 'x', sizeof filling);
    publishers = allocate((size_t)options.publishers, sizeof *publishers);
    subscribers = allocate((size_t)options.subscribers, sizeof *subscribers);
    ready = allocate((size_t)options.publishers, sizeof(Publisher *));
    for (int i = 0; i < options.publishers; i++) {
        char topic[TOPIC_BYTES_MAX - 2] = "bench/all";
        if (options.pattern != FANOUT) snprintf(topic, sizeof topic, "bench/%d", i);
        publishers[i].topic_bytes = put_string(publishers[i].topic, topic);
        publishers[i].missing = allocate(window_mask + 1, sizeof(uint16_t));
    }
    for (int i = 0; options.qos == 2 && i < options.subscribers; i++) subscribers[i].held = allocate(PACKET_IDS / 8, 1);
}

int main(int count, char **arguments) {
    parse_options(count, arguments);
    process_prepare();
    if (options.tls) wire_prepare_tls(options.tls);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    clients_prepare();
    uint64_t opening_ns = now_ns();
    open_all();
    double opening_s = (double)(now_ns() - opening_ns) / 1e9;
    cpu_prepare(options.server_pid);

    begin_ns = now_ns();
    sending = true;
    for (int i = 0; options.rate == 0 && i < options.publishers; i++) publisher_is_ready(&publishers[i]);
    run_until(begin_ns + (uint64_t)(options.warmup_s * 1e9));
    cpu_begin();
    measure_from = now_ns();
    run_until(options.messages ? UINT64_MAX : measure_from + (uint64_t)(options.duration_s * 1e9));
    measure_to = now_ns();
    cpu_end();
    drain();
    close_all();

    print_figures(measured, (double)(measure_to - measure_from) / 1e9, options.publishers + options.subscribers, opening_s, bytes_sent);
    printf("\"sent\":%" PRIu64 ",\"acknowledged\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"doubled\":%" PRIu64 "}\n", sent,
           options.qos > 0 ? completed : sent, delivered, lost, doubled);
    if (lost > 0 && options.qos > 0) fail("%" PRIu64 " messages of QoS %d never arrived", lost, options.qos);
    if (doubled > 0 && options.qos != 1) fail("%" PRIu64 " messages of QoS %d arrived twice", doubled, options.qos);
    if (!all_arrived() && options.qos > 0) fail("%" PRIu64 " of %" PRIu64 " messages acknowledged, %" PRIu64 " without PUBREL", completed, sent, held);
    return 0;
}
