// SPDX-License-Identifier: Apache-2.0
/*
 * Options by table, with Docker's habits: they end at the first argument that is none (the image),
 * so that the command's own options are left alone; letters can be grouped (-it).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const struct opt help_opt = {'h', "help", NULL, "show this help", OPTS_HELP};

void opts_init(struct opts *o, const struct cmd *cmd, char **argv)
{
    *o = (struct opts){.cmd = cmd, .argv = argv, .next = 1};
}

static int bad(const struct opts *o, const char *what, const char *option, size_t len)
{
    say("%s: %s %.*s; see `supermachine help %s`", o->cmd->name, what, (int)len, option,
        o->cmd->name);
    return OPTS_BAD;
}

static int deliver(const struct opts *o, const struct opt *opt)
{
    if (opt->id == OPTS_HELP)
        help_command(o->cmd);
    return opt->id;
}

static int next_letter(struct opts *o)
{
    const struct opt *opt = o->cmd->options;
    char letter = *o->rest++;
    char shown[3] = {'-', letter, 0};
    while (opt && opt->id && opt->letter != letter)
        opt++;
    if (!opt || !opt->id)
        opt = letter == help_opt.letter ? &help_opt : NULL;
    if (!opt)
        return bad(o, "unknown option", shown, 2);
    if (opt->arg) {
        o->value = *o->rest ? o->rest + (*o->rest == '=') : o->argv[o->next];
        if (!*o->rest && o->value)
            o->next++;
        o->rest = "";
        if (!o->value)
            return bad(o, "no argument after", shown, 2);
    }
    return deliver(o, opt);
}

static int next_name(struct opts *o, const char *text)
{
    const struct opt *opt = o->cmd->options;
    size_t len = strcspn(text + 2, "=");
    const char *name = text + 2, *given = name[len] ? name + len + 1 : NULL;
    while (opt && opt->id &&
           !(opt->name && strlen(opt->name) == len && memcmp(opt->name, name, len) == 0))
        opt++;
    if (!opt || !opt->id)
        opt = len == 4 && memcmp(name, help_opt.name, 4) == 0 ? &help_opt : NULL;
    if (!opt)
        return bad(o, "unknown option", text, len + 2);
    if (!opt->arg && given)
        return bad(o, "no argument may follow", text, len + 2);
    if (opt->arg && !given) {
        given = o->argv[o->next];
        if (!given)
            return bad(o, "no argument after", text, len + 2);
        o->next++;
    }
    o->value = given;
    return deliver(o, opt);
}

int opts_next(struct opts *o)
{
    o->value = NULL;
    if (o->rest && *o->rest)
        return next_letter(o);
    const char *text = o->argv[o->next];
    if (!text || text[0] != '-' || !text[1])
        return OPTS_END;
    o->next++;
    if (strcmp(text, "--") == 0)
        return OPTS_END;
    if (text[1] == '-')
        return next_name(o, text);
    o->rest = text + 1;
    return next_letter(o);
}

static void print_option(const struct opt *opt)
{
    char left[64], letter[5] = "    ";
    if (opt->letter)
        snprintf(letter, sizeof letter, "-%c%s", opt->letter, opt->name ? ", " : "");
    snprintf(left, sizeof left, "%s%s%s%s%s", letter, opt->name ? "--" : "",
             opt->name ? opt->name : "", opt->arg ? " " : "", opt->arg ? opt->arg : "");
    printf("  %-26s %s\n", left, opt->help);
}

void help_command(const struct cmd *cmd)
{
    printf("usage: supermachine %s%s%s\n\n%s\n", cmd->name, cmd->usage[0] ? " " : "", cmd->usage,
           cmd->summary);
    printf("\nOptions:\n");
    for (const struct opt *opt = cmd->options; opt && opt->id; opt++)
        print_option(opt);
    print_option(&help_opt);
    if (cmd->notes)
        printf("\n%s\n", cmd->notes);
}

int add_string(const char ***list, size_t *n, const char *value)
{
    const char **grown = realloc(*list, (*n + 2) * sizeof *grown);
    if (!grown)
        return say("out of memory");
    grown[(*n)++] = value;
    grown[*n] = NULL;
    *list = grown;
    return 0;
}
