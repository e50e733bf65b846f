/* The publishers and subscribers of broker_load.c: what each may send, what each must get, and the counts.
 *
 * A message is followed from its sending until nothing of it is missing. Its publisher has a slot for it in a
 * ring of --window messages, with the deliveries that have not come; a publisher that has room, because a
 * message arrived, was acknowledged or became due, stands in `ready` until the loop looks at it.
 */
#ifndef THINGSCALE_BROKER_CLIENTS_H
#define THINGSCALE_BROKER_CLIENTS_H

#include "mqtt_packets.h"
#include "wire.h"

enum {
    HEAD_BYTES = 20,           /* of a payload: publisher, sequence, clock */
    PAYLOAD_BYTES_MAX = 4096,
    WINDOW_MAX = 1024,
    TOPIC_BYTES_MAX = 64,
    PACKET_IDS = 1 << 16,
};

typedef enum { PAIR, FANOUT, SHARED } Pattern;

static struct {
    const char *host, *user, *token, *tls;
    Pattern pattern;
    int port, publishers, subscribers, qos, window, server_pid;
    size_t payload_bytes;
    double rate, duration_s, warmup_s;
    uint64_t messages;         /* sent in all; 0: as many as fit into duration_s */
    bool kept;                 /* subscribers with sessions that outlive the connection */
} options = {
    .host = "127.0.0.1", .user = "U000001", .token = "00000000000000000000000000000000", .publishers = 10,
    .subscribers = 10, .qos = 1, .window = 1, .payload_bytes = 45, .duration_s = 5, .warmup_s = 1,
};

typedef struct {
    Wire wire;                 /* first: epoll events point here */
    bool publishes;
} Client;

typedef struct {
    Client client;
    uint64_t sent, acknowledged, completed; /* ordinals: PUBLISH out, PUBACK or PUBREC in, PUBACK or PUBCOMP in */
    uint64_t low;              /* all messages before this one have arrived everywhere */
    uint64_t due;              /* open loop: messages whose time has come */
    uint16_t *missing;         /* deliveries that have not come, by ordinal & window_mask */
    uint8_t topic[TOPIC_BYTES_MAX]; /* with its length, as it stands in the packet */
    size_t topic_bytes;
    bool ready;                /* stands in `ready` */
} Publisher;

typedef struct {
    Client client;
    uint64_t expected;         /* pair and fanout: the next one of its publisher's sequence */
    uint8_t *held;             /* QoS 2: packet ids between PUBLISH and PUBREL, one bit each */
} Subscriber;

static Publisher *publishers;
static Subscriber *subscribers;
static Publisher **ready;      /* may send more than when they were looked at last */
static int ready_count, opened;
static bool sending;
static uint64_t window_mask, scheduled, begin_ns, measure_from = UINT64_MAX, measure_to = UINT64_MAX;
static uint64_t sent, completed, delivered, measured, lost, doubled, held;
static uint8_t scratch[RECEIVE_BYTES + WINDOW_MAX * (PAYLOAD_BYTES_MAX + TOPIC_BYTES_MAX + 16)], filling[PAYLOAD_BYTES_MAX];

static uint64_t copies(void) { return options.pattern == FANOUT ? (uint64_t)options.subscribers : 1; }

/* ---- publishing --------------------------------------------------------------------------------- */
static void publisher_is_ready(Publisher *p) {
    if (p->ready || !sending) return;
    p->ready = true;
    ready[ready_count++] = p;
}

static uint64_t sent_at(const Publisher *p, uint64_t now) {
    if (options.rate == 0) return now;
    return begin_ns + (uint64_t)((double)(p->sent * (uint64_t)options.publishers + (uint64_t)p->client.wire.index) * 1e9 / options.rate);
}

static size_t put_message(Publisher *p, uint64_t now, uint8_t *out) {
    uint32_t who = (uint32_t)p->client.wire.index;
    uint64_t at = sent_at(p, now);
    size_t id = options.qos > 0 ? 2 : 0;
    size_t n = put_header(out, (uint8_t)(PUBLISH << 4 | options.qos << 1), p->topic_bytes + id + options.payload_bytes);
    memcpy(out + n, p->topic, p->topic_bytes);
    n += p->topic_bytes;
    if (options.qos > 0) n += put_u16(out + n, packet_id(p->sent));
    memcpy(out + n, &who, 4);
    memcpy(out + n + 4, &p->sent, 8);
    memcpy(out + n + 12, &at, 8);
    memcpy(out + n + HEAD_BYTES, filling, options.payload_bytes - HEAD_BYTES);
    p->missing[p->sent & window_mask] = (uint16_t)copies();
    p->sent++, sent++;
    return n + options.payload_bytes;
}

