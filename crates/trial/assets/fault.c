/*
 * A small web server with one fault, for trials of whoever looks after it.
 *
 * usage: fault NAME [key=value ...]
 *
 *   NAME            what goes wrong when SIGUSR1 comes; see `faults` below
 *   port=N          listen there, unless a socket is passed by LISTEN_FDS
 *   backend=N       ask this port of the loopback before each answer
 *   dir=PATH        where files go
 *   rate=N          how much of it each second
 *   life=N          seconds that it lives at most, instead of LIFETIME_S
 *
 * Until SIGUSR1 it answers each request at once with its pid, by four threads that take turns; at
 * SIGTERM it takes no new request, finishes those that it has, and exits with 0. Where it is asked
 * to by NOTIFY_SOCKET, it says when it is ready and how many requests it has answered. It ends by
 * itself after a while, children included, so that a trial that dies leaves nothing for long.
 *
 * In C, because that is what such faults are made of: threads on mutexes, children that nobody
 * collects, sockets that nobody closes. Compiled with names, so that evidence can show them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 4, PATIENCE_S = 5, LIFETIME_S = 180, LIFETIME_S_MAX = 7200, TICKS = 10, TICK_MS = 1000 / TICKS };

/* Nothing here may hurt the machine, whoever starts it and however. */
enum { FORKS_MAX = 2000, DISK_MIB_MAX = 256, OUTPUT_MIB_MAX = 256 };
static const long LEAK_MAX = 1024L * 1024 * 1024;

static int listener = -1;
static int backend;
static long rate;
static unsigned lifetime = LIFETIME_S;
static const char *dir = ".";

static atomic_bool struck; /* the fault is there */
static atomic_int ticket;  /* requests since then */
static atomic_int answered;
static int told[2];        /* what signal handlers write */
static int ending[2];      /* written to at the end: wakes all workers */

static pthread_mutex_t savings = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t current = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both_hold_one;

static void die(const char *what) {
    perror(what);
    exit(70);
}

static void say(const char *text) {
    printf("%s\n", text);
    fflush(stdout);
}

/* sd_notify(3). With MSG_DONTWAIT, what there is no room for is lost. */
static void notify(const char *text, int flags) {
    static int fd = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || sizeof address.sun_path <= strlen(path))
        return;
    if (fd < 0)
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, path);
    (void)!sendto(fd, text, strlen(text), flags, (struct sockaddr *)&address, sizeof address);
}

/* ---- what a request runs into ---- */

__attribute__((noinline)) static void debit_then_credit(void) {
    pthread_mutex_lock(&savings);
    pthread_barrier_wait(&both_hold_one);
    pthread_mutex_lock(&current);
}

__attribute__((noinline)) static void credit_then_debit(void) {
    pthread_mutex_lock(&current);
    pthread_barrier_wait(&both_hold_one);
    pthread_mutex_lock(&savings);
}

/* Two threads that each hold what the other one wants; whoever comes later waits for them. */
static void deadlock(int connection) {
    (void)connection;
    switch (atomic_fetch_add(&ticket, 1)) {
    case 0: debit_then_credit(); break;
    case 1: credit_then_debit(); break;
    default: pthread_mutex_lock(&savings);
    }
}

__attribute__((noinline)) static void retry_for_ever(void) {
    for (volatile unsigned long tries = 0;; tries++) {
    }
}

/* One tries again without end, under a lock that all others need. */
static void livelock(int connection) {
    (void)connection;
    pthread_mutex_lock(&savings);
    retry_for_ever();
}

/* The connection is taken, and forgotten. */
static void accept_and_forget(int connection) { dup(connection); }

/* ---- what goes on beside the requests; called TICKS times a second ---- */

static long portion(long number) { return rate / TICKS + (number % TICKS < rate % TICKS); }

static void leak_memory(long number) {
    static long leaked;
    long bytes = portion(number);
    if (LEAK_MAX < leaked + bytes)
        return;
    /* Or the compiler would see that nobody needs it. */
    static char *volatile last;
    last = malloc((size_t)bytes);
    if (last)
        memset(last, (int)number | 1, (size_t)bytes);
    leaked += bytes;
}

static void leak_descriptors(long number) {
    for (long left = portion(number); 0 < left; left--)
        if (open("/dev/null", O_RDONLY) < 0)
            return;
}

static void *sleep_for_ever(void *unused) {
    for (;;)
        pause();
    return unused;
}

static void leak_threads(long number) {
    static int started;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    for (long left = portion(number); 0 < left && started < FORKS_MAX; left--, started++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, sleep_for_ever, NULL) != 0)
            return;
    }
}

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        if (0 <= fd)
            close(fd);
        return -1;
    }
    return fd;
}

/* A pool of connections to a server that closes them, and that nobody looks at again. */
static void leak_connections(long number) {
    static int server = -1;
    static struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    if (server < 0) {
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(server, (struct sockaddr *)&address, length) != 0 || listen(server, 16) != 0 ||
            getsockname(server, (struct sockaddr *)&address, &length) != 0)
            die("the server of the pool");
    }
    for (long left = portion(number); 0 < left; left--) {
        if (connect_to(ntohs(address.sin_port)) < 0)
            return;
        close(accept(server, NULL, NULL));
    }
}

