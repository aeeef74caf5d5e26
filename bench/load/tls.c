/* Load generator for TLS echo servers: CONNECTIONS connections, each with one message of SIZE bytes in flight. If
   CONNECTIONS is 0, each message has a new connection with a full handshake, one after another. The certificate of the
   server is not verified.
   usage: tls PORT CONNECTIONS SIZE */
#include "load.h"
#include <openssl/err.h>
#include <openssl/ssl.h>

struct conn { SSL *tls; size_t got; uint64_t sent; };

static SSL *connected_tls(SSL_CTX *context, const struct sockaddr_in *to) {
    SSL *tls = SSL_new(context);
    SSL_set_fd(tls, connected(to));
    if (SSL_connect(tls) != 1) { ERR_print_errors_fp(stderr); exit(1); }
    return tls;
}

static void send_tls(SSL *tls, const char *message, size_t size) {
    for (int r; (r = SSL_write(tls, message, (int)size)) != (int)size;) {
        int error = SSL_get_error(tls, r);
        if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) die("SSL_write");
    }
}

int main(int argc, char **argv) {
    if (argc != 4) { fprintf(stderr, "usage: tls PORT CONNECTIONS SIZE\n"); return 64; }
    struct sockaddr_in to = address(argv[1]);
    int count = atoi(argv[2]);
    size_t size = (size_t)atol(argv[3]);
    char *message = malloc(size), *buffer = malloc(1 << 20);
    memset(message, 'x', size);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    uint64_t start, end;
    if (!count) {
        ready();
        while ((end = next_round(&start))) {
            while (now() < end) {
                uint64_t began = now();
                SSL *tls = connected_tls(context, &to);
                send_tls(tls, message, size);
                for (size_t got = 0; got < size;) {
                    int r = SSL_read(tls, buffer, 1 << 20);
                    if (r <= 0) die("SSL_read");
                    got += (size_t)r;
                }
                SSL_shutdown(tls);
                close(SSL_get_fd(tls));
                SSL_free(tls);
                record(began);
            }
            report(batches, start);
        }
        return 0;
    }
    struct conn *conns = calloc((size_t)count, sizeof *conns);
    int poll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        conns[i].tls = connected_tls(context, &to);
        watch(poll, SSL_get_fd(conns[i].tls), &conns[i]);
    }
    ready();
    struct epoll_event events[256];
    while ((end = next_round(&start))) {
        int open = count;
        for (int i = 0; i < count; i++) { conns[i].sent = now(); send_tls(conns[i].tls, message, size); }
        while (open) {
            int n = epoll_wait(poll, events, 256, 5000);
            if (n <= 0) { fprintf(stderr, "tls: no answer within 5 s\n"); return 1; }
            uint64_t t = now();
            for (int i = 0; i < n; i++) {
                struct conn *c = events[i].data.ptr;
                int r;
                while ((r = SSL_read(c->tls, buffer, 1 << 20)) > 0) c->got += (size_t)r;
                if (SSL_get_error(c->tls, r) != SSL_ERROR_WANT_READ) {
                    fprintf(stderr, "tls: the server closed\n");
                    return 1;
                }
                if (c->got < size) continue;
                c->got -= size;
                record(c->sent);
                if (t < end) { c->sent = now(); send_tls(c->tls, message, size); } else open--;
            }
        }
        report(batches, start);
    }
    return 0;
}
