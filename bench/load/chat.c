/* Load generator for chats: MEMBERS members send one after another, with IN_FLIGHT lines of SIZE bytes in flight. A
   delivery is one line that one other member receives. Before the first round, all greetings are read: the last member
   sends a line with the mark ~ until each other member has received one. Each line of a round has the mark |.
   With "web", the members speak JSON over WebSocket. Then the sender receives its line as well.
   usage: chat PORT MEMBERS SIZE IN_FLIGHT [web] */
#include "load.h"

static const char UPGRADE[] =
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/* Return a message as a frame of a client, whose mask is 0 (RFC 6455, section 5.2), and its size. */
static char *frame(const char *message, size_t *size) {
    size_t length = strlen(message), head = length < 126 ? 6 : 8;
    char *made = calloc(1, head + length);
    made[0] = (char)0x81;
    if (length < 126) made[1] = (char)(0x80 | length);
    else { made[1] = (char)(0x80 | 126); made[2] = (char)(length >> 8); made[3] = (char)length; }
    memcpy(made + head, message, length);
    *size = head + length;
    return made;
}

/* Return what a member sends to say `text`, and its size. */
static char *said(const char *text, int web, size_t *size) {
    char *made = malloc(strlen(text) + 64);
    sprintf(made, web ? "{\"type\":\"say\",\"room\":\"#lobby\",\"text\":\"%s\"}" : "%s\n", text);
    *size = strlen(made);
    return web ? frame(made, size) : made;
}

int main(int argc, char **argv) {
    int web = argc == 6 && !strcmp(argv[5], "web");
    if (argc != 5 && !web) { fprintf(stderr, "usage: chat PORT MEMBERS SIZE IN_FLIGHT [web]\n"); return 64; }
    struct sockaddr_in to = address(argv[1]);
    int count = atoi(argv[2]), flight = atoi(argv[4]), *fds = calloc((size_t)count, sizeof *fds);
    size_t size = (size_t)atol(argv[3]), marker_size, begin_size;
    char *text = calloc(1, size), *buffer = malloc(1 << 20);
    memset(text, 'x', size - 1);
    text[0] = '|';
    char *line = said(text, web, &size), *marker = said("~", web, &marker_size);
    char *begin = frame("{\"type\":\"begin\"}", &begin_size);
    uint64_t *sent = calloc((size_t)flight, sizeof *sent);
    int poll = epoll_create1(0);
    struct epoll_event events[256];
    char *marked = calloc((size_t)count, 1);
    int present = 0, unmarked = count - 1, n = 0;
    while (present < count || unmarked || n) { /* read while members connect, so that no send queue overflows */
        if (present < count) {
            fds[present] = connected(&to);
            if (web) { send_all(fds[present], UPGRADE, sizeof UPGRADE - 1); send_all(fds[present], begin, begin_size); }
            watch(poll, fds[present], &fds[present]);
            present++;
        }
        n = epoll_wait(poll, events, 256, present < count ? 0 : 300);
        for (int k = 0; k < n; k++) {
            int *from = events[k].data.ptr;
            ssize_t r = read(*from, buffer, 1 << 20);
            if (r == 0) die("the server closed");
            int is_last = from - fds == count - 1; /* over WebSocket, it sees its own mark */
            if (r > 0 && !is_last && !marked[from - fds] && memchr(buffer, '~', (size_t)r)) {
                marked[from - fds] = 1;
                unmarked--;
            }
        }
        if (present == count && unmarked && !n) send_all(fds[count - 1], marker, marker_size);
    }
    ready();
    uint64_t start, end, others = (uint64_t)(web ? count : count - 1);
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
                for (char *at = buffer; (at = memchr(at, '|', (size_t)(buffer + r - at))); at++) deliveries++;
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