/* Sends what the window, the schedule and --messages permit, in one piece. */
static void publisher_fill(Publisher *p, uint64_t now) {
    if (p->client.wire.unsent_bytes > 0) return; /* comes back when the socket has room */
    uint64_t from = options.qos > 0 && p->completed < p->low ? p->completed : p->low, to = from + (uint64_t)options.window;
    if (options.rate > 0 && p->due < to) to = p->due;
    size_t n = 0;
    while (p->sent < to && (options.messages == 0 || sent < options.messages)) n += put_message(p, now, scratch + n);
    if (n > 0) wire_write(&p->client.wire, scratch, n);
}

static void fill_ready(uint64_t now) {
    int n = ready_count;
    ready_count = 0;
    for (int i = 0; i < n; i++) {
        ready[i]->ready = false;
        if (sending) publisher_fill(ready[i], now);
    }
}

/* Open loop: marks everybody whose next message is due. */
static void schedule(uint64_t now) {
    uint64_t due = (uint64_t)((double)(now - begin_ns) * options.rate / 1e9) + 1;
    for (; scheduled < due; scheduled++) {
        Publisher *p = &publishers[scheduled % (uint64_t)options.publishers];
        p->due++;
        publisher_is_ready(p);
    }
}

static void publisher_completes(Publisher *p) {
    p->completed++, completed++;
    publisher_is_ready(p);
}

/* A packet of the broker to a publisher; returns the bytes of the answer in `out`. */
static size_t publisher_packet(Publisher *p, const uint8_t *packet, size_t head, uint8_t *out) {
    int kind = packet[0] >> 4, index = p->client.wire.index;
    unsigned id = get_u16(packet + head);
    uint64_t *next = kind == PUBCOMP ? &p->completed : &p->acknowledged;
    if (kind == CONNACK) {
        if (packet[head + 1] != 0) fail("publisher %d: CONNECT was refused with return code %d", index, packet[head + 1]);
        opened++;
        return 0;
    }
    if (!(options.qos == 1 && kind == PUBACK) && !(options.qos == 2 && (kind == PUBREC || kind == PUBCOMP)))
        fail("publisher %d: an unexpected packet %02x", index, packet[0]);
    if (*next >= (kind == PUBCOMP ? p->acknowledged : p->sent) || id != packet_id(*next))
        fail("publisher %d: packet %02x for id %u where %u was due", index, packet[0], id, packet_id(*next));
    if (kind != PUBCOMP) p->acknowledged++;
    if (kind == PUBREC) return put_acknowledgement(out, PUBREL << 4 | 2, id);
    publisher_completes(p);
    return 0;
}

/* ---- subscribing -------------------------------------------------------------------------------- */
static void settle(Publisher *p, uint64_t ordinal) {
    p->missing[ordinal & window_mask]--;
    while (p->low < p->sent && p->missing[p->low & window_mask] == 0) p->low++;
    publisher_is_ready(p);
}

/* Whether this is a message that this subscriber should get now; counts what is not. */
static bool is_next(Subscriber *s, Publisher *p, uint64_t ordinal) {
    int index = s->client.wire.index, who = p->client.wire.index;
    if (ordinal >= p->sent) fail("subscriber %d: message %" PRIu64 " of publisher %d was never sent", index, ordinal, who);
    if (options.pattern == SHARED) {
        if (ordinal >= p->low && p->missing[ordinal & window_mask] > 0) return true;
        doubled++;
        return false;
    }
    if (options.pattern == PAIR && who != index) fail("subscriber %d: a message of publisher %d", index, who);
    if (ordinal < s->expected) {
        doubled++;
        return false;
    }
    if (ordinal > s->expected && options.qos > 0)
        fail("subscriber %d: message %" PRIu64 " of publisher %d where %" PRIu64 " was due", index, ordinal, who, s->expected);
    for (; s->expected < ordinal; s->expected++, lost++) settle(p, s->expected);
    s->expected++;
    return true;
}

