/* A UDP timestamp server without any limit. It formats the time once a second. Prints its port. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

int main(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    socklen_t length = sizeof at;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at)) { perror("bind"); return 1; }
    getsockname(fd, (struct sockaddr *)&at, &length);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    static char answer[66000];
    time_t second = 0;
    size_t prefix = 27; /* the length of "[Sat Nov 21 00:33:33 2026] " */
    for (;;) {
        length = sizeof from;
        ssize_t n = recvfrom(fd, answer + prefix, 65507, 0, (struct sockaddr *)&from, &length);
        if (n < 0) continue;
        time_t t = time(0);
        if (t != second) {
            char text[32];
            ctime_r(&t, text);
            answer[0] = '[';
            memcpy(answer + 1, text, 24);
            memcpy(answer + 25, "] ", 2);
            second = t;
        }
        sendto(fd, answer, prefix + (size_t)n, 0, (struct sockaddr *)&from, length);
    }
}
