// SPDX-License-Identifier: Apache-2.0
/* For zsh's own completion system: one _arguments call per command. */
#include <stdio.h>
#include <string.h>

#include "completion.h"

/* Inside single quotes; special: characters that need a backslash there. */
static void quoted(const char *text, const char *special)
{
    for (const char *p = text; *p; p++) {
        if (strchr(special, *p))
            putchar('\\');
        fputs(*p == '\'' ? "'\\''" : (const char[]){*p, 0}, stdout);
    }
}

/* ":what it is called:what to offer", still inside the quotes. */
static void argument(const char *text, bool option)
{
    putchar(':');
    quoted(text, ":\\");
    putchar(':');
    switch (completion_kind(text, option)) {
    case WORD_CHOICE:
        putchar('(');
        completion_choices(text);
        putchar(')');
        break;
    case WORD_FILE:
        printf("_files");
        break;
    case WORD_IMAGE:
        printf("_supermachine_images");
        break;
    case WORD_VM:
        printf("_supermachine_vms");
        break;
    case WORD_COMMAND:
        printf("_supermachine_commands");
        break;
    case WORD_ANY:
        putchar(' ');
    }
}

static void one_option(const struct opt *opt)
{
    const char *letter = opt->arg ? "+" : "", *name = opt->arg ? "=" : "";
    printf(" \\\n        '*'");
    if (opt->letter && opt->name)
        printf("{-%c%s,--%s%s}'", opt->letter, letter, opt->name, name);
    else if (opt->letter)
        printf("-%c%s'", opt->letter, letter);
    else
        printf("--%s%s'", opt->name, name);
    putchar('[');
    quoted(opt->help, "]\\");
    putchar(']');
    if (opt->arg)
        argument(opt->arg, true);
    putchar('\'');
}

static void one_command(const struct cmd *cmd)
{
    struct first_word first;
    completion_first(cmd, &first);
    printf("    %s)\n        _arguments -s -S -A '-*' '(- *)'{-h,--help}'[show the help]'",
           cmd->name);
    for (const struct opt *opt = cmd->options; opt && opt->id; opt++)
        one_option(opt);
    if (first.text[0]) {
        printf(" \\\n        '%s", first.repeated ? "*" : "1");
        argument(first.text, false);
        putchar('\'');
    }
    printf("\n        ;;\n");
}

static const char head[] =
    "#compdef supermachine\n"
    "# zsh completion for supermachine(1): `supermachine completion zsh` writes it.\n"
    "_supermachine_images()\n"
    "{\n"
    "    if [[ $PREFIX == (oci|docker-archive|snapshot):* ]]; then\n"
    "        compset -P 1 '*:'\n"
    "        _files\n"
    "        return\n"
    "    fi\n"
    "    local -a names\n"
    "    names=(${${(f)\"$(_call_program images supermachine images 2>/dev/null)\"}[2,-1]%% *})\n"
    "    compadd -- busybox $names\n"
    "    compadd -S '' -- oci: docker-archive: snapshot:\n"
    "}\n"
    "_supermachine_vms()\n"
    "{\n"
    "    compadd -- ${(f)\"$(_call_program vms supermachine ps -aq 2>/dev/null)\"}\n"
    "}\n"
    "_supermachine_commands()\n"
    "{\n"
    "    local -a commands\n"
    "    commands=(";
static const char middle[] = "\n    )\n"
                             "    _describe command commands\n"
                             "}\n"
                             "_supermachine()\n"
                             "{\n"
                             "    if ((CURRENT == 2)); then\n"
                             "        _supermachine_commands\n"
                             "        return\n"
                             "    fi\n"
                             "    shift words\n"
                             "    ((CURRENT--))\n"
                             "    case $words[1] in\n";
static const char tail[] = "    esac\n"
                           "}\n"
                           "if [[ ${funcstack[1]} == _supermachine ]]; then\n"
                           "    _supermachine \"$@\"\n"
                           "else\n"
                           "    compdef _supermachine supermachine\n"
                           "fi\n";

void completion_zsh(const struct cmd *commands, size_t n)
{
    fputs(head, stdout);
    for (size_t i = 0; i < n; i++) {
        printf("\n        '%s:", commands[i].name);
        quoted(commands[i].summary, ":\\");
        putchar('\'');
    }
    fputs(middle, stdout);
    for (size_t i = 0; i < n; i++)
        one_command(&commands[i]);
    fputs(tail, stdout);
}
