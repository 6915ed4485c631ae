// The least that a server can do for "GET one object over HTTP/1.1, keep-alive": answer each request with the same bytes
// from memory, from one epoll loop. What it costs is the kernel's price; a real server's cost is told against it.
//
//   limit PORT SIZE writev|sendfile
//
// writev sends header and body from a mapping in one call; sendfile the header with MSG_MORE and then the file. The better
// of the two at a size is the limit there. The body is that of load.c's key SIZE/limit.
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "body.h"

enum { READ_BUFFER = 4096, EVENTS = 64 };
// One call may fill a send buffer of several MiB before another connection gets a turn: the same bound as nginx's.
static const size_t MOST_AT_ONCE = 2 << 20;

struct client {
    int fd;
    int wanted;      // requests read and not answered in full
    size_t sent;     // of the answer under way, header included
};

static char header[256];
static size_t header_size, body_size;
static char *body;
static int file, by_sendfile;

static void die(const char *what) {
    perror(what);
    exit(1);
}

// Sends what the socket takes: 1 when the answer is out, 0 when the socket is full, -1 when the client is gone.
static int answer(struct client *c) {
    while (c->sent < header_size + body_size) {
        size_t in_body = c->sent < header_size ? 0 : c->sent - header_size;
        size_t left = body_size - in_body;
        ssize_t n;
        if (!by_sendfile) {
            struct iovec parts[2] = {{header + c->sent, c->sent < header_size ? header_size - c->sent : 0},
                                     {body + in_body, left < MOST_AT_ONCE ? left : MOST_AT_ONCE}};
            int skip = parts[0].iov_len == 0;
            n = writev(c->fd, parts + skip, 2 - skip);
        } else if (c->sent < header_size) {
            n = send(c->fd, header + c->sent, header_size - c->sent, MSG_MORE);
        } else {
            off_t at = in_body;
            n = sendfile(c->fd, file, &at, left < MOST_AT_ONCE ? left : MOST_AT_ONCE);
        }
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        c->sent += n;
    }
    c->sent = 0;
    c->wanted--;
    return 1;
}

// Reads and answers until the socket would block; edge-triggered, so nobody tells us twice. False when the client is gone.
static int serve(struct client *c) {
    char buffer[READ_BUFFER];
    for (;;) {
        while (c->wanted > 0) {
            int state = answer(c);
            if (state <= 0) return state == 0;
        }
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN) return 1;
        if (n <= 0) return 0;
        // Our client sends each request in one segment, so an end of head is never cut in two.
        for (char *at = buffer; (at = memmem(at, buffer + n - at, "\r\n\r\n", 4)); at += 4) c->wanted++;
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 4096)) die("listen");
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: limit PORT SIZE writev|sendfile\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    body_size = strtoull(argv[2], NULL, 10);
    by_sendfile = strcmp(argv[3], "sendfile") == 0;
    file = memfd_create("body", 0);
    if (file < 0 || ftruncate(file, body_size + 1)) die("memfd");
    body = mmap(NULL, body_size + 1, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (body == MAP_FAILED) die("mmap");
    madvise(body, body_size, MADV_HUGEPAGE);
    char key[64];
    snprintf(key, sizeof key, "%zu/limit", body_size);
    table_fill();
    for (size_t at = 0; at < body_size; at += MIB) {
        memcpy(body + at, body_at(hash(key), at), body_size - at < MIB ? body_size - at : MIB);
    }
    // The headers that a cache of S3 can't leave out.
    header_size = snprintf(header, sizeof header,
                           "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                           "ETag: \"0123456789abcdef0123456789abcdef\"\r\nContent-Length: %zu\r\n\r\n", body_size);

    int listener = listen_on(atoi(argv[1])), loop = epoll_create1(0), one = 1;
    struct epoll_event listening = {EPOLLIN, {.ptr = NULL}}, events[EVENTS];
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &listening);
    for (;;) {
        int n = epoll_wait(loop, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (!c) {
                for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    struct client *fresh = calloc(1, sizeof *fresh);
                    fresh->fd = fd;
                    struct epoll_event both = {EPOLLIN | EPOLLOUT | EPOLLET, {.ptr = fresh}};
                    epoll_ctl(loop, EPOLL_CTL_ADD, fd, &both);
                }
            } else if (!serve(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
