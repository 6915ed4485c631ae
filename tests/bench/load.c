// The load: one epoll loop that asks over keep-alive connections and checks what it is told to check.
//
//   load --ports P[,P...] --key PATTERN [--prefix /bucket/] [more below]   prints one JSON object; times in microseconds
//
// Closed loop (no --rate): each connection asks again when it has its answer. With as many requests as connections it is a
// herd: all connect, then all ask at once. Open loop (--rate N): request i is due at i/N seconds, waits for an idle
// connection if there is none, and its time counts from when it was due, so a slow server can't slow its own measurement.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "body.h"
#include "histogram.h"

enum { HEAD = 16384, BUFFER = 256 << 10, EVENTS = 256, MOST_PORTS = 16 };
enum receive { COPY, TRUNC, CHECK };
enum order { SEQUENCE, UNIFORM, ZIPF };

static struct {
    int ports[MOST_PORTS], port_count, conns;
    const char *prefix, *key;   // a key's pattern may hold one %ld, its number
    long first, keys;           // numbers from first to first + keys - 1
    enum order order;
    double theta;
    long range, object;         // ask for ranges of that size, of an object that large
    enum order range_order;
    long requests;
    double seconds, rate;
    enum receive receive;
    int abandon;                // hang up at the first byte of the body
    long read_rate;             // bytes a second and connection, for clients that hardly read
    uint64_t seed;
} o = {.conns = 1, .prefix = "/bucket/", .keys = 1, .theta = 0.99, .requests = 1L << 60, .seconds = 1e9, .seed = 1};

struct conn {
    int fd, port, busy, armed;
    int64_t due, sent, idle_since;
    char head[HEAD];
    size_t head_size;
    int in_body, status;
    uint64_t left, at, seed;    // of the body: bytes to come, place in the object, what its bytes come from
};

static struct conn *conns;
static int loop;
static long asked, done, failed, wrong, unfinished;
static uint64_t bytes, from_memory, from_peer, from_origin;
static double *zipf;
static char buffer[BUFFER];
static struct histogram first_byte, whole, lag;
static int64_t first_sent, last_sent;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t draw(void) { return mix(o.seed++); }

static long draw_key(void) {
    if (o.keys == 1) return o.first;
    if (o.order == SEQUENCE) return o.first + asked % o.keys;
    if (o.order == UNIFORM) return o.first + draw() % o.keys;
    double u = (draw() >> 11) * 0x1p-53;
    long low = 0, high = o.keys - 1;
    while (low < high) {
        long middle = (low + high) / 2;
        if (zipf[middle] < u) low = middle + 1;
        else high = middle;
    }
    return o.first + low;
}

static void zipf_fill(void) {
    zipf = malloc(o.keys * sizeof *zipf);
    double sum = 0;
    for (long i = 0; i < o.keys; i++) zipf[i] = sum += pow(i + 1, -o.theta);
    for (long i = 0; i < o.keys; i++) zipf[i] /= sum;
}

static void connect_to(struct conn *c) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(c->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1, little = 64 << 10;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (o.read_rate) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&there, sizeof there)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {EPOLLIN, {.ptr = c}};
    if (!o.read_rate && epoll_ctl(loop, EPOLL_CTL_ADD, c->fd, &event)) die("epoll");
}

static void ask(struct conn *c, int64_t due) {
    char key[512], request[1024], range[96] = "";
    snprintf(key, sizeof key, o.key, draw_key());
    c->at = 0;
    if (o.range) {
        long places = o.object / o.range;
        c->at = (o.range_order == SEQUENCE ? asked % places : (long)(draw() % places)) * o.range;
        snprintf(range, sizeof range, "Range: bytes=%lu-%lu\r\n", c->at, c->at + o.range - 1);
    }
    if (o.receive == CHECK) c->seed = hash(key);
    int n = snprintf(request, sizeof request, "GET %s%s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", o.prefix, key, range);
    c->busy = 1;
    c->head_size = c->in_body = 0;
    c->sent = last_sent = now_ns();
    if (!first_sent) first_sent = c->sent;
    c->due = due ? due : c->sent;
    asked++;
    // A fresh or idle connection takes a request in one piece; a dead one tells when it is read.
    if (send(c->fd, request, n, MSG_NOSIGNAL) != n && errno != EPIPE && errno != ECONNRESET) die("send");
}

static void again(struct conn *c) {
    close(c->fd);
    connect_to(c);
}

