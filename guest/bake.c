/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free pages keep what was last in them. A child process takes nearly all of them, which has the
 * kernel zero them, and gives them back by ending. It is the first that the OOM killer would take;
 * nothing else is lost then.
 */
#include "bake.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "klog.h"

#define KEEP_KIB 8192ul /* left to the kernel: its reserves, and page tables for the rest */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; musl 1.2.3 does not name it */
#endif

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        klog_info("cannot write %s", path);
    if (fd >= 0)
        close(fd);
}

static unsigned long free_kib(void)
{
    char text[512], *at;
    int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    at = strstr(text, "MemFree:");
    return at ? strtoul(at + strlen("MemFree:"), NULL, 10) : 0;
}

static void zero_free_memory(void)
{
    unsigned long kib = free_kib();
    size_t len = kib > KEEP_KIB ? (kib - KEEP_KIB) * 1024 : 0;
    void *p;

    if (len == 0)
        return;
    write_text("/proc/self/oom_score_adj", "1000");
    p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return;
    madvise(p, len, MADV_HUGEPAGE);
    madvise(p, len, MADV_POPULATE_WRITE);
}

void bake_make_small(void)
{
    pid_t child;

    sync();
    write_text("/proc/sys/vm/drop_caches", "3");
    child = fork();
    if (child == 0) {
        zero_free_memory();
        _exit(0);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
}
