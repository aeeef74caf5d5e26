/* Load for echo servers: N connections, each with K messages of SIZE bytes in flight, for SECONDS; with K of 0, a new
   connection for each message, one after another.
   usage: load HOST PORT CONNECTIONS SIZE IN_FLIGHT SECONDS
   prints: messages, seconds, and round trips in microseconds: p50 p99 p99.9 max */
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

struct conn { int fd; size_t got; uint64_t sent; };

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) { perror(what); exit(1); }

#define BUCKETS 2000000 /* of 1 microsecond, up to 2 s */
static uint32_t bucket[BUCKETS];

static void send_all(int fd, const char *data, size_t size) {
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

static int connected(const struct sockaddr_in *to) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0) die("socket");
    if (connect(fd, (const struct sockaddr *)to, sizeof *to)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void report(uint64_t messages, uint64_t batches, uint64_t start, uint64_t worst) {
    double marks[] = {0.5, 0.99, 0.999};
    uint64_t seen = 0;
    size_t m = 0;
    printf("%llu %.6f", (unsigned long long)messages, (double)(now() - start) / 1e9);
    for (size_t i = 0; i < BUCKETS && m < 3; i++) {
        seen += bucket[i];
        while (m < 3 && (double)seen >= marks[m] * (double)batches) { printf(" %zu", i); m++; }
    }
    printf(" %llu\n", (unsigned long long)(worst / 1000));
}

/* Connect, send one message, read it back, close: over and over. */
static int one_by_one(const struct sockaddr_in *to, const char *message, char *buffer, size_t size, double seconds) {
    uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9), done = 0, worst = 0;
    while (now() < end) {
        uint64_t began = now(), took;
        int fd = connected(to);
        send_all(fd, message, size);
        for (size_t got = 0; got < size;) {
            ssize_t r = read(fd, buffer, size);
            if (r <= 0) die("read");
            got += (size_t)r;
        }
        close(fd);
        took = now() - began;
        bucket[took / 1000 < BUCKETS ? took / 1000 : BUCKETS - 1]++;
        if (took > worst) worst = took;
        done++;
    }
    report(done, done, start, worst);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "usage: load HOST PORT CONNECTIONS SIZE IN_FLIGHT SECONDS\n"); return 64; }
    int count = atoi(argv[3]);
    size_t size = (size_t)atol(argv[4]), flight = (size_t)atol(argv[5]), batch = size * flight;
    double seconds = atof(argv[6]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) { fprintf(stderr, "load: not an IPv4 address\n"); return 64; }
    char *message = malloc(batch + size), *buffer = malloc(1 << 20);
    memset(message, 'x', batch + size);
    if (!flight) return one_by_one(&to, message, buffer, size, seconds);
    struct conn *conns = calloc((size_t)count, sizeof *conns);
    int poll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        int fd = connected(&to);
        conns[i].fd = fd;
        fcntl(fd, F_SETFL, O_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &conns[i]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
    }
    uint64_t start = now(), end = start + (uint64_t)(seconds * 1e9), messages = 0, worst = 0, batches = 0;
    for (int i = 0; i < count; i++) { conns[i].sent = now(); send_all(conns[i].fd, message, batch); }
    struct epoll_event events[256];
    uint64_t t = start;
    while (t < end) {
        int n = epoll_wait(poll, events, 256, 1000);
        t = now();
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            ssize_t r = read(c->fd, buffer, 1 << 20);
            if (r < 0) { if (errno == EAGAIN) continue; die("read"); }
            if (r == 0) { fprintf(stderr, "load: the server closed\n"); return 1; }
            c->got += (size_t)r;
            while (c->got >= batch) {
                uint64_t took = now() - c->sent, us = took / 1000;
                c->got -= batch;
                bucket[us < BUCKETS ? us : BUCKETS - 1]++;
                if (took > worst) worst = took;
                messages += flight;
                batches++;
                c->sent = now();
                send_all(c->fd, message, batch);
            }
        }
    }
    report(messages, batches, start, worst);
    return 0;
}
