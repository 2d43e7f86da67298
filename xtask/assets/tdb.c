/*
 * One piece of work for libtdb, timed: the counterpart of `crates/tdb/examples/bench`, which does the
 * same by the crate `tdb`. Both read the same arguments and print one line of JSON.
 *
 * usage: tdb WORK FILE [name=number ...]
 *
 *   make      a file of `records` records in `chains` chains, if `mutexes` is 1 with mutexes
 *   fetch     values of random keys
 *   store     values of random keys, of the same length, hence where they are
 *   churn     new records, and the deletion of each `window` records later
 *   update    chain lock, fetch, store, unlock; of one key or of random ones, if `keys` is 1 or not
 *   steps     the same, for which the other side has a call for each step, too
 *   traverse  all records
 *   commit    transactions that store ten values of random keys
 *   crowd     `update` by `users` at once; here processes, since libtdb's locks belong to a process
 *   contend   chain locks that another process has for `hold_ns`: a helper is executed that waits for
 *             it and says so, and the lock is used while the helper keeps it, as ctdbd does it
 *   hold      that other process; asked and answering by numbers of 8 bytes
 *   help      that helper
 *
 *   mutexes=1 unlocked=1 volatile=1 sync=1 value=BYTES ms=N, for how long most of them go on
 *
 * Keys are 16 bytes made of a number; the numbers come from a generator that both have.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <tdb.h>

enum { USERS_MAX = 256, SAMPLES_MAX = 4096, VALUE_MAX = 65536, LOOKS = 64, STORES = 10 };

extern char **environ;

static struct {
    uint64_t records, chains, value, window, keys, users, rounds, hold_ns, ms;
    uint64_t mutexes, unlocked, dead, sync;
} asked = {.records = 10000, .chains = 10007, .value = 100, .window = 100, .users = 1, .rounds = 10, .ms = 200};

static const struct {
    const char *name;
    uint64_t *number;
} names[] = {
    {"records", &asked.records}, {"chains", &asked.chains},     {"value", &asked.value},
    {"window", &asked.window},   {"keys", &asked.keys},         {"users", &asked.users},
    {"rounds", &asked.rounds},   {"hold_ns", &asked.hold_ns},   {"ms", &asked.ms},
    {"mutexes", &asked.mutexes}, {"unlocked", &asked.unlocked}, {"volatile", &asked.dead},
    {"sync", &asked.sync},
};

static const char *file;
static struct tdb_context *tdb;
static uint64_t random_state = 1;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s (%s)\n", file, what, tdb ? tdb_errorstr(tdb) : strerror(errno));
    exit(1);
}

static void must(int done, const char *what) {
    if (!done)
        fail(what);
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t now_ns(void) {
    return clock_ns(CLOCK_MONOTONIC);
}

/* xorshift64* */
static uint64_t next_random(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1Du;
}

struct key {
    uint64_t words[2];
};

static TDB_DATA key_of(struct key *key, uint64_t number) {
    key->words[0] = number;
    key->words[1] = number * 0x9E3779B97F4A7C15u;
    return (TDB_DATA){.dptr = (unsigned char *)key, .dsize = sizeof *key};
}

static unsigned char value_bytes[VALUE_MAX];

/* A value that is not the one before. */
static TDB_DATA next_value(void) {
    static uint64_t number;
    number++;
    memcpy(value_bytes, &number, sizeof number);
    return (TDB_DATA){.dptr = value_bytes, .dsize = asked.value};
}

static void log_nothing(struct tdb_context *context, enum tdb_debug_level level, const char *format, ...) {
    (void)context, (void)level, (void)format;
}

