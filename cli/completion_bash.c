// SPDX-License-Identifier: Apache-2.0
/* Needs bash 4 and nothing else. */
#include <stdio.h>
#include <string.h>

#include "completion.h"

/* A shell command that offers words for this argument. */
static void offer(const char *text, bool option)
{
    switch (completion_kind(text, option)) {
    case WORD_CHOICE:
        printf("_supermachine_reply '");
        completion_choices(text);
        printf("'");
        break;
    case WORD_FILE:
        printf("_supermachine_files");
        break;
    case WORD_IMAGE:
        printf("_supermachine_images");
        break;
    case WORD_VM:
        printf("_supermachine_reply \"$(supermachine ps -aq 2>/dev/null)\"");
        break;
    case WORD_COMMAND:
        printf("_supermachine_reply \"$commands\"");
        break;
    case WORD_ANY:
        printf(":");
    }
}

static void option_names(const struct opt *opt, const char *before, const char *between)
{
    if (opt->letter)
        printf("%s-%c", before, opt->letter);
    if (opt->name)
        printf("%s--%s", opt->letter ? between : before, opt->name);
}

static void one_command(const struct cmd *cmd)
{
    struct first_word first;
    completion_first(cmd, &first);
    printf("    %s)\n        options='-h --help", cmd->name);
    for (const struct opt *opt = cmd->options; opt && opt->id; opt++)
        option_names(opt, " ", " ");
    printf("'\n        case $1 in\n");
    for (const struct opt *opt = cmd->options; opt && opt->id; opt++) {
        if (!opt->arg)
            continue;
        option_names(opt, "        ", " | ");
        printf(") ");
        offer(opt->arg, true);
        printf(" ;;\n");
    }
    printf("        '') ");
    offer(first.text, false);
    printf(" ;;\n        *) return 1 ;;\n        esac\n        ;;\n");
}

/* front is what comes before the part of the word that is completed, as --engine= and oci:; kept is
 * what readline leaves alone, up to the last ':' or '=' unless those are set otherwise. */
static const char head[] =
    "# bash completion for supermachine(1): `supermachine completion bash` writes it.\n"
    "_supermachine_reply()\n"
    "{\n"
    "    local word list\n"
    "    read -rd '' -a list <<<\"$1\"\n"
    "    for word in \"${list[@]}\"; do\n"
    "        [[ $word == \"$current\"* ]] || continue\n"
    "        word=$front$word\n"
    "        COMPREPLY+=(\"${word#\"$kept\"}\")\n"
    "    done\n"
    "}\n"
    "_supermachine_files()\n"
    "{\n"
    "    local word\n"
    "    while IFS= read -r word; do\n"
    "        word=$front$word\n"
    "        COMPREPLY+=(\"${word#\"$kept\"}\")\n"
    "    done < <(compgen -f -- \"$current\")\n"
    "    compopt -o filenames 2>/dev/null\n"
    "}\n"
    "_supermachine_images()\n"
    "{\n"
    "    local name rest names='busybox oci: docker-archive: snapshot:'\n"
    "    case $current in\n"
    "    oci:* | docker-archive:* | snapshot:*)\n"
    "        front=${current%%:*}: current=${current#*:}\n"
    "        _supermachine_files\n"
    "        return\n"
    "        ;;\n"
    "    esac\n"
    "    while read -r name rest; do\n"
    "        [[ $name == NAME ]] || names+=\" $name\"\n"
    "    done < <(supermachine images 2>/dev/null)\n"
    "    _supermachine_reply \"$names\"\n"
    "    [[ ${COMPREPLY[*]} != *: ]] || compopt -o nospace 2>/dev/null\n"
    "}\n"
    "# _supermachine_argument OPTION: set options, and offer what may follow this one; fails when\n"
    "# nothing does. OPTION '': the first argument after the options.\n"
    "_supermachine_argument()\n"
    "{\n"
    "    case $command in\n";

static const char tail[] =
    "    local line=${COMP_LINE:0:COMP_POINT} words current front= kept= command options= option "
    "breaks= i\n"
    "    read -ra words <<<\"$line\"\n"
    "    [[ $line != *[[:space:]] ]] || words+=('')\n"
    "    current=${words[-1]} command=${words[1]}\n"
    "    [[ $COMP_WORDBREAKS != *:* ]] || breaks+=:\n"
    "    [[ $COMP_WORDBREAKS != *=* ]] || breaks+==\n"
    "    [[ -z $breaks || $current != *[$breaks]* ]] || "
    "kept=${current%\"${current##*[$breaks]}\"}\n"
    "    COMPREPLY=()\n"
    "    if ((${#words[@]} <= 2)); then\n"
    "        _supermachine_reply \"$commands\"\n"
    "        return\n"
    "    fi\n"
    "    # Over what comes before: options with their arguments, up to the first that is none.\n"
    "    for ((i = 2; i < ${#words[@]} - 1; i++)); do\n"
    "        option=${words[i]}\n"
    "        if [[ $option != -?* || $option == -- ]]; then\n"
    "            [[ $option != -- ]] || ((i += 1))\n"
    "            break\n"
    "        elif [[ $option != *=* ]] && _supermachine_argument \"$option\"; then\n"
    "            ((i += 1))\n"
    "            ((i < ${#words[@]} - 1)) || return # it is what was just offered\n"
    "        fi\n"
    "        COMPREPLY=()\n"
    "    done\n"
    "    if ((i < ${#words[@]} - 1)); then\n"
    "        [[ $command == run || $command == exec ]] || _supermachine_argument ''\n"
    "        return # else it belongs to the guest's command\n"
    "    fi\n"
    "    case $current in\n"
    "    --*=*)\n"
    "        option=${current%%=*} front=${current%%=*}= current=${current#*=}\n"
    "        _supermachine_argument \"$option\"\n"
    "        ;;\n"
    "    -*)\n"
    "        _supermachine_argument \"$current\"\n"
    "        COMPREPLY=()\n"
    "        _supermachine_reply \"$options\"\n"
    "        ;;\n"
    "    *) _supermachine_argument '' ;;\n"
    "    esac\n"
    "}\n"
    "complete -F _supermachine supermachine\n";

void completion_bash(const struct cmd *commands, size_t n)
{
    fputs(head, stdout);
    for (size_t i = 0; i < n; i++)
        one_command(&commands[i]);
    printf(
        "    *) return 1 ;;\n    esac\n    return 0\n}\n_supermachine()\n{\n    local commands='");
    for (size_t i = 0; i < n; i++)
        printf("%s%s", i ? " " : "", commands[i].name);
    printf("'\n");
    fputs(tail, stdout);
}
