/* Live viewers: --connections clients of GET /v2/live, all read by one thread, every event timed.
 *
 * An event is a datapoint with a `"t":` in it, the clock's nanoseconds at its sending (CLOCK_MONOTONIC), and its latency
 * runs from there to the recv(2) that brought it. Says `{"event":"open"}` once all of them are connected, reads
 * until each has had --events, or until stdin ends, and prints its figures then: events of all viewers, and the fewest
 * and the most that one had.
 */
#include "wire.h"
#include <getopt.h>

const char program_name[] = "live_viewers";

enum { EVENTS_MAX = 512 };

typedef struct {
    Wire wire;
    bool asked, open;
    uint64_t events;
} Viewer;

static const struct option known[] = {
    {"port", 1, 0, 'p'}, {"token", 1, 0, 't'}, {"connections", 1, 0, 'c'}, {"path", 1, 0, 'R'}, {"server-pid", 1, 0, 'S'},
    {"events", 1, 0, 'e'}, {"tls", 1, 0, 'L'}, {NULL, 0, 0, 0},
};

static Viewer *viewers;
static int opened, served;
static uint64_t events_wanted = UINT64_MAX;
static uint64_t events_total;
static char request[1024];

/* Counts and times the events in these bytes; how many of them need not be seen again. */
static size_t take(Viewer *v, const uint8_t *bytes, size_t n, uint64_t now) {
    size_t at = 0;
    for (const uint8_t *end; (end = memchr(bytes + at, '\n', n - at)) != NULL; at = (size_t)(end - bytes) + 1) {
        const uint8_t *field = memmem(bytes + at, (size_t)(end - bytes) - at, "\"t\":", 4);
        if (field == NULL) continue;
        uint64_t sent_at = 0;
        for (field += 4; field < end && *field >= '0' && *field <= '9'; field++) sent_at = 10 * sent_at + (*field - '0');
        latency_record(now > sent_at ? now - sent_at : 0, 1);
        events_total++;
        if (++v->events == events_wanted) served++;
    }
    return at;
}

static void receive(Viewer *v) {
    do {
        size_t have = wire_read(&v->wire), taken = 0;
        uint64_t now = now_ns();
        if (have == 0) return;
        if (!v->open && memmem(received, have, "\r\n\r\n", 4) != NULL) {
            if (memcmp(received, "HTTP/1.1 200", 12) != 0) fail("viewer %d: %.12s", v->wire.index, received);
            v->open = true;
            opened++;
        }
        if (v->open) taken = take(v, received, have, now);
        wire_keep(&v->wire, received + taken, have - taken);
    } while (wire_has_more(&v->wire));
}

/* Until so many are counted, or until stdin ends. */
static void turn_until(const int *counted, int wanted) {
    struct epoll_event events[EVENTS_MAX];
    while (!interrupted && *counted < wanted) {
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, 1000);
        for (int i = 0; i < n; i++) {
            Viewer *v = events[i].data.ptr;
            if (v == NULL) return;
            if (events[i].events & EPOLLOUT) {
                if (!v->asked) wire_write(&v->wire, (uint8_t *)request, strlen(request));
                v->asked = true;
                wire_flush(&v->wire);
            }
            if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(v);
        }
    }
}

int main(int count, char **arguments) {
    int port = 0, connections = 1;
    const char *token = "", *path = "/v2/live";
    for (int key; (key = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (key) {
        case 'p': port = atoi(optarg); break;
        case 't': token = optarg; break;
        case 'c': connections = atoi(optarg); break;
        case 'R': path = optarg; break;
        case 'e': events_wanted = (uint64_t)atoll(optarg); break;
        case 'S': cpu_prepare(atoi(optarg)); break;
        case 'L': wire_prepare_tls(optarg); break;
        default: exit(2);
        }
    }
    if (port < 1 || port > 65535 || connections < 1) fail("--port or --connections is missing");
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nX-APITOKEN: %s\r\n\r\n", path, token);
    process_prepare();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    viewers = allocate((size_t)connections, sizeof *viewers);
    for (int i = 0; i < connections; i++) { /* one after the other: opening is not what is measured */
        viewers[i].wire = (Wire){.index = i, .owner = &viewers[i]};
        wire_connect(&viewers[i].wire, "127.0.0.1", port, -1);
        turn_until(&opened, i + 1);
    }
    printf("{\"event\":\"open\",\"connections\":%d}\n", opened);
    fflush(stdout);

    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0) fail("stdin must be a pipe: %s", strerror(errno));
    uint64_t began_ns = now_ns(), least = UINT64_MAX, most = 0;
    cpu_begin();
    turn_until(&served, connections);
    cpu_end();
    for (int i = 0; i < connections; i++) {
        if (viewers[i].events < least) least = viewers[i].events;
        if (viewers[i].events > most) most = viewers[i].events;
        wire_close(&viewers[i].wire, NULL, 0);
    }
    print_figures(events_total, (double)(now_ns() - began_ns) / 1e9, connections, 0, bytes_sent);
    printf("\"least\":%" PRIu64 ",\"most\":%" PRIu64 "}\n", least, most);
    return 0;
}
