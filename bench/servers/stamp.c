/* A stateless STAMP reflector (RFC 8762, unauthenticated, NTP format) without any limit. T2 is the kernel's time of
   arrival, T3 is read last, and the TTL of the question is reported. Prints its port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static void put32(unsigned char *at, uint32_t value) {
    value = htonl(value);
    memcpy(at, &value, 4);
}

static void put_time(unsigned char *at, const struct timespec *t) {
    put32(at, (uint32_t)((uint64_t)t->tv_sec + 2208988800u));
    put32(at + 4, (uint32_t)(((uint64_t)t->tv_nsec << 32) / 1000000000u));
}

int main(void) {
    int fd = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    socklen_t length = sizeof at;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at)) { perror("bind"); return 1; }
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one) ||
        setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &one, sizeof one)) { perror("setsockopt"); return 1; }
    getsockname(fd, (struct sockaddr *)&at, &length);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    static unsigned char question[65536], answer[65536];
    char control[256];
    for (;;) {
        struct iovec data = {question, sizeof question};
        struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &data, .msg_iovlen = 1,
                                 .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(fd, &message, 0);
        if (n < 14) continue;
        struct timespec received = {0}, sent;
        int ttl = 255;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS)
                memcpy(&received, CMSG_DATA(c), sizeof received);
            else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL)
                memcpy(&ttl, CMSG_DATA(c), sizeof ttl);
        }
        if (n < 44) { memset(question + n, 0, (size_t)(44 - n)); n = 44; }
        memset(answer, 0, 44);
        memcpy(answer, question, 4);            /* a stateless reflector copies the sequence number */
        answer[12] = 0, answer[13] = 1;         /* not synchronized; an error estimate is never 0 */
        memcpy(answer + 14, question + 14, 2);  /* the session's identifier */
        put_time(answer + 16, &received);
        memcpy(answer + 24, question, 14);      /* the sender's sequence number, time and error estimate */
        answer[40] = (unsigned char)ttl;
        memcpy(answer + 44, question + 44, (size_t)n - 44);
        clock_gettime(CLOCK_REALTIME, &sent);
        put_time(answer + 4, &sent);
        sendto(fd, answer, (size_t)n, 0, (struct sockaddr *)&from, sizeof from);
    }
}
