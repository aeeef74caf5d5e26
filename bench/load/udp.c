/* Load for timestamp servers: SOURCES sockets, each bound to an address of its own (127.0.1.1 and on), each with one
   question of SIZE bytes in flight.
   usage: udp PORT SOURCES SIZE */
#include "load.h"

struct source { int fd; uint64_t sent; };

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: udp PORT SOURCES SIZE\n"); return 64; }
    struct sockaddr_in to = address(argv[1]);
    int count = atoi(argv[2]), poll = epoll_create1(0);
    size_t size = (size_t)atol(argv[3]);
    char *question = malloc(size), buffer[65536];
    memset(question, 'x', size);
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
    while ((end = next_turn(&start))) {
        int open = count;
        for (int i = 0; i < count; i++) {
            sources[i].sent = now();
            if (send(sources[i].fd, question, size, 0) < 0) die("send");
        }
        while (open) {
            int n = epoll_wait(poll, events, 256, 5000);
            if (n <= 0) { fprintf(stderr, "udp: %d answers are missing\n", open); return 1; }
            uint64_t t = now();
            for (int i = 0; i < n; i++) {
                struct source *s = events[i].data.ptr;
                if (recv(s->fd, buffer, sizeof buffer, 0) < 0) { if (errno == EAGAIN) continue; die("recv"); }
                took(s->sent);
                if (t >= end) { open--; continue; }
                s->sent = now();
                if (send(s->fd, question, size, 0) < 0) die("send");
            }
        }
        report(batches, start);
    }
    return 0;
}
