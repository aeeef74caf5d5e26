/* The common part of the load programs: clock, round-trip times, connections and rounds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) { perror(what); exit(1); }

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#define BUCKETS 2000000 /* one bucket for each microsecond, up to 2 s */
static uint32_t trips[BUCKETS];
static uint64_t batches, worst;

/* Record a round trip that started at `since`. */
static void record(uint64_t since) {
    uint64_t t = now() - since, us = t / 1000;
    trips[us < BUCKETS ? us : BUCKETS - 1]++;
    if (t > worst) worst = t;
    batches++;
}

/* Wait for the next round: a line on standard input with its seconds. Returns its end, or 0 at the end of the input. */
static uint64_t next_round(uint64_t *start) {
    char line[64];
    if (!fgets(line, sizeof line, stdin)) return 0;
    memset(trips, 0, sizeof trips);
    batches = worst = 0;
    *start = now();
    return *start + (uint64_t)(atof(line) * 1e9);
}

/* Print the figures of a round: messages, seconds, and round-trip times in microseconds: p50 p99 p99.9 max. */
static void report(uint64_t messages, uint64_t start) {
    double marks[] = {0.5, 0.99, 0.999};
    uint64_t seen = 0;
    size_t m = 0;
    printf("%llu %.6f", (unsigned long long)messages, (double)(now() - start) / 1e9);
    for (size_t i = 0; i < BUCKETS && m < 3; i++) {
        seen += trips[i];
        while (m < 3 && (double)seen >= marks[m] * (double)batches) { printf(" %zu", i); m++; }
    }
    printf(" %llu\n", (unsigned long long)(worst / 1000));
    fflush(stdout);
}

/* Print that all connections are open. */
static void ready(void) { puts("ready"); fflush(stdout); }

static struct sockaddr_in address(const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}

static inline int connected(const struct sockaddr_in *to) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0) die("socket");
    if (connect(fd, (const struct sockaddr *)to, sizeof *to)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static inline void send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0) {
            if (errno == EAGAIN) continue;
            die("write");
        }
        data += n;
        size -= (size_t)n;
    }
}

static void watch(int poll, int fd, void *what) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = what};
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
}
