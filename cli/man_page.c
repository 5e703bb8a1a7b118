// SPDX-License-Identifier: Apache-2.0
#include "man_page.h"

#include <stdio.h>
#include <string.h>

/* Text for the formatter: backslashes are its escapes, a line that begins with one of these is a
 * request, and it wants a line for each sentence. */
static void text(const char *s)
{
    bool start = true;
    for (; *s; s++) {
        bool sentence = *s == '.' && s[1] == ' ';
        if (start && (*s == '.' || *s == '\''))
            fputs("\\&", stdout);
        fputs(*s == '\\' ? "\\e" : *s == '-' ? "\\-" : (const char[]){*s, 0}, stdout);
        start = *s == '\n' || sentence;
        if (sentence) {
            putchar('\n');
            s++;
        }
    }
}

static void one_option(const struct opt *opt)
{
    printf(".It ");
    if (opt->letter)
        printf("Fl %c%s", opt->letter, opt->name ? " , " : "");
    if (opt->name)
        printf("Fl \\-%s", opt->name);
    if (opt->arg) {
        printf(" Ar \"");
        text(opt->arg);
        putchar('"');
    }
    putchar('\n');
    text(opt->help);
    putchar('\n');
}

void man_page_commands(const struct cmd *commands, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct cmd *c = &commands[i];
        printf(".Ss supermachine %s\n", c->name);
        if (c->usage[0]) {
            printf(".Ic %s\n.Ar \"", c->name);
            text(c->usage);
            printf("\"\n.Pp\n");
        }
        text(c->summary);
        putchar('\n');
        if (c->notes) {
            text(c->notes);
            putchar('\n');
        }
        if (!c->options)
            continue;
        printf(".Bl -tag -width Ds\n");
        for (const struct opt *opt = c->options; opt->id; opt++)
            one_option(opt);
        printf(".El\n");
    }
}
