/* SPDX-License-Identifier: Apache-2.0 */
/* The asking side of WIRE_EXEC and WIRE_RUN: a command in somebody else's VM, on our streams. */
#ifndef CLI_EXEC_CLIENT_H
#define CLI_EXEC_CLIENT_H

#include "command_opts.h"
#include "signals.h"
#include "wire.h"

struct exec_client {
    const char *command; /* whose messages they are */
    const char *whom;    /* the VM or image, for messages */
    const struct command_opts *opts;
    char **argv;
    enum wire_type type;    /* WIRE_EXEC or WIRE_RUN */
    const char *entrypoint; /* of WIRE_RUN; NULL: the image's */
    int64_t timeout_ms;     /* 0: none */
    int fd;                 /* to who owns the VM; borrowed */
};

/* Send it, then pass signals and the terminal's size on until it has ended. When this process is
 * killed, so is the command. The exit code. */
int exec_client_run(struct exec_client *c, struct signals *signals);

#endif