static void child_sleeps(void) {
    alarm(lifetime);
    for (;;)
        pause();
}

static void bomb(long number) {
    (void)number;
    static int forked;
    while (forked < FORKS_MAX) {
        pid_t child = fork();
        if (child < 0)
            return;
        if (child == 0)
            child_sleeps();
        forked++;
    }
}

static void make_zombies(long number) {
    static int forked;
    for (long left = portion(number); 0 < left && forked < FORKS_MAX; left--, forked++) {
        pid_t child = fork();
        if (child < 0)
            return;
        if (child == 0)
            _exit(0);
    }
}

static FILE *in_dir(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return fopen(path, "w");
}

static void fill_disk(long number) {
    static char block[64 * 1024];
    static FILE *spool;
    static long written;
    if (!spool && !(spool = in_dir("spool")))
        die("spool");
    for (long left = portion(number); 0 < left; left -= (long)sizeof block) {
        if (DISK_MIB_MAX * 1024L * 1024 < written || fwrite(block, sizeof block, 1, spool) != 1)
            return;
        written += (long)sizeof block;
    }
    fflush(spool);
}

static void flood_output(long number) {
    (void)number;
    static long written;
    static char line[128];
    memset(line, 'x', sizeof line - 1);
    for (long bytes = 0; bytes < rate / TICKS && written < OUTPUT_MIB_MAX * 1024L * 1024;) {
        int length = printf("%012ld %s\n", written, line);
        if (length < 0)
            return;
        bytes += length;
        written += length;
    }
    fflush(stdout);
}

/* ---- what happens once ---- */

static void ignore_term(void) { signal(SIGTERM, SIG_IGN); }

/* A grandchild in a session of its own, whose parent is gone: who looks for children loses it. */
static void escape(void) {
    pid_t child = fork();
    if (child == 0) {
        setsid();
        pid_t grandchild = fork();
        if (grandchild == 0)
            child_sleeps();
        FILE *file = in_dir("escaped");
        if (file) {
            fprintf(file, "%d\n", (int)grandchild);
            fclose(file);
        }
        _exit(0);
    }
    /* Collected, as a tidy daemon would: what is left is nobody's child. */
    siginfo_t ended;
    waitid(P_PID, (id_t)child, &ended, WEXITED);
}

/* vfork(2): the parent is in uninterruptible sleep (state D) until its child is gone. */
__attribute__((noinline)) static void wait_uninterruptibly(void) {
    if (vfork() == 0)
        child_sleeps();
}

struct fault {
    const char *name;
    void (*request)(int connection); /* instead of an answer */
    void (*tick)(long number);
    void (*once)(void);
};

static const struct fault faults[] = {
    {.name = "none"},
    {.name = "leak-memory", .tick = leak_memory},
    {.name = "leak-descriptors", .tick = leak_descriptors},
    {.name = "leak-connections", .tick = leak_connections},
    {.name = "leak-threads", .tick = leak_threads},
    {.name = "deadlock", .request = deadlock},
    {.name = "livelock", .request = livelock},
    {.name = "mute", .request = accept_and_forget},
    {.name = "stubborn", .request = accept_and_forget, .once = ignore_term},
    {.name = "escape", .request = accept_and_forget, .once = escape},
    {.name = "uninterruptible", .once = wait_uninterruptibly},
    {.name = "bomb", .tick = bomb},
    {.name = "zombies", .tick = make_zombies},
    {.name = "fill-disk", .tick = fill_disk},
    {.name = "flood", .tick = flood_output},
};
static const struct fault *fault;

/* ---- the server ---- */

static int backend_answers(void) {
    char answer[64];
    static const char ask[] = "GET / HTTP/1.0\r\n\r\n";
    int fd = connect_to(backend);
    int good = 0 <= fd && write(fd, ask, sizeof ask - 1) == (ssize_t)sizeof ask - 1 &&
               0 < read(fd, answer, sizeof answer) && !memcmp(answer, "HTTP/1.1 200", 12);
    if (0 <= fd)
        close(fd);
    return good;
}

/* Whoever looks at our stacks stops us for a moment, and a call with a time limit is interrupted by
 * that, without any handler: signal(7). */
static ssize_t read_on(int connection, void *buffer, size_t bytes) {
    ssize_t got;
    do
        got = read(connection, buffer, bytes);
    while (got < 0 && errno == EINTR);
    return got;
}

/* All of a request, up to its empty line; false if the peer goes away first. */
static int request_is_read(int connection) {
    char text[4096];
    size_t length = 0;
    while (length < sizeof text - 1) {
        ssize_t got = read_on(connection, text + length, sizeof text - 1 - length);
        if (got <= 0)
            return 0;
        length += (size_t)got;
        text[length] = 0;
        if (strstr(text, "\r\n\r\n"))
            return 1;
    }
    return 0;
}

