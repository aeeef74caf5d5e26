/* Load generator for chats: MEMBERS members send one after another, with IN_FLIGHT lines of SIZE bytes in flight. A
   delivery is one line that one other member receives. Before the first round, all greetings are read: the last member
   sends a line with the mark ~ until each other member has received one.
   usage: chat PORT MEMBERS SIZE IN_FLIGHT */
#include "load.h"

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "usage: chat PORT MEMBERS SIZE IN_FLIGHT\n"); return 64; }
    struct sockaddr_in to = address(argv[1]);
    int count = atoi(argv[2]), flight = atoi(argv[4]), *fds = calloc((size_t)count, sizeof *fds);
    size_t size = (size_t)atol(argv[3]);
    char *line = malloc(size), *buffer = malloc(1 << 20);
    uint64_t *sent = calloc((size_t)flight, sizeof *sent);
    memset(line, 'x', size);
    line[size - 1] = '\n';
    int poll = epoll_create1(0);
    struct epoll_event events[256];
    char *marked = calloc((size_t)count, 1);
    int present = 0, unmarked = count - 1, n = 0;
    while (present < count || unmarked || n) { /* read while members connect, so that no send queue overflows */
        if (present < count) {
            watch(poll, fds[present] = connected(&to), &fds[present]);
            present++;
        }
        n = epoll_wait(poll, events, 256, present < count ? 0 : 300);
        for (int k = 0; k < n; k++) {
            int *from = events[k].data.ptr;
            ssize_t r = read(*from, buffer, 1 << 20);
            if (r == 0) die("the server closed");
            if (r > 0 && !marked[from - fds] && memchr(buffer, '~', (size_t)r)) { marked[from - fds] = 1; unmarked--; }
        }
        if (present == count && unmarked && !n) send_all(fds[count - 1], "~\n", 2);
    }
    ready();
    uint64_t start, end, others = (uint64_t)count - 1;
    int sender = 0;
    while ((end = next_round(&start))) {
        uint64_t deliveries = 0, expected = 0, done = 0;
        for (int i = 0; i < flight; i++, expected += others) {
            sent[i] = now();
            send_all(fds[sender++ % count], line, size);
        }
        while (deliveries < expected) {
            int n = epoll_wait(poll, events, 256, 5000);
            if (n <= 0) {
                fprintf(stderr, "chat: %llu deliveries are missing\n", (unsigned long long)(expected - deliveries));
                return 1;
            }
            for (int i = 0; i < n; i++) {
                ssize_t r = read(*(int *)events[i].data.ptr, buffer, 1 << 20);
                if (r < 0) { if (errno == EAGAIN) continue; die("read"); }
                if (r == 0) { fprintf(stderr, "chat: the server closed\n"); return 1; }
                for (char *at = buffer; (at = memchr(at, '\n', (size_t)(buffer + r - at))); at++) deliveries++;
            }
            for (; deliveries >= (done + 1) * others; done++) { /* all deliveries of one line have arrived */
                record(sent[done % (uint64_t)flight]);
                if (now() < end) {
                    sent[done % (uint64_t)flight] = now();
                    send_all(fds[sender++ % count], line, size);
                    expected += others;
                }
            }
        }
        report(deliveries, start);
    }
    return 0;
}