static void open_file(int more) {
    int flags = TDB_INCOMPATIBLE_HASH | more;
    flags |= asked.mutexes ? TDB_MUTEX_LOCKING : 0;
    flags |= asked.unlocked ? TDB_NOLOCK : 0;
    flags |= asked.dead ? TDB_VOLATILE : 0;
    flags |= asked.sync ? 0 : TDB_NOSYNC;
    struct tdb_logging_context log = {.log_fn = log_nothing};
    tdb = tdb_open_ex(file, (int)asked.chains, flags, O_RDWR | O_CREAT, 0600, &log, NULL);
    must(tdb != NULL, "cannot open");
}

/* How much was done, and since when. */
static struct {
    uint64_t operations, began, end, began_cpu;
} span;

static void begin(void) {
    span.operations = 0;
    span.began_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    span.began = now_ns();
    span.end = span.began + asked.ms * 1000000u;
}

static int goes_on(void) {
    return span.operations++ % LOOKS || now_ns() < span.end;
}

static void tell(uint64_t operations) {
    uint64_t ended = now_ns(), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    printf("{\"operations\":%llu,\"ns\":%llu,\"cpu_ns\":%llu}\n", (unsigned long long)operations,
           (unsigned long long)(ended - span.began), (unsigned long long)(cpu - span.began_cpu));
}

static void make(void) {
    open_file(0);
    for (uint64_t number = 0; number < asked.records; number++) {
        struct key key;
        must(tdb_store(tdb, key_of(&key, number), next_value(), TDB_INSERT) == 0, "cannot store");
    }
}

static void fetch(void) {
    open_file(0);
    for (begin(); goes_on();) {
        struct key key;
        TDB_DATA value = tdb_fetch(tdb, key_of(&key, next_random() % asked.records));
        must(value.dsize == asked.value, "a value is missing");
        free(value.dptr);
    }
    tell(span.operations - 1);
}

static void store(void) {
    open_file(0);
    for (begin(); goes_on();) {
        struct key key;
        TDB_DATA name = key_of(&key, next_random() % asked.records);
        must(tdb_store(tdb, name, next_value(), TDB_REPLACE) == 0, "cannot store");
    }
    tell(span.operations - 1);
}

static void churn(void) {
    open_file(0);
    uint64_t number = asked.records;
    for (begin(); goes_on(); number++) {
        struct key key;
        must(tdb_store(tdb, key_of(&key, number), next_value(), TDB_INSERT) == 0, "cannot store");
        if (asked.records + asked.window <= number)
            must(tdb_delete(tdb, key_of(&key, number - asked.window)) == 0, "cannot delete");
    }
    tell(span.operations - 1);
}

static void update_one(void) {
    struct key key;
    TDB_DATA name = key_of(&key, asked.keys == 1 ? 0 : next_random() % asked.records);
    must(tdb_chainlock(tdb, name) == 0, "cannot lock");
    TDB_DATA value = tdb_fetch(tdb, name);
    must(value.dsize == asked.value, "a value is missing");
    uint64_t number;
    memcpy(&number, value.dptr, sizeof number);
    number++;
    memcpy(value.dptr, &number, sizeof number);
    must(tdb_store(tdb, name, value, TDB_MODIFY) == 0, "cannot store");
    free(value.dptr);
    must(tdb_chainunlock(tdb, name) == 0, "cannot unlock");
}

static void update(void) {
    open_file(0);
    for (begin(); goes_on();)
        update_one();
    tell(span.operations - 1);
}

static int visit(struct tdb_context *context, TDB_DATA key, TDB_DATA value, void *bytes) {
    (void)context;
    *(uint64_t *)bytes += key.dsize + value.dsize;
    return 0;
}

static void traverse(void) {
    open_file(0);
    uint64_t bytes = 0;
    begin();
    int visited = tdb_traverse_read(tdb, visit, &bytes);
    must((uint64_t)visited == asked.records, "not all records were visited");
    must(bytes == asked.records * (sizeof(struct key) + asked.value), "not all bytes were seen");
    tell(asked.records);
}

