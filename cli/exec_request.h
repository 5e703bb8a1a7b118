/* SPDX-License-Identifier: Apache-2.0 */
/* The answering side of WIRE_EXEC and WIRE_RUN: a command with the asker's own streams. */
#ifndef CLI_EXEC_REQUEST_H
#define CLI_EXEC_REQUEST_H

#include <supermachine.h>

#include "wire.h"

struct exec_request {
    struct sm_exec_spec spec;
    const char **argv, **env; /* what spec has: owned arrays of the message's strings */
    const char *entrypoint;   /* NULL: the image's, if argv is for one */
};

/* What a message asks for; borrows it. 0, or an errno. exec_request_fini in any case. */
int exec_request_parse(struct exec_request *q, const struct wire *w);
void exec_request_fini(struct exec_request *q);

/* Run it until its end, which goes to the client, and pass on what comes from there meanwhile. When
 * the client goes away first, the command is killed, and with vm the whole VM ended. */
void exec_request_serve(int fd, sm_exec *exec, sm_vm *vm);

#endif
