/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's side of a named VM: it takes requests (wire.h) on the record's control socket, from
 * processes of the same user, and answers each connection on a thread of its own.
 */
#ifndef CLI_SERVER_H
#define CLI_SERVER_H

#include <supermachine.h>

#include "record.h"

struct server;

/* vm and main_exec (what STOP asks to end; NULL: all that runs) are borrowed until server_stop. 0,
 * or an errno. */
int server_start(const struct record *r, sm_vm *vm, sm_exec *main_exec, struct server **out);
/* The VM's command has ended with code: answer those who wait, end the others' commands, free it.
 * NULL is fine. */
void server_stop(struct server *s, int code);

/* Connect to the owner of a record. The socket, or -1 after a message of command's. */
int server_connect(const struct record *r, const char *command);

/* The same by the VM's name. */
int server_connect_name(const char *vm, const char *command);

#endif
