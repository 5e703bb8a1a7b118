/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's loop: one thread, one epoll, connections of the host, children of everybody. Knows
 * nothing of what PID 1 is about, so the tests run it as an ordinary process over a Unix socket.
 */
#ifndef SM_GUEST_SERVER_H
#define SM_GUEST_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct session;
struct server;

/* A watched descriptor inside its owner. */
struct source {
    int fd; /* owned by the source's owner; -1: none */
    uint32_t events;
    bool watched;
    void (*ready)(struct source *src, uint32_t events);
    void *owner; /* borrowed */
};

struct server_config {
    int listen_fd;     /* borrowed: a listening stream socket, non-blocking */
    bool is_init;      /* owns the machine: SETUP and SHUTDOWN act on all of it */
    uint32_t only_cid; /* accept only from this vsock CID; 0: not a vsock socket */
};

/* Serves until a SHUTDOWN has ended every process, then returns 0; -1 with errno if it cannot
 * start. */
int server_run(const struct server_config *config);

/* For sessions. */
void server_watch(struct server *s, struct source *src, uint32_t events, bool even_if_none);
void server_unwatch(struct server *s, struct source *src); /* and close; fine when there is none */
void server_retire(struct server *s, struct session *session); /* free it after this round */
void server_shutdown(struct server *s, uint32_t grace_ms);
/* Whether /etc/machine-id is of the agent's making, and so may be replaced. The caller may set it.
 */
bool *server_wrote_machine_id(struct server *s);
bool server_is_init(const struct server *s);

#endif
