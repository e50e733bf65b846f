/* HTTP/1.1 keep-alive load: POST /post_v2/ as a device does it, --window requests pipelined.
 *
 * Any other request can be measured with --method, --path and --header; bodies are the
 * payloads of --payload (none for GET). A reply must have the status --status (200), a Content-Length and must
 * leave the connection open; anything else ends the run, so a count of N means N times "stored".
 */
#include "load.h"

const char program_name[] = "http_load";
const struct option protocol_options[] = {{"method", 1, 0, 'M'}, {"path", 1, 0, 'R'}, {"header", 1, 0, 'H'}, {"status", 1, 0, 's'}, {NULL, 0, 0, 0}};

static const char *method = "POST", *path = "/post_v2/";
static char extra_headers[4096], expected_status[4] = "200";
static struct Head { char *bytes; size_t n; } *heads; /* per connection, up to "Content-Length: " */
static bool has_body;

static void protocol_option(int key, const char *value) {
    if (key == 'M') method = value;
    if (key == 'R') path = value;
    if (key == 's') snprintf(expected_status, sizeof expected_status, "%s", value);
    if (key == 'H') {
        size_t n = strlen(extra_headers);
        if (n + strlen(value) + 3 > sizeof extra_headers) fail("--header: more than %zu bytes", sizeof extra_headers);
        sprintf(extra_headers + n, "%s\r\n", value);
    }
}

static void protocol_prepare(void) {
    has_body = strcmp(method, "GET") != 0 && strcmp(method, "DELETE") != 0;
    if (options.idle) return;
    heads = allocate((size_t)options.connections, sizeof *heads);
    for (int i = 0; i < options.connections; i++) {
        char device[128], head[8192];
        Connection c = {.index = i};
        device_name(&c, device);
        int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s:%d\r\n", method, path, options.host, options.port);
        if (has_body)
            n += snprintf(head + n, sizeof head - (size_t)n, "X-DEVICETOKEN: %s\r\nX-DEVICEID: %s\r\nContent-Type: application/json\r\n",
                          options.token, device);
        n += snprintf(head + n, sizeof head - (size_t)n, "%s%s", extra_headers, has_body ? "Content-Length: " : "\r\n");
        if ((size_t)n >= sizeof head) fail("the request head is too long");
        heads[i].bytes = strdup(head);
        heads[i].n = (size_t)n;
    }
}

static size_t protocol_greeting(const Connection *c, uint8_t *out) {
    (void)c, (void)out;
    return 0;
}

static size_t protocol_message(const Connection *c, uint64_t ordinal, uint8_t *out) {
    size_t n = heads[c->index].n;
    memcpy(out, heads[c->index].bytes, n);
    if (!has_body) return n;
    unsigned which = (unsigned)(ordinal + (uint64_t)c->index) & (PAYLOADS - 1);
    char digits[24];
    int at = sizeof digits;
    for (size_t rest = payloads[which].n; rest > 0 || at == sizeof digits; rest /= 10) digits[--at] = (char)('0' + rest % 10);
    memcpy(out + n, digits + at, sizeof digits - (size_t)at);
    n += sizeof digits - (size_t)at;
    memcpy(out + n, "\r\n\r\n", 4);
    memcpy(out + n + 4, payloads[which].bytes, payloads[which].n);
    return n + 4 + payloads[which].n;
}

/* The value of a header in [head, end), NULL without it. */
static const char *header_value(const char *head, const char *end, const char *name) {
    size_t n = strlen(name);
    for (const char *line = head; line < end;) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        if (next == NULL) next = end;
        if ((size_t)(next - line) > n && line[n] == ':' && strncasecmp(line, name, n) == 0) {
            for (line += n + 1; *line == ' '; line++) {}
            return line;
        }
        line = next + 1;
    }
    return NULL;
}

static Reply protocol_reply(const Connection *c, const uint8_t *bytes, size_t n) {
    const char *text = (const char *)bytes, *end = memmem(text, n, "\r\n\r\n", 4);
    if (end == NULL) return (Reply){0};
    if (end - text < 12 || memcmp(text, "HTTP/1.1 ", 9) != 0 || memcmp(text + 9, expected_status, 3) != 0)
        fail("connection %d: a reply other than %s: %.*s", c->index, expected_status, (int)(end - text < 200 ? end - text : 200), text);
    const char *length = header_value(text, end, "content-length"), *connection = header_value(text, end, "connection");
    if (length == NULL) fail("connection %d: a reply without Content-Length", c->index);
    if (connection != NULL && strncasecmp(connection, "close", 5) == 0) fail("connection %d: the server closes after a reply", c->index);
    size_t all = (size_t)(end + 4 - text) + strtoul(length, NULL, 10);
    return n < all ? (Reply){0} : (Reply){.bytes = all, .acknowledged = 1};
}

static size_t protocol_last(const Connection *c, uint8_t *out) {
    (void)c, (void)out;
    return 0;
}

static size_t protocol_farewell(uint8_t *out) {
    (void)out;
    return 0;
}
