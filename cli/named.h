/* SPDX-License-Identifier: Apache-2.0 */
/* A run that others can reach by its name: record, control socket, log, background. */
#ifndef CLI_NAMED_H
#define CLI_NAMED_H

#include "detach.h"
#include "record.h"
#include "run_opts.h"
#include "server.h"
#include "vm_log.h"

struct named {
    const struct run_opts *opts;
    struct detach detach;
    struct record record; /* dir -1: it has no name */
    struct server *server;
    struct vm_log log;
    int out[2];   /* write ends of the log; -1: none */
    int stdin_fd; /* read end of a stdin that never ends, with -di; -1 */
    int stdin_hold;
};

void named_init(struct named *n, const struct run_opts *opts);
/* Take the name, if there is to be one. argv: the command. 0, or EXIT_OURS after a message. */
int named_begin(struct named *n, const char *store, char **argv);
/* Where a detached command's streams go. 0, or EXIT_OURS after a message. */
int named_streams(struct named *n, struct sm_exec_spec *spec);
/* The command is prepared: answer requests, and leave the terminal. 0, or EXIT_OURS. */
int named_serve(struct named *n, sm_vm *vm, sm_exec *exec);
/* It has ended with code; exec is no longer used but by requests, which end here. */
void named_end(struct named *n, int code);

#endif
