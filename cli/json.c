// SPDX-License-Identifier: Apache-2.0
#include "json.h"

#include <stdio.h>

void json_quoted(const char *text)
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

void json_string(const char *key, const char *text)
{
    json_quoted(key);
    printf(": ");
    json_quoted(text);
}