static void deliver(Subscriber *s, const uint8_t *topic, size_t topic_bytes, const uint8_t *payload, size_t n, uint64_t now) {
    uint32_t who;
    uint64_t ordinal, at;
    if (n != options.payload_bytes) fail("subscriber %d: a payload of %zu bytes", s->client.wire.index, n);
    memcpy(&who, payload, 4);
    memcpy(&ordinal, payload + 4, 8);
    memcpy(&at, payload + 12, 8);
    if (who >= (uint32_t)options.publishers) fail("subscriber %d: a message of nobody", s->client.wire.index);
    Publisher *p = &publishers[who];
    if (topic_bytes != p->topic_bytes || memcmp(topic, p->topic, topic_bytes) != 0 || memcmp(payload + HEAD_BYTES, filling, n - HEAD_BYTES) != 0)
        fail("subscriber %d: a message of publisher %u that is not as it was sent", s->client.wire.index, who);
    if (!is_next(s, p, ordinal)) return;
    settle(p, ordinal);
    delivered++;
    if (now < measure_from || now >= measure_to) return;
    measured++;
    latency_record(now > at ? now - at : 0, 1);
}

static size_t subscriber_publish(Subscriber *s, const uint8_t *packet, size_t head, size_t end, uint64_t now, uint8_t *out) {
    int qos = packet[0] >> 1 & 3, index = s->client.wire.index;
    size_t topic_bytes = 2 + (size_t)get_u16(packet + head), at = head + topic_bytes;
    if (qos != options.qos || at + (qos > 0 ? 2 : 0) > end) fail("subscriber %d: a bad PUBLISH %02x", index, packet[0]);
    unsigned id = qos > 0 ? get_u16(packet + at) : 0;
    if (qos > 0) at += 2;
    if (qos == 2) {
        uint8_t bit = (uint8_t)(1u << (id & 7));
        if (s->held[id >> 3] & bit) { /* the same message again: it was PUBRECed, and counts as doubled */
            doubled++;
            return put_acknowledgement(out, PUBREC << 4, id);
        }
        s->held[id >> 3] |= bit;
        held++;
    }
    deliver(s, packet + head, topic_bytes, packet + at, end - at, now);
    return qos == 0 ? 0 : put_acknowledgement(out, (uint8_t)((qos == 1 ? PUBACK : PUBREC) << 4), id);
}

static size_t subscriber_packet(Subscriber *s, const uint8_t *packet, size_t head, size_t end, uint64_t now, uint8_t *out) {
    int index = s->client.wire.index;
    switch (packet[0] >> 4) {
    case PUBLISH: return subscriber_publish(s, packet, head, end, now, out);
    case PUBREL: {
        unsigned id = get_u16(packet + head);
        uint8_t bit = (uint8_t)(1u << (id & 7));
        if (options.qos != 2 || !(s->held[id >> 3] & bit)) fail("subscriber %d: PUBREL for %u, which is not held", index, id);
        s->held[id >> 3] &= (uint8_t)~bit;
        held--;
        return put_acknowledgement(out, PUBCOMP << 4, id);
    }
    case CONNACK: {
        char filter[TOPIC_BYTES_MAX];
        uint8_t body[2 + 2 + TOPIC_BYTES_MAX + 1] = {0, 1};
        if (packet[head + 1] != 0) fail("subscriber %d: CONNECT was refused with return code %d", index, packet[head + 1]);
        if (options.pattern == PAIR) snprintf(filter, sizeof filter, "bench/%d", index);
        else strcpy(filter, options.pattern == FANOUT ? "bench/all" : "$share/workers/bench/+");
        size_t n = 2 + put_string(body + 2, filter);
        body[n++] = (uint8_t)options.qos;
        size_t header = put_header(out, 0x82, n);
        memcpy(out + header, body, n);
        return header + n;
    }
    case SUBACK:
        if (end - head != 3 || packet[head + 2] != options.qos) fail("subscriber %d: SUBACK with %02x", index, packet[end - 1]);
        opened++;
        return 0;
    default: fail("subscriber %d: an unexpected packet %02x", index, packet[0]);
    }
}

#endif
