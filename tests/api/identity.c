// SPDX-License-Identifier: Apache-2.0
/*
 * Runs in a guest (clones_test.c). `identity stay FIFO` has drawn random bytes before the snapshot
 * is taken, and draws more for each reader of the FIFO. `identity` prints, a line each, what the
 * kernel gives a new process.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define BYTES 16

/* A reader that has gone already is no error. */
static void print_hex(int fd, const unsigned char *bytes)
{
    char line[2 * BYTES + 2];
    for (int i = 0; i < BYTES; i++)
        snprintf(line + 2 * i, 3, "%02x", bytes[i]);
    line[2 * BYTES] = '\n';
    if (write(fd, line, sizeof line - 1) < 0 && errno != EPIPE)
        _exit(1);
}

static int draw(unsigned char bytes[BYTES])
{
    return getrandom(bytes, BYTES, 0) == BYTES ? 0 : -1;
}

static int stay(const char *fifo)
{
    unsigned char bytes[BYTES];
    signal(SIGPIPE, SIG_IGN);
    if (draw(bytes) < 0 || mkfifo(fifo, 0600) < 0)
        return 1;
    for (;;) {
        int fd = open(fifo, O_WRONLY);
        if (fd < 0 || draw(bytes) < 0)
            return 1;
        print_hex(fd, bytes);
        close(fd);
        usleep(100000); /* a reader takes one line; it is gone by then, or gets another */
    }
}

int main(int argc, char **argv)
{
    unsigned char bytes[BYTES];
    if (argc == 3 && strcmp(argv[1], "stay") == 0)
        return stay(argv[2]);
    if (draw(bytes) < 0)
        return 1;
    print_hex(1, bytes);
    print_hex(1, (const unsigned char *)getauxval(AT_RANDOM));
    printf("%p\n", (void *)&argc);
    return 0;
}