static void commit(void) {
    open_file(0);
    uint64_t done = 0;
    for (begin(); now_ns() < span.end; done++) {
        must(tdb_transaction_start(tdb) == 0, "cannot begin a transaction");
        for (int stores = 0; stores < STORES; stores++) {
            struct key key;
            TDB_DATA name = key_of(&key, next_random() % asked.records);
            must(tdb_store(tdb, name, next_value(), TDB_REPLACE) == 0, "cannot store");
        }
        must(tdb_transaction_commit(tdb) == 0, "cannot commit");
    }
    tell(done);
}

static void read_all(int fd, void *into, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t got = read(fd, (char *)into + done, length - done);
        if (got < 0 && errno == EINTR)
            continue;
        must(got > 0, "cannot read from the other process");
        done += (size_t)got;
    }
}

static void sleep_until(uint64_t ns) {
    struct timespec end = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
        ;
}

/* What all processes of a crowd see. */
struct crowd {
    uint64_t begin;
    struct {
        uint64_t operations, longest;
    } user[USERS_MAX];
};

static void one_of_many(struct crowd *crowd, uint64_t user, int ready, int go) {
    random_state = user + 1;
    open_file(0);
    must(write(ready, "r", 1) == 1, "cannot say that this one is ready");
    /* The parent closes the other end. */
    char byte;
    while (read(go, &byte, 1) < 0 && errno == EINTR)
        ;
    uint64_t began = crowd->begin, end = began + asked.ms * 1000000u, longest = 0, operations = 0;
    sleep_until(began);
    for (uint64_t before = now_ns(); before < end; operations++) {
        update_one();
        uint64_t after = now_ns();
        longest = longest < after - before ? after - before : longest;
        before = after;
    }
    crowd->user[user].operations = operations;
    crowd->user[user].longest = longest;
}

static void crowd(void) {
    must(0 < asked.users && asked.users <= USERS_MAX, "too many users");
    struct crowd *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ready[2], go[2];
    must(all != MAP_FAILED && pipe(ready) == 0 && pipe(go) == 0, "cannot prepare");
    pid_t users[USERS_MAX];
    for (uint64_t user = 0; user < asked.users; user++) {
        users[user] = fork();
        must(users[user] >= 0, "cannot fork");
        if (users[user] == 0) {
            close(go[1]);
            one_of_many(all, user, ready[1], go[0]);
            _exit(0);
        }
    }
    char bytes[USERS_MAX];
    read_all(ready[0], bytes, asked.users);
    all->begin = now_ns() + 10000000u;
    close(go[1]);
    uint64_t operations = 0, fewest = UINT64_MAX, longest = 0;
    for (uint64_t user = 0; user < asked.users; user++) {
        int status;
        must(waitpid(users[user], &status, 0) == users[user] && status == 0, "a process failed");
        uint64_t own = all->user[user].operations;
        operations += own;
        fewest = own < fewest ? own : fewest;
        longest = longest < all->user[user].longest ? all->user[user].longest : longest;
    }
    printf("{\"operations\":%llu,\"ns\":%llu,\"fewest\":%llu,\"longest_ns\":%llu}\n",
           (unsigned long long)operations, (unsigned long long)asked.ms * 1000000u,
           (unsigned long long)fewest, (unsigned long long)longest);
}

/* Starts this program as another process, with pipes to and from it. */
static pid_t start(const char *work, int *to, int *from) {
    int in[2], out[2];
    must(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0, "cannot make a pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    char mutexes[32], chains[32];
    snprintf(mutexes, sizeof mutexes, "mutexes=%d", asked.mutexes != 0);
    snprintf(chains, sizeof chains, "chains=%llu", (unsigned long long)asked.chains);
    char *words[] = {"tdb", (char *)work, (char *)file, mutexes, chains, NULL};
    pid_t pid;
    /* Does as vfork does. */
    must(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, words, environ) == 0, "cannot execute");
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    *to = in[1];
    *from = out[0];
    return pid;
}

