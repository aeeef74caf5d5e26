/* Load for chats: N members, K lines of SIZE bytes in flight, said by one member after another. A delivery is one line
   at one of the others. What comes before the first line, greetings say, is read until all have got a line of the last
   member's, in which there is a mark; it is said again whenever it is quiet before that.
   usage: chat PORT MEMBERS SIZE IN_FLIGHT */
#include "load.h"

int main(int argc, char **argv) {
    if (argc != 5) { fprintf(stderr, "usage: chat PORT MEMBERS SIZE IN_FLIGHT\n"); return 64; }
    struct sockaddr_in to = address(argv[1]);
    int count = atoi(argv[2]), flight = atoi(argv[4]), *fds = calloc((size_t)count, sizeof *fds);
    size_t size = (size_t)atol(argv[3]);
    char *line = malloc(size), *buffer = malloc(1 << 20);
    uint64_t *said = calloc((size_t)flight, sizeof *said);
    memset(line, 'x', size);
    line[size - 1] = '\n';
    int poll = epoll_create1(0);
    struct epoll_event events[256];
    char *marked = calloc((size_t)count, 1);
    int present = 0, unmarked = count - 1, n = 0;
    while (present < count || unmarked || n) { /* reads meanwhile, so that nobody's queue overflows */
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
    int speaker = 0;
    while ((end = next_turn(&start))) {
        uint64_t deliveries = 0, owed = 0, done = 0;
        for (int i = 0; i < flight; i++, owed += others) {
            said[i] = now();
            send_all(fds[speaker++ % count], line, size);
        }
        while (deliveries < owed) {
            int n = epoll_wait(poll, events, 256, 5000);
            if (n <= 0) { fprintf(stderr, "chat: %llu deliveries are missing\n", (unsigned long long)(owed - deliveries)); return 1; }
            for (int i = 0; i < n; i++) {
                ssize_t r = read(*(int *)events[i].data.ptr, buffer, 1 << 20);
                if (r < 0) { if (errno == EAGAIN) continue; die("read"); }
                if (r == 0) { fprintf(stderr, "chat: the server closed\n"); return 1; }
                for (char *at = buffer; (at = memchr(at, '\n', (size_t)(buffer + r - at))); at++) deliveries++;
            }
            for (; deliveries >= (done + 1) * others; done++) { /* as many as one line makes have come */
                took(said[done % (uint64_t)flight]);
                if (now() < end) {
                    said[done % (uint64_t)flight] = now();
                    send_all(fds[speaker++ % count], line, size);
                    owed += others;
                }
            }
        }
        report(deliveries, start);
    }
    return 0;
}