static void answer(int connection) {
    char text[256], body[32];
    if (!request_is_read(connection))
        return;
    if (fault->request && atomic_load(&struck)) {
        fault->request(connection);
        return;
    }
    int good = !backend || backend_answers();
    int bytes = snprintf(body, sizeof body, "%d\n", (int)getpid());
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
                          good ? "200 OK" : "502 Bad Gateway", bytes, body);
    snprintf(body, sizeof body, "X_COUNTER=%d", 1 + atomic_fetch_add(&answered, 1));
    /* The next one says it again. */
    notify(body, MSG_DONTWAIT);
    if (write(connection, text, (size_t)length) != length)
        return;
    /* Closed by us first, but not before the peer has everything: a reset would take it back. */
    shutdown(connection, SHUT_WR);
    while (0 < read_on(connection, text, sizeof text)) {
    }
}

static void *worker(void *unused) {
    struct timeval patience = {.tv_sec = PATIENCE_S};
    struct pollfd wait[2] = {{.fd = listener, .events = POLLIN}, {.fd = ending[0], .events = POLLIN}};
    for (;;) {
        if (poll(wait, 2, -1) < 0)
            continue;
        if (wait[1].revents)
            return unused;
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0)
            continue;
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        answer(connection);
        close(connection);
    }
}

static void on_signal(int number) {
    char byte = number == SIGTERM ? 't' : 'u';
    int saved = errno;
    if (write(told[1], &byte, 1) != 1)
        _exit(71);
    errno = saved;
}

static void open_listener(int port) {
    const char *passed = getenv("LISTEN_FDS"), *whom = getenv("LISTEN_PID");
    if (passed && whom && atoi(whom) == getpid() && 0 < atoi(passed)) {
        listener = 3;
    } else if (port) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int yes = 1;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
            listen(listener, 128) != 0)
            die("listen");
    } else {
        return;
    }
    /* Another process may take the connection between poll and accept. */
    fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
}

static void arguments(int count, char **values) {
    int port = 0;
    for (size_t number = 0; 1 < count && number < sizeof faults / sizeof *faults; number++)
        if (!strcmp(faults[number].name, values[1]))
            fault = &faults[number];
    for (int number = 2; number < count; number++) {
        char *value = strchr(values[number], '=');
        if (!value)
            fault = NULL;
        else if (!strncmp(values[number], "port=", 5))
            port = atoi(value + 1);
        else if (!strncmp(values[number], "backend=", 8))
            backend = atoi(value + 1);
        else if (!strncmp(values[number], "rate=", 5))
            rate = atol(value + 1);
        else if (!strncmp(values[number], "life=", 5))
            lifetime = (unsigned)atoi(value + 1);
        else if (!strncmp(values[number], "dir=", 4))
            dir = value + 1;
        else
            fault = NULL;
    }
    if (!fault || lifetime == 0 || LIFETIME_S_MAX < lifetime) {
        fprintf(stderr, "usage: fault NAME [port=N] [backend=N] [rate=N] [life=N] [dir=PATH]\n");
        exit(64);
    }
    open_listener(port);
}

/* Forever, while a file says so: a start-up that does not come to its end. */
static void wait_while_told_so(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/hang", dir);
    for (int once = 1; access(path, F_OK) == 0; once = 0) {
        if (once)
            say("waiting for something that does not come");
        poll(NULL, 0, TICK_MS);
    }
}

static void tidy_up(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/spool", dir);
    unlink(path);
}

int main(int count, char **values) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    pthread_t workers[WORKERS];
    alarm(LIFETIME_S);
    if (pipe2(told, O_CLOEXEC) != 0 || pipe2(ending, O_CLOEXEC) != 0)
        die("pipe");
    arguments(count, values);
    alarm(lifetime);
    pthread_barrier_init(&both_hold_one, NULL, 2);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGUSR1, &action, NULL);
    wait_while_told_so();
    sigaction(SIGTERM, &action, NULL);
    tidy_up();
    for (int number = 0; 0 <= listener && number < WORKERS; number++)
        if (pthread_create(&workers[number], NULL, worker, NULL) != 0)
            die("thread");
    say("ready");
    /* Whoever has waited for us may have filled the queue with counters already. */
    notify("READY=1", 0);
    struct pollfd wait = {.fd = told[0], .events = POLLIN};
    for (long number = 0;;) {
        int ticking = atomic_load(&struck) && fault->tick;
        if (poll(&wait, 1, ticking ? TICK_MS : -1) < 0)
            continue;
        char byte = 0;
        if (wait.revents && read(told[0], &byte, 1) != 1)
            continue;
        if (byte == 't')
            break;
        if (byte == 'u' && !atomic_exchange(&struck, 1)) {
            say("the fault is there");
            if (fault->once)
                fault->once();
            if (fault->request == deadlock || fault->request == livelock)
                break; /* joins the others: this thread waits for them, too */
        }
        if (ticking)
            fault->tick(number++);
    }
    /* A byte that nobody reads: closing it would say nothing while a child has the other copy. */
    if ((!fault->request || !atomic_load(&struck) || fault->request == accept_and_forget) &&
        write(ending[1], "e", 1) != 1)
        die("pipe");
    for (int number = 0; 0 <= listener && number < WORKERS; number++)
        pthread_join(workers[number], NULL);
    say("asked to end");
    return 0;
}