static void hold(void) {
    open_file(0);
    struct key key;
    uint64_t length;
    while (read(STDIN_FILENO, &length, sizeof length) == sizeof length) {
        must(tdb_chainlock(tdb, key_of(&key, 0)) == 0, "cannot lock");
        uint64_t locked = now_ns();
        must(write(STDOUT_FILENO, &locked, sizeof locked) == sizeof locked, "cannot answer");
        sleep_until(locked + length);
        uint64_t released = now_ns();
        must(tdb_chainunlock(tdb, key_of(&key, 0)) == 0, "cannot unlock");
        must(write(STDOUT_FILENO, &released, sizeof released) == sizeof released, "cannot answer");
    }
}

static void help(void) {
    open_file(0);
    struct key key;
    must(tdb_chainlock(tdb, key_of(&key, 0)) == 0, "cannot lock");
    must(write(STDOUT_FILENO, "l", 1) == 1, "cannot answer");
    char byte;
    while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
        ;
}

static void contend(void) {
    open_file(0);
    int to, from;
    pid_t holder = start("hold", &to, &from);
    must(0 < asked.rounds && asked.rounds <= SAMPLES_MAX, "too many rounds");
    printf("{\"samples\":[");
    for (uint64_t round = 0; round < asked.rounds; round++) {
        must(write(to, &asked.hold_ns, sizeof asked.hold_ns) == sizeof asked.hold_ns, "cannot ask");
        uint64_t locked, released;
        read_all(from, &locked, sizeof locked);
        struct key key;
        uint64_t wanted = now_ns(), obtained;
        if (tdb_chainlock_nonblock(tdb, key_of(&key, 0)) == 0) {
            obtained = now_ns();
            must(tdb_chainunlock(tdb, key_of(&key, 0)) == 0, "cannot unlock");
        } else {
            int to_helper, from_helper, status;
            char byte;
            pid_t helper = start("help", &to_helper, &from_helper);
            read_all(from_helper, &byte, 1);
            obtained = now_ns();
            kill(helper, SIGTERM);
            must(waitpid(helper, &status, 0) == helper, "cannot collect the helper");
            close(to_helper);
            close(from_helper);
        }
        read_all(from, &released, sizeof released);
        uint64_t free_from = wanted < released ? released : wanted;
        uint64_t late = free_from < obtained ? obtained - free_from : 0;
        printf("%s[%llu,%llu]", round ? "," : "", (unsigned long long)(obtained - wanted),
               (unsigned long long)late);
    }
    printf("]}\n");
    close(to);
    int status;
    must(waitpid(holder, &status, 0) == holder && status == 0, "the other process failed");
}

static const struct {
    const char *name;
    void (*run)(void);
} works[] = {
    {"make", make},         {"fetch", fetch},   {"store", store}, {"churn", churn},     {"update", update}, {"steps", update},
    {"traverse", traverse}, {"commit", commit}, {"crowd", crowd}, {"contend", contend}, {"hold", hold},
    {"help", help},
};

static void read_option(const char *option) {
    for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
        size_t length = strlen(names[at].name);
        if (strncmp(option, names[at].name, length) == 0 && option[length] == '=') {
            *names[at].number = strtoull(option + length + 1, NULL, 10);
            return;
        }
    }
    fprintf(stderr, "unknown option %s\n", option);
    exit(2);
}

int main(int count, char **words) {
    if (count < 3) {
        fprintf(stderr, "usage: tdb WORK FILE [name=number ...]\n");
        return 2;
    }
    file = words[2];
    for (int at = 3; at < count; at++)
        read_option(words[at]);
    if (asked.value < 8 || VALUE_MAX < asked.value) {
        fprintf(stderr, "value=BYTES has to be from 8 to %d\n", VALUE_MAX);
        return 2;
    }
    for (size_t at = 0; at < sizeof works / sizeof *works; at++) {
        if (strcmp(words[1], works[at].name) == 0) {
            works[at].run();
            return 0;
        }
    }
    fprintf(stderr, "unknown work %s\n", words[1]);
    return 2;
}
