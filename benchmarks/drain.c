/* A reply read as fast as it comes and thrown away: what a server needs to send it, not what a client makes of it.
 *
 * Bytes are counted and left in the kernel (MSG_TRUNC), so the client costs a few percent of the server. With
 * --serve it is the server: it answers every request with so many bytes of one buffer, the bound for any server
 * that has to make them first.
 *
 *     drain --port 8080 --path '/v2/stream/1?end=2999-01-01&format=arrow' --header 'X-APITOKEN: …' --server-pid 17
 *     drain --serve 560000000
 */
#include "instruments.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

const char program_name[] = "drain";

enum { PIECE_BYTES = 1 << 20, HEAD_BYTES_MAX = 16384 };
static const char ENDING[] = "\r\n\r\n";

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void send_all(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0) fail("send: %s", strerror(errno));
        bytes += sent;
        n -= (size_t)sent;
    }
}

/* Read up to the end of a head into text; the bytes behind it that came along. */
static size_t read_head(int fd, char *text) {
    size_t have = 0;
    for (;;) {
        ssize_t n = recv(fd, text + have, HEAD_BYTES_MAX - have, 0);
        if (n <= 0) fail("the other side closed within a head");
        have += (size_t)n;
        const char *end = memmem(text, have, ENDING, 4);
        if (end != NULL) return have - (size_t)(end + 4 - text);
        if (have == HEAD_BYTES_MAX) fail("a head of more than %d bytes", HEAD_BYTES_MAX);
    }
}

static void serve(uint64_t bytes) {
    static char piece[PIECE_BYTES];
    int door = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (door < 0 || bind(door, (struct sockaddr *)&address, sizeof address) != 0 || listen(door, 8) != 0 ||
        getsockname(door, (struct sockaddr *)&address, &size) != 0)
        fail("listen: %s", strerror(errno));
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);
    while (!interrupted) {
        int fd = accept(door, NULL, NULL);
        if (fd < 0) continue;
        char head[HEAD_BYTES_MAX];
        read_head(fd, head);
        int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %" PRIu64 "\r\nConnection: close\r\n\r\n", bytes);
        send_all(fd, head, (size_t)n);
        for (uint64_t left = bytes; left > 0;) {
            size_t now = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
            send_all(fd, piece, now);
            left -= now;
        }
        close(fd);
    }
}

static void drain(int port, const char *path, const char *headers, int server_pid) {
    cpu_prepare(server_pid);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("port %d: %s", port, strerror(errno));
    char head[HEAD_BYTES_MAX];
    int n = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n%s\r\n", path, port, headers);
    if ((size_t)n >= sizeof head) fail("the request is too long");
    cpu_begin();
    uint64_t began = now_ns();
    send_all(fd, head, (size_t)n);
    uint64_t bytes = read_head(fd, head);
    if (memcmp(head, "HTTP/1.1 200 ", 13) != 0) fail("%.*s", 80, head);
    for (ssize_t got; (got = recv(fd, head, PIECE_BYTES, MSG_TRUNC)) != 0;) {
        if (got < 0 && errno == EINTR && !interrupted) continue;
        if (got < 0) fail("recv: %s", strerror(errno));
        bytes += (uint64_t)got;
    }
    double seconds = (double)(now_ns() - began) / 1e9;
    cpu_end();
    close(fd);
    printf("{\"bytes\":%" PRIu64 ",\"seconds\":%.6f,\"server_cpu_s\":%.6f,\"client_cpu_s\":%.6f}\n", bytes, seconds,
           (double)cpu.server / 1e9, (double)cpu.own / 1e9);
}

int main(int argc, char **argv) {
    static const struct option known[] = {{"port", 1, 0, 'p'}, {"path", 1, 0, 'R'}, {"header", 1, 0, 'H'},
                                          {"server-pid", 1, 0, 'P'}, {"serve", 1, 0, 's'}, {0, 0, 0, 0}};
    const char *path = "/";
    char headers[4096] = "";
    int port = 0, server_pid = 0, key;
    uint64_t bytes = 0;
    bool serves = false;
    while ((key = getopt_long(argc, argv, "", known, NULL)) != -1) {
        size_t used = strlen(headers);
        if (key == 'p') port = atoi(optarg);
        else if (key == 'R') path = optarg;
        else if (key == 'P') server_pid = atoi(optarg);
        else if (key == 's') serves = true, bytes = strtoull(optarg, NULL, 10);
        else if (key != 'H') return 2;
        else if (used + strlen(optarg) + 3 > sizeof headers) fail("--header: more than %zu bytes", sizeof headers);
        else sprintf(headers + used, "%s\r\n", optarg);
    }
    process_prepare();
    (void)latency_record, (void)print_figures, (void)allocate;
    if (serves) serve(bytes);
    else drain(port, path, headers, server_pid);
    return 0;
}