static void finish(struct conn *c, int good) {
    int64_t at = now_ns();
    c->busy = 0;
    c->idle_since = at;
    done++;
    if (good) note(&whole, at - c->due);
    else failed++;
}

static void check(struct conn *c, const char *got, size_t n) {
    while (n) {
        size_t piece = MIB - c->at % MIB;
        if (piece > n) piece = n;
        if (memcmp(got, body_at(c->seed, c->at), piece)) wrong++;
        got += piece, c->at += piece, n -= piece;
    }
}

static const char *field(const char *head, const char *name) {
    const char *at = strcasestr(head, name);
    return at ? at + strlen(name) : NULL;
}

// Takes n bytes of body; true when it was the last.
static int take(struct conn *c, const char *got, size_t n) {
    if (got && o.receive == CHECK && c->status < 300) check(c, got, n);
    c->left -= n;
    bytes += n;
    return c->left == 0;
}

// Reads once. -1: the connection is broken; 0: more is to come; 1: the answer is complete.
static int receive(struct conn *c, size_t most) {
    if (c->in_body) {
        int drop = o.receive == TRUNC;
        size_t room = drop ? 1 << 30 : most;
        ssize_t n = recv(c->fd, buffer, c->left < room ? c->left : room, drop ? MSG_TRUNC : 0);
        if (n < 0 && errno == EAGAIN) return 0;
        return n <= 0 ? -1 : take(c, drop ? NULL : buffer, n);
    }
    ssize_t n = recv(c->fd, c->head + c->head_size, HEAD - 1 - c->head_size, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    c->head_size += n;
    c->head[c->head_size] = 0;
    char *end = memmem(c->head, c->head_size, "\r\n\r\n", 4);
    if (!end) return c->head_size == HEAD - 1 ? -1 : 0;
    size_t rest = c->head + c->head_size - (end + 4);
    *end = 0;
    const char *length = field(c->head, "\r\ncontent-length:");
    if (!length) return -1;
    c->status = atoi(c->head + 9);
    c->left = strtoull(length, NULL, 10);
    c->in_body = 1;
    if (o.receive == CHECK) {
        const char *source = field(c->head, "\r\nx-falcon-cache: ");
        if (source) from_memory += *source == 'm', from_peer += *source == 'p', from_origin += *source == 'o';
    }
    return c->left == 0 || (rest && take(c, end + 4, rest));
}

static void on_readable(struct conn *c) {
    uint64_t had = bytes;
    int state = receive(c, BUFFER);
    if (!c->busy || state < 0) {
        if (c->busy) finish(c, 0);
        again(c);
        return;
    }
    if (c->armed && bytes > had) {
        note(&first_byte, now_ns() - c->due);
        c->armed = 0;
        if (o.abandon) {
            finish(c, c->status < 300);
            again(c);
            return;
        }
    }
    if (state == 1) finish(c, c->status < 300);
}

static void start(struct conn *c, int64_t due) {
    c->armed = 1;
    ask(c, due);
}

// ---- the three loops ----

static void closed(int64_t until) {
    struct epoll_event events[EVENTS];
    for (int i = 0; i < o.conns && asked < o.requests; i++) start(&conns[i], 0);
    while (done < asked) {
        int n = epoll_wait(loop, events, EVENTS, 1000);
        int more = now_ns() < until;
        if (n == 0 && !more && now_ns() > until + 60000000000L) break;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            on_readable(c);
            if (!c->busy && more && asked < o.requests) start(c, 0);
        }
    }
}

static void open_loop(int64_t began, int64_t until) {
    struct epoll_event events[EVENTS];
    int *idle = malloc(o.conns * sizeof *idle), free_count = o.conns;
    for (int i = 0; i < o.conns; i++) idle[i] = o.conns - 1 - i;
    double gap = 1e9 / o.rate;
    int64_t give_up = until + 5000000000L;
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        int64_t at = now_ns(), next = began + (int64_t)(asked * gap);
        while (free_count && next <= at && next < until) {
            struct conn *c = &conns[idle[--free_count]];
            note(&lag, at - (next > c->idle_since ? next : c->idle_since));
            start(c, next);
            at = now_ns();
            next = began + (int64_t)(asked * gap);
        }
        if (next >= until && done == asked) break;
        if (at > give_up) break;
        // Awake for the last 100 us before a request is due: a timer is late by about that.
        int64_t sleep = free_count && next < until ? next - at - 100000 : 100000000;
        struct timespec wait = {0, sleep > 0 ? sleep : 0};
        int n = epoll_pwait2(loop, events, EVENTS, &wait, NULL);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            int was_busy = c->busy;
            on_readable(c);
            if (was_busy && !c->busy) idle[free_count++] = c - conns;
        }
    }
    unfinished = asked - done + (long)fmax(0, o.rate * o.seconds - asked);
}

