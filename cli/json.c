// SPDX-License-Identifier: Apache-2.0
#include "json.h"

#include <stdio.h>

void put_string(const char *text)
{
    putchar('"');
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < ' ' || c == 127)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

void put_member(const char *key, const char *text)
{
    put_string(key);
    printf(": ");
    put_string(text);
}
