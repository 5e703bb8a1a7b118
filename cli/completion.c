// SPDX-License-Identifier: Apache-2.0
#include "completion.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Lower-case words, digits and dashes with bars between: they are all there is. */
static bool is_choice(const char *text)
{
    for (const char *p = text; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (!islower(c) && !isdigit(c) && c != '-' && c != '|')
            return false;
    }
    return strchr(text, '|') != NULL;
}

static bool has_word(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    size_t len = strlen(word);
    return at && (at == text || !isalpha((unsigned char)at[-1])) &&
           !isalpha((unsigned char)at[len]);
}

enum word_kind completion_kind(const char *text, bool option)
{
    if (is_choice(text))
        return WORD_CHOICE;
    if (has_word(text, "FILE") || has_word(text, "DIR"))
        return WORD_FILE;
    if (!option && has_word(text, "IMAGE"))
        return WORD_IMAGE;
    if (!option && has_word(text, "NAME"))
        return WORD_VM;
    return !option && has_word(text, "COMMAND") ? WORD_COMMAND : WORD_ANY;
}

void completion_choices(const char *text)
{
    for (const char *p = text; *p; p++)
        putchar(*p == '|' ? ' ' : *p);
}

void completion_first(const struct cmd *cmd, struct first_word *out)
{
    const char *text = cmd->usage, *more;
    *out = (struct first_word){0};
    while (text[0] == '[' && (text[1] == '-' || strncmp(text, "[OPTION", 7) == 0))
        text += strcspn(text, " ") + (strchr(text, ' ') != NULL);
    text += text[0] == '[';
    more = strstr(text, "...");
    out->repeated = more == text + strcspn(text, " ].");
    if (!strstr(text, " | ")) {
        snprintf(out->text, sizeof out->text, "%.*s", (int)strcspn(text, " ]."), text);
        return;
    }
    /* each way to call it begins with another word */
    for (size_t len = 0; text; text = strstr(text, " | ") ? strstr(text, " | ") + 3 : NULL)
        len += (size_t)snprintf(out->text + len, sizeof out->text - len, "%s%.*s", len ? "|" : "",
                                (int)strcspn(text, " "), text);
}

int completion_print(const char *shell, const struct cmd *commands, size_t n)
{
    if (strcmp(shell, "bash") == 0)
        completion_bash(commands, n);
    else if (strcmp(shell, "zsh") == 0)
        completion_zsh(commands, n);
    else
        return say("completion: no script for \"%.60s\": there are bash and zsh", shell);
    return 0;
}
