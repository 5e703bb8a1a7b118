/* SPDX-License-Identifier: Apache-2.0 */
/* What the program's parts share: exit codes, how it speaks, and the table of commands. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <supermachine.h>

/* Exit codes besides a guest command's own, as Docker and timeout(1) have them. */
enum { EXIT_OURS = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127, EXIT_TIMED_OUT = 124 };

/* One line on stderr, "supermachine: " in front; control characters shown as '?'. Returns
 * EXIT_OURS.
 */
int say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One option of a command. */
struct opt {
    char letter;      /* 0: none */
    const char *name; /* without "--"; NULL: none */
    const char *arg;  /* what its argument is called; NULL: takes none */
    const char *help;
    int id; /* what opts_next returns */
};

struct cmd {
    const char *name;
    const char *summary;
    const char *usage;         /* what follows the name */
    const char *notes;         /* more help, or NULL */
    const struct opt *options; /* up to one with id 0, or NULL */
    /* argv[0] is the command's name. Returns the exit code. */
    int (*run)(const struct cmd *cmd, int argc, char **argv);
};

/* Every command takes -h and --help; the parser deals with it. */
enum { OPTS_END = -1, OPTS_BAD = -2, OPTS_HELP = -3 };

struct opts {
    const struct cmd *cmd;
    char **argv;
    int next;          /* index of the first argument not consumed */
    const char *rest;  /* letters left in a group such as -it */
    const char *value; /* argument of the option returned last */
};

void opts_init(struct opts *o, const struct cmd *cmd, char **argv);
/* The next option's id; OPTS_END at the first that is none (o->next is then its index); OPTS_HELP
 * after printing the command's help; OPTS_BAD after saying what is wrong. */
int opts_next(struct opts *o);

void help_command(const struct cmd *cmd);

/* Append to a NULL-terminated array; 0, or EXIT_OURS after saying why not. */
int add_string(const char ***list, size_t *n, const char *value);

int cmd_gc(const struct cmd *cmd, int argc, char **argv);
int cmd_images(const struct cmd *cmd, int argc, char **argv);
int cmd_inspect(const struct cmd *cmd, int argc, char **argv);
int cmd_rmi(const struct cmd *cmd, int argc, char **argv);
int cmd_verify(const struct cmd *cmd, int argc, char **argv);
int cmd_load(const struct cmd *cmd, int argc, char **argv);
int cmd_save(const struct cmd *cmd, int argc, char **argv);
int cmd_volume(const struct cmd *cmd, int argc, char **argv);
int cmd_pool(const struct cmd *cmd, int argc, char **argv);
int cmd_pull(const struct cmd *cmd, int argc, char **argv);
int cmd_cp(const struct cmd *cmd, int argc, char **argv);
int cmd_fork(const struct cmd *cmd, int argc, char **argv);
int cmd_exec(const struct cmd *cmd, int argc, char **argv);
int cmd_logs(const struct cmd *cmd, int argc, char **argv);
int cmd_ps(const struct cmd *cmd, int argc, char **argv);
int cmd_rm(const struct cmd *cmd, int argc, char **argv);
int cmd_snapshot(const struct cmd *cmd, int argc, char **argv);
int cmd_stop(const struct cmd *cmd, int argc, char **argv);
int cmd_wait(const struct cmd *cmd, int argc, char **argv);
int cmd_run(const struct cmd *cmd, int argc, char **argv);
int cmd_bake(const struct cmd *cmd, int argc, char **argv);
int cmd_doctor(const struct cmd *cmd, int argc, char **argv);
extern const struct opt run_options[], bake_options[], doctor_options[], pull_options[],
    json_options[], load_options[], save_options[], verify_options[], exec_options[],
    fork_options[], logs_options[], pool_options[], ps_options[], rm_options[], stop_options[];

#endif
