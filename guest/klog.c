/* SPDX-License-Identifier: Apache-2.0 */
/* Opens its target for each line: lines are rare, and nothing is left open across the change of
 * root. */
#include "klog.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void put_line(int level, const char *fmt, va_list ap)
{
    char line[512];
    int head = snprintf(line, sizeof line, "<%d>supermachine-agent: ", level);
    const char *text = line;
    int fd = -1;

    vsnprintf(line + head, sizeof line - (size_t)head - 1, fmt, ap);
    strcat(line, "\n");
    if (getpid() == 1)
        fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        text += 3; /* a plain file has no use for "<3>" */
    if (fd < 0 && getpid() == 1)
        fd = open("/dev/console", O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (write(fd < 0 ? STDERR_FILENO : fd, text, strlen(text)) < 0) {
        /* nowhere left to say it */
    }
    if (fd >= 0)
        close(fd);
}

void klog_error(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    put_line(3, fmt, ap);
    va_end(ap);
}

void klog_info(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    put_line(6, fmt, ap);
    va_end(ap);
}
