/*
 * One idle service of the benchmark: says when it was executed, then sleeps until it is killed.
 *
 * usage: idle FIFO [anything]         report and sleep
 *        idle FIFO --pidfile PATH     fork, write the pid of the child, and let the child sleep
 *
 * In C and linked statically, so that a thousand of them weigh next to nothing and what is measured
 * is the supervisor. The clock is read first of all, and one short write to a FIFO is atomic.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void report(const char *fifo, const struct timespec *at) {
    char line[64];
    int length = snprintf(line, sizeof line, "%d %lld\n", (int)getpid(),
                          (long long)at->tv_sec * 1000000000LL + at->tv_nsec);
    int fd = open(fifo, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, line, (size_t)length) != length)
        _exit(111);
    close(fd);
}

static void become_daemon(const char *pidfile) {
    pid_t child = fork();
    if (child < 0)
        _exit(112);
    if (child > 0) {
        FILE *out = fopen(pidfile, "w");
        if (!out || fprintf(out, "%d\n", (int)child) < 0 || fclose(out) != 0)
            _exit(113);
        _exit(0);
    }
    setsid();
}

int main(int argc, char **argv) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    if (argc < 2)
        return 2;
    if (argc >= 4 && strcmp(argv[2], "--pidfile") == 0)
        become_daemon(argv[3]);
    report(argv[1], &at);
    for (;;)
        pause();
}
