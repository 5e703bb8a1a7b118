/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion scripts for shells, out of the table of commands: `supermachine completion bash|zsh`.
 * What an argument can be is read from what the help calls it.
 */
#ifndef CLI_COMPLETION_H
#define CLI_COMPLETION_H

#include <stdbool.h>
#include <stddef.h>

#include "cli.h"

enum word_kind {
    WORD_ANY,     /* nothing is offered */
    WORD_CHOICE,  /* kvm|soft */
    WORD_FILE,    /* FILE, DIR: also folders */
    WORD_IMAGE,   /* IMAGE */
    WORD_VM,      /* NAME */
    WORD_COMMAND, /* COMMAND, of this program */
};
/* option: of an option's argument; there IMAGE, NAME and COMMAND are somebody else's. */
enum word_kind completion_kind(const char *text, bool option);
/* Print the words of a WORD_CHOICE. */
void completion_choices(const char *text);

/* A command's first argument after its options. */
struct first_word {
    char text[128]; /* as the help has it; "" for none */
    bool repeated;  /* those after it are the same */
};
void completion_first(const struct cmd *cmd, struct first_word *out);

/* Print the script of that shell. 0, or EXIT_OURS after a message. */
int completion_print(const char *shell, const struct cmd *commands, size_t n);
void completion_bash(const struct cmd *commands, size_t n);
void completion_zsh(const struct cmd *commands, size_t n);

#endif
