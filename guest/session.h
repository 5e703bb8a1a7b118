/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the host: an exec session or a control connection (agent/proto.h). Holds at
 * most one window of stdin, one frame in and one frame out, whatever the peers do. Owned by the
 * server.
 */
#ifndef SM_GUEST_SESSION_H
#define SM_GUEST_SESSION_H

#include <sys/resource.h>

#include "agent/ring.h"
#include "agent/wire.h"
#include "server.h"

enum session_phase {
    SESSION_HELLO,    /* waiting for the host's HELLO */
    SESSION_REQUEST,  /* for its first request */
    SESSION_CONTROL,  /* answering SETUP, PING, SHUTDOWN */
    SESSION_STARTING, /* forked, execve not reported yet */
    SESSION_RUNNING,
    SESSION_CLOSING, /* the last frame is queued; close when it is sent */
};

struct session_output { /* stdout or stderr */
    struct source src;
    uint32_t credit;   /* bytes the host still takes */
    bool open;         /* the host has not been told EOF */
    bool draining;     /* the process is gone: take what is left and no more */
    size_t drain_left; /* bytes */
};

struct session {
    struct session *next;
    struct server *server; /* borrowed */
    bool retired;
    enum session_phase phase;
    struct source conn; /* owned; the wire borrows it */
    struct wire wire;

    uint8_t *blob; /* owned: EXEC so far */
    size_t blob_len;

    pid_t pid; /* 0: none, or reaped */
    bool tty;
    bool writes_file; /* its process needs a moment to leave nothing behind */
    bool several;     /* its process waits for the command's: both get what is sent */
    struct source report;
    struct source input; /* stdin, unused with a tty: then out[0] is the master */
    struct session_output out[2];

    struct ring pending;  /* stdin not yet written */
    uint32_t host_credit; /* bytes of stdin the host may still send */
    uint32_t owed;        /* bytes of stdin passed on, credit not yet given back */
    bool input_open;      /* somebody may still read stdin */
    bool input_ended;     /* the host said EOF */
    bool input_refused;   /* the host has been told EOF */

    bool reaped;
    uint64_t started_ns;
    struct codec_exit exit;
};

/* Takes fd. NULL when out of memory (fd closed). */
struct session *session_new(struct server *server, int fd);
void session_free(struct session *s);
void session_reaped(struct session *s, int status, const struct rusage *usage);
void session_signal(struct session *s, int signal); /* to all its processes, if there are any */

#endif
