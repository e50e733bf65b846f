/* MQTT 3.1.1 packets, as the load generators write them. */
#ifndef THINGSCALE_MQTT_PACKETS_H
#define THINGSCALE_MQTT_PACKETS_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { CONNACK = 2, PUBLISH = 3, PUBACK = 4, PUBREC = 5, PUBREL = 6, PUBCOMP = 7, SUBACK = 9, PINGRESP = 13 };
enum { CLEAN_SESSION = 0x02, USER_AND_PASSWORD = 0xc0 };

static const uint8_t DISCONNECT[2] = {0xe0, 0};

static inline size_t put_u16(uint8_t *out, unsigned value) {
    out[0] = (uint8_t)(value >> 8);
    out[1] = (uint8_t)value;
    return 2;
}

static inline unsigned get_u16(const uint8_t *bytes) { return (unsigned)bytes[0] << 8 | bytes[1]; }

static inline size_t put_string(uint8_t *out, const char *text) {
    size_t n = strlen(text);
    put_u16(out, (unsigned)n);
    memcpy(out + 2, text, n);
    return n + 2;
}

static inline size_t put_header(uint8_t *out, uint8_t first, size_t remaining) {
    size_t n = 0;
    out[n++] = first;
    do {
        uint8_t digit = remaining & 0x7f;
        remaining >>= 7;
        out[n++] = (uint8_t)(digit | (remaining ? 0x80 : 0));
    } while (remaining);
    return n;
}

/* Packet ids of the n-th message of a connection: 1..65535 in a circle. */
static inline unsigned packet_id(uint64_t ordinal) { return (unsigned)(ordinal % 65535) + 1; }

static inline size_t put_acknowledgement(uint8_t *out, uint8_t first, unsigned id) {
    out[0] = first;
    out[1] = 2;
    put_u16(out + 2, id);
    return 4;
}

static inline size_t put_connect(uint8_t *out, const char *client, const char *user, const char *password, int keepalive_s, int flags) {
    static const uint8_t protocol[] = {0, 4, 'M', 'Q', 'T', 'T', 4};
    uint8_t body[768];
    size_t n = sizeof protocol;
    memcpy(body, protocol, n);
    body[n++] = (uint8_t)(USER_AND_PASSWORD | flags);
    n += put_u16(body + n, (unsigned)keepalive_s);
    n += put_string(body + n, client);
    n += put_string(body + n, user);
    n += put_string(body + n, password);
    size_t header = put_header(out, 0x10, n);
    memcpy(out + header, body, n);
    return header + n;
}

#endif
