/* MQTT 3.1.1 load: PUBLISH of QoS 0 or 1 on `<token>/<kind>/<device>`, one device per connection.
 *
 * QoS 1 counts PUBACKs, which must come in order with the packet ids that were sent [MQTT-4.6.0-2].
 * QoS 0 has no reply, so what the server really took would be unknown (socket buffers hide
 * megabytes). Hence every window/4-th message is followed by a PINGREQ: brokers handle the packets
 * of a connection in order, so its PINGRESP acknowledges all messages before it. --window bounds
 * the unacknowledged ones (use some hundred), and the pings are a per cent of the packets.
 */
#include "load.h"
#include "mqtt_packets.h"

const char program_name[] = "mqtt_load";
const struct option protocol_options[] = {{"qos", 1, 0, 'q'}, {NULL, 0, 0, 0}};

static int qos = 1;
static uint32_t ping_every;
static struct Topic { uint8_t bytes[256]; size_t n; } *topics;

static void protocol_option(int key, const char *value) {
    if (key == 'q') qos = atoi(value);
    if (qos < 0 || qos > 1) fail("--qos %s: expected 0 or 1", value);
}

static void protocol_prepare(void) {
    ping_every = (uint32_t)(options.window + 3) / 4;
    if (options.idle) return;
    topics = allocate((size_t)options.connections, sizeof *topics);
    for (int i = 0; i < options.connections; i++) { /* u16 length + topic, as it stands in the packet */
        char device[128], *text = (char *)topics[i].bytes + 2;
        Connection c = {.index = i};
        device_name(&c, device);
        const char *level = strcmp(options.payload_kind, "form") == 0 ? "" : strcmp(options.payload_kind, "binary") == 0 ? "binary/" : "json/";
        int n = snprintf(text, sizeof topics[i].bytes - 2, "%s/%s%s", options.token, level, device);
        if (n > 250) fail("the topic is too long");
        topics[i].bytes[0] = 0;
        topics[i].bytes[1] = (uint8_t)n;
        topics[i].n = (size_t)n + 2;
    }
}

static size_t protocol_greeting(const Connection *c, uint8_t *out) {
    char client[64];
    snprintf(client, sizeof client, "%s-%d-%d", options.idle ? "idle" : "load", options.port, c->index);
    return put_connect(out, client, options.user, options.token, options.keepalive_s, CLEAN_SESSION);
}

static size_t protocol_message(const Connection *c, uint64_t ordinal, uint8_t *out) {
    const struct Topic *topic = &topics[c->index];
    unsigned which = (unsigned)(ordinal + (uint64_t)c->index) & (PAYLOADS - 1);
    size_t payload = payloads[which].n, id = qos ? 2 : 0;
    size_t n = put_header(out, (uint8_t)(0x30 | qos << 1), topic->n + id + payload);
    memcpy(out + n, topic->bytes, topic->n);
    n += topic->n;
    if (qos) n += put_u16(out + n, packet_id(ordinal));
    memcpy(out + n, payloads[which].bytes, payload);
    n += payload;
    if (!qos && (ordinal + 1) % ping_every == 0) {
        out[n++] = 0xc0;
        out[n++] = 0;
    }
    return n;
}

static Reply protocol_reply(const Connection *c, const uint8_t *bytes, size_t n) {
    if (n < 2) return (Reply){0};
    size_t bytes_in_all = 2u + bytes[1];
    if (bytes[1] > 2) fail("connection %d: an unexpected packet %02x %02x", c->index, bytes[0], bytes[1]);
    if (n < bytes_in_all) return (Reply){0};
    switch (bytes[0] >> 4) {
    case CONNACK:
        if (bytes[3] != 0) fail("connection %d: CONNECT was refused with return code %d", c->index, bytes[3]);
        return (Reply){.bytes = 4, .opened = true};
    case PUBACK: {
        unsigned expected = packet_id(c->acknowledged), got = get_u16(bytes + 2);
        if (got != expected) fail("connection %d: PUBACK %u where %u was due", c->index, got, expected);
        return (Reply){.bytes = 4, .acknowledged = 1};
    }
    case PINGRESP:
        return (Reply){.bytes = 2, .acknowledged = c->in_flight < ping_every ? c->in_flight : ping_every};
    default:
        fail("connection %d: an unexpected packet %02x %02x", c->index, bytes[0], bytes[1]);
    }
}

static size_t protocol_last(const Connection *c, uint8_t *out) {
    if (qos || c->sent % ping_every == 0) return 0;
    out[0] = 0xc0;
    out[1] = 0;
    return 2;
}

static size_t protocol_farewell(uint8_t *out) {
    memcpy(out, DISCONNECT, sizeof DISCONNECT);
    return sizeof DISCONNECT;
}
