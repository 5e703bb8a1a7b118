/* SPDX-License-Identifier: Apache-2.0 */
/* What the child of a session does besides execve: files in and out, and commands in a row. */
#ifndef SM_GUEST_TRANSFER_H
#define SM_GUEST_TRANSFER_H

#include "launch.h"

/* PROTO_EXEC_WRITE and READ, between the standard streams and the file. */
void transfer_file(const struct launch *l) __attribute__((noreturn));

/* Write the files that come with the command, or launch_fail(). */
void transfer_stage(const struct launch *l);

#endif
