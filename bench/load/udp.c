/* Load generator for UDP servers: SOURCES sockets, each with its own source address (127.0.1.1 and following) and one
   request of SIZE bytes in flight, all of them BYTE: 120, an x, or 0, a question of STAMP.
   usage: udp PORT SOURCES SIZE BYTE */
#include "load.h"

struct source { int fd; uint64_t sent; };

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "usage: udp PORT SOURCES SIZE BYTE\n"); return 64; }
    struct sockaddr_in to = address(argv[1]);
    int count = atoi(argv[2]), poll = epoll_create1(0);
    size_t size = (size_t)atol(argv[3]);
    char *request = malloc(size), buffer[65536];
    memset(request, atoi(argv[4]), size);
    struct source *sources = calloc((size_t)count, sizeof *sources);
    for (int i = 0; i < count; i++) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101u + (uint32_t)i)};
        int fd = sources[i].fd = socket(AF_INET, SOCK_DGRAM, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind");
        if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
        watch(poll, fd, &sources[i]);
    }
    ready();
    uint64_t start, end;
    struct epoll_event events[256];
    while ((end = next_round(&start))) {
        int open = count;
        for (int i = 0; i < count; i++) {
            sources[i].sent = now();
            if (send(sources[i].fd, request, size, 0) < 0) die("send");
        }
        while (open) {
            int n = epoll_wait(poll, events, 256, 5000);
            if (n <= 0) { fprintf(stderr, "udp: %d answers are missing\n", open); return 1; }
            uint64_t t = now();
            for (int i = 0; i < n; i++) {
                struct source *s = events[i].data.ptr;
                if (recv(s->fd, buffer, sizeof buffer, 0) < 0) { if (errno == EAGAIN) continue; die("recv"); }
                record(s->sent);
                if (t >= end) { open--; continue; }
                s->sent = now();
                if (send(s->fd, request, size, 0) < 0) die("send");
            }
        }
        report(batches, start);
    }
    return 0;
}
