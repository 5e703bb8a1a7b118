// SPDX-License-Identifier: Apache-2.0
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

int say(const char *fmt, ...)
{
    char line[1024] = "supermachine: ";
    size_t start = strlen(line);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + start, sizeof line - start - 1, fmt, args);
    va_end(args);
    /* Names and guest text come from outside: they must not drive the terminal. */
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
    strcat(line, "\n");
    /* In one piece, and after what stdout still has. */
    fflush(stdout);
    fputs(line, stderr);
    return EXIT_OURS;
}
