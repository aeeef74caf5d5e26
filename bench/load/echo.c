/* Load generator for echo servers: CONNECTIONS connections, each with IN_FLIGHT messages of SIZE bytes in flight, and
   IDLE more connections that send nothing. If IN_FLIGHT is 0, each message has a new connection, one after another.
   usage: echo PORT CONNECTIONS SIZE IN_FLIGHT IDLE */
#include "load.h"

struct conn { int fd; size_t got; uint64_t sent; };

/* Repeat: connect, send one message, receive its echo, close. */
static void one_by_one(const struct sockaddr_in *to, const char *message, char *buffer, size_t size) {
    uint64_t start, end;
    ready();
    while ((end = next_round(&start))) {
        while (now() < end) {
            uint64_t began = now();
            int fd = connected(to);
            send_all(fd, message, size);
            for (size_t got = 0; got < size;) {
                ssize_t r = read(fd, buffer, size);
                if (r <= 0) die("read");
                got += (size_t)r;
            }
            close(fd);
            record(began);
        }
        report(batches, start);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) { fprintf(stderr, "usage: echo PORT CONNECTIONS SIZE IN_FLIGHT IDLE\n"); return 64; }
    struct sockaddr_in to = address(argv[1]);
    int count = atoi(argv[2]), idle = atoi(argv[5]);
    size_t size = (size_t)atol(argv[3]), flight = (size_t)atol(argv[4]), batch = size * flight;
    char *message = malloc(batch + size), *buffer = malloc(1 << 20);
    memset(message, 'x', batch + size);
    if (!flight) { one_by_one(&to, message, buffer, size); return 0; }
    while (idle--) connected(&to);
    struct conn *conns = calloc((size_t)count, sizeof *conns);
    int poll = epoll_create1(0);
    for (int i = 0; i < count; i++) watch(poll, conns[i].fd = connected(&to), &conns[i]);
    ready();
    uint64_t start, end;
    struct epoll_event events[256];
    while ((end = next_round(&start))) {
        uint64_t messages = 0;
        int open = count;
        for (int i = 0; i < count; i++) { conns[i].sent = now(); send_all(conns[i].fd, message, batch); }
        while (open) { /* until the echoes of all connections have arrived */
            int n = epoll_wait(poll, events, 256, 5000);
            if (n <= 0) { fprintf(stderr, "echo: no answer within 5 s\n"); return 1; }
            uint64_t t = now();
            for (int i = 0; i < n; i++) {
                struct conn *c = events[i].data.ptr;
                ssize_t r = read(c->fd, buffer, 1 << 20);
                if (r < 0) { if (errno == EAGAIN) continue; die("read"); }
                if (r == 0) { fprintf(stderr, "echo: the server closed\n"); return 1; }
                c->got += (size_t)r;
                while (c->got >= batch) {
                    c->got -= batch;
                    record(c->sent);
                    messages += flight;
                    if (t < end) { c->sent = now(); send_all(c->fd, message, batch); } else open--;
                }
            }
        }
        report(messages, start);
    }
    return 0;
}
