/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a record, 0600 in its folder: each connection of a process of the same user
 * gets a thread of its own.
 */
#ifndef CLI_LISTENER_H
#define CLI_LISTENER_H

#include "record.h"

struct listener;

/* Answer one connection; fd is closed after it. */
typedef void listener_serve_fn(void *opaque, int fd);

/* Take up to max connections at once; one more is told so. 0, or an errno. */
int listener_start(const struct record *r, unsigned max, listener_serve_fn *serve, void *opaque,
                   struct listener **out);
/* No more connections; those under way go on. */
void listener_close(struct listener *l);
/* After that: wait for those under way. One that waits for its client's first word hears that the
 * client is gone. */
void listener_free(struct listener *l);

/* The asker's side: connect to the owner of a record. The socket, or -1 with errno. */
int listener_connect(const struct record *r);

#endif
