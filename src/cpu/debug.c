/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/debug.h"

#include <stdarg.h>
#include <stdio.h>

void debug_line(const struct engine_debug *debug, unsigned vcpu, const char *fmt, ...)
{
    char line[512];
    va_list args;
    if (!debug->text) {
        return;
    }
    int len = snprintf(line, sizeof line, "vCPU %u: ", vcpu);
    va_start(args, fmt);
    len += vsnprintf(line + len, sizeof line - 1 - (size_t)len, fmt, args);
    va_end(args);
    if (len > (int)sizeof line - 2) {
        len = (int)sizeof line - 2;
    }
    line[len++] = '\n';
    debug->text(debug->opaque, line, (size_t)len);
}
