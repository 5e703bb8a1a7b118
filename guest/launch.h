/* SPDX-License-Identifier: Apache-2.0 */
/* From fork to execve: what the child does. The child may block; the agent does not wait for it. */
#ifndef SM_GUEST_LAUNCH_H
#define SM_GUEST_LAUNCH_H

#include "agent/codec.h"

/* Why there was no execve; the child writes one of these to the report pipe. Nothing means success.
 */
struct launch_report {
    uint32_t class; /* enum proto_error */
    uint32_t os_errno;
    char text[400];
};

struct launch {
    const struct codec_exec *exec;
    int stdio[3];  /* the child's ends; with a tty all are its slave side */
    int report_fd; /* close-on-exec; -1: to standard error, the command before has started */
};

/* Report why there is no execve (os_errno 0: the text says it all) and end with the shell's code.
 */
void launch_fail(const struct launch *l, enum proto_error class, int os_errno, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* For a forked child that goes on without execve: signals as they are by default, a session of its
 * own, and no descriptor above 2 but *fd, which becomes 3. */
void launch_detach(int *fd);

/* Runs in the forked child. All descriptors above 2 are close-on-exec. */
void launch_child(struct launch *l) __attribute__((noreturn));

#endif