// Clients that take a little now and then, and ask for another object when they have one.
static void slow(int64_t until) {
    const int64_t step = 50000000;
    for (int i = 0; i < o.conns; i++) start(&conns[i], 0);
    for (int64_t next = now_ns(); next < until; next += step) {
        for (int i = 0; i < o.conns; i++) {
            struct conn *c = &conns[i];
            int state = receive(c, o.read_rate / 20 < BUFFER ? o.read_rate / 20 : BUFFER);
            if (state == 0) continue;
            finish(c, state == 1 && c->status < 300);
            if (state < 0) again(c);
            start(c, 0);
        }
        struct timespec rest = {0, 0};
        int64_t left = next + step - now_ns();
        if (left > 0) rest.tv_nsec = left, nanosleep(&rest, NULL);
    }
}

static enum order order_of(const char *word) {
    return !strcmp(word, "uniform") ? UNIFORM : !strcmp(word, "zipf") ? ZIPF : SEQUENCE;
}

static void read_arguments(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i];
        char *value = argv[i + 1];
        if (!strcmp(name, "--ports")) {
            for (char *p = strtok(value, ","); p && o.port_count < MOST_PORTS; p = strtok(NULL, ",")) o.ports[o.port_count++] = atoi(p);
        } else if (!strcmp(name, "--conns")) o.conns = atoi(value);
        else if (!strcmp(name, "--prefix")) o.prefix = value;
        else if (!strcmp(name, "--key")) o.key = value;
        else if (!strcmp(name, "--first")) o.first = atol(value);
        else if (!strcmp(name, "--keys")) o.keys = atol(value);
        else if (!strcmp(name, "--order")) o.order = order_of(value);
        else if (!strcmp(name, "--theta")) o.theta = atof(value);
        else if (!strcmp(name, "--range")) o.range = atol(value);
        else if (!strcmp(name, "--object")) o.object = atol(value);
        else if (!strcmp(name, "--range-order")) o.range_order = order_of(value);
        else if (!strcmp(name, "--requests")) o.requests = atol(value);
        else if (!strcmp(name, "--seconds")) o.seconds = atof(value);
        else if (!strcmp(name, "--rate")) o.rate = atof(value);
        else if (!strcmp(name, "--receive")) o.receive = !strcmp(value, "trunc") ? TRUNC : !strcmp(value, "check") ? CHECK : COPY;
        else if (!strcmp(name, "--abandon")) o.abandon = atoi(value);
        else if (!strcmp(name, "--read-rate")) o.read_rate = atol(value);
        else if (!strcmp(name, "--seed")) o.seed = strtoull(value, NULL, 10) << 32;
        else fprintf(stderr, "load: what is %s?\n", name), exit(2);
    }
    if (!o.port_count || !o.key) fprintf(stderr, "load: --ports and --key are needed\n"), exit(2);
}

int main(int argc, char **argv) {
    read_arguments(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    table_fill();
    if (o.order == ZIPF) zipf_fill();
    loop = epoll_create1(0);
    conns = calloc(o.conns, sizeof *conns);
    for (int i = 0; i < o.conns; i++) {
        conns[i].port = o.ports[i % o.port_count];
        connect_to(&conns[i]);
    }
    int64_t began = now_ns(), until = began + (int64_t)(o.seconds * 1e9);
    if (o.rate > 0) open_loop(began, until);
    else if (o.read_rate) slow(until);
    else closed(until);
    double seconds = (now_ns() - (o.rate > 0 ? began : first_sent)) / 1e9;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\":%ld,\"failed\":%ld,\"wrong\":%ld,\"unfinished\":%ld,\"seconds\":%.6f,\"bytes\":%lu,\"cpu\":%.6f,",
           done, failed, wrong, unfinished, seconds, bytes, cpu);
    printf("\"sources\":{\"memory\":%lu,\"peer\":%lu,\"origin\":%lu},\"spread\":%.3f,", from_memory, from_peer, from_origin,
           (last_sent - first_sent) / 1e3);
    print_histogram("first_byte", &first_byte);
    print_histogram("lag", &lag);
    print_histogram("whole", &whole);
    printf("\"port\":%d}\n", o.ports[0]);
    return 0;
}
