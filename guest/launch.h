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
    int report_fd; /* close-on-exec */
};

/* Runs in the forked child. All descriptors above 2 are close-on-exec. */
void launch_child(const struct launch *l) __attribute__((noreturn));

#endif
