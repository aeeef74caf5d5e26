/* An echo server on epoll, without any library: its cost is that of the kernel. Prints its port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&at, sizeof at) || listen(listening, 1024)) { perror("listen"); return 1; }
    getsockname(listening, (struct sockaddr *)&at, &length);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listening}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listening, &e);
    static char buffer[65536];
    for (;;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listening) {
                int accepted;
                while ((accepted = accept4(listening, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    struct epoll_event a = {.events = EPOLLIN, .data.fd = accepted};
                    epoll_ctl(poll, EPOLL_CTL_ADD, accepted, &a);
                }
                continue;
            }
            ssize_t r = read(fd, buffer, sizeof buffer);
            if (r <= 0) { if (r == 0 || errno != EAGAIN) close(fd); continue; }
            for (ssize_t sent = 0; sent < r;) {
                ssize_t w = write(fd, buffer + sent, (size_t)(r - sent));
                if (w < 0) { if (errno == EAGAIN) continue; close(fd); break; }
                sent += w;
            }
        }
    }
}
