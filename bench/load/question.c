/* Asks a timestamp server on 127.0.0.1 COUNT questions, one after another, and prints the round trip of the last one in
   microseconds: until the receive stamp of the kernel, and until this program has read the answer.
   usage: question PORT COUNT */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static double microseconds(struct timespec t) { return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3; }

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: question PORT COUNT\n"); return 64; }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval timeout = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) ||
        connect(fd, (struct sockaddr *)&to, sizeof to)) { perror("question"); return 1; }
    char answer[1500], control[128];
    struct iovec vector = {answer, sizeof answer};
    struct timespec sent, read, stamp;
    for (int left = atoi(argv[2]); left > 0; left--) {
        struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control,
                                 .msg_controllen = sizeof control};
        clock_gettime(CLOCK_REALTIME, &sent);
        if (send(fd, "hello", 5, 0) < 0 || recvmsg(fd, &message, 0) < 0) { perror("question"); return 1; }
        clock_gettime(CLOCK_REALTIME, &read);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (!header || header->cmsg_type != SO_TIMESTAMPNS) { fprintf(stderr, "question: no stamp\n"); return 1; }
        memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
    }
    printf("%.1f %.1f\n", microseconds(stamp) - microseconds(sent), microseconds(read) - microseconds(sent));
    return 0;
}
