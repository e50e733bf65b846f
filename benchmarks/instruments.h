/* What every load generator measures with: clocks, a latency histogram, and ending with a sentence. */
#ifndef THINGSCALE_INSTRUMENTS_H
#define THINGSCALE_INSTRUMENTS_H

#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define NS_PER_S 1000000000ull

extern const char program_name[];

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_name);
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

/* ---- signals and files ------------------------------------------------------------------------ */
static volatile sig_atomic_t interrupted;

static void on_signal(int number) { interrupted = number; }

/* SIGTERM and SIGINT end the run early but orderly; the limit of open files is raised as far as it goes. */
static void process_prepare(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* ---- CPU: the server's and our own, over the same window ----------------------------------------- */
static struct { int pid; clockid_t clock; uint64_t server, own; } cpu;

static void cpu_prepare(int server_pid) {
    cpu.pid = server_pid;
    if (server_pid && clock_getcpuclockid(server_pid, &cpu.clock) != 0) fail("--server-pid %d: no such process", server_pid);
}

static void cpu_begin(void) {
    cpu.server = cpu.pid ? clock_ns(cpu.clock) : 0;
    cpu.own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static void cpu_end(void) {
    if (cpu.pid) cpu.server = clock_ns(cpu.clock) - cpu.server;
    cpu.own = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu.own;
}

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

/* The figures that every generator prints, as the beginning of a JSON object. */
static void print_figures(uint64_t measured, double seconds, int connections, double opening_s, uint64_t bytes) {
    double messages = (double)measured;
    printf("{\"messages\":%" PRIu64 ",\"seconds\":%.6f,\"per_second\":%.1f,", measured, seconds, messages / seconds);
    printf("\"latency_us\":{\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f},",
           latency.count ? (double)latency.sum_ns / (double)latency.count / 1e3 : 0.0, latency_us(0.5), latency_us(0.9),
           latency_us(0.99), latency_us(0.999), (double)latency.max_ns / 1e3);
    if (cpu.pid)
        printf("\"server_cpu_s\":%.6f,\"server_cpu_us_per_message\":%.4f,", (double)cpu.server / 1e9,
               messages > 0 ? (double)cpu.server / 1e3 / messages : 0.0);
    printf("\"generator_cpu_share\":%.3f,\"connections\":%d,\"opening_s\":%.3f,\"bytes_sent\":%" PRIu64 ",",
           (double)cpu.own / 1e9 / seconds, connections, opening_s, bytes);
}

#endif
