/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker and its owner say to each other: messages on a SOCK_SEQPACKET pair, each with at
 * most one descriptor. Both ends are the same build. The owner checks what it reads as if the guest
 * had written it, for a guest that broke out of the monitor could.
 *
 * The owner sends requests, each of which gets one REPLY with the same id. The worker sends READY
 * once, CONSOLE and DEBUG at any time and ENDED last. When the owner's end closes, the worker
 * exits.
 */
#ifndef SM_WORKER_CONTROL_H
#define SM_WORKER_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Descriptors in the worker: its end of the pair; the files of the snapshot, if there is one, and
 * its base, if that has one; then the volumes, each followed by what it lies over, if it does. */
enum { CONTROL_FD = 3, CONTROL_STATE_FD, CONTROL_RAM_FD, CONTROL_BASE_FD };
#define CONTROL_PROBE                                                                              \
    "--jail" /* only argument of a worker that shall say READY from its jail, and go */
#define CONTROL_TEXT 512

enum control_type {
    /* Of the worker. */
    CONTROL_READY = 1, /* code 0: the agent serves; else why the VM could not start. arg: enum
                          jail_layer bits */
    CONTROL_CONSOLE,   /* text: bytes of the guest's console */
    CONTROL_DEBUG,     /* text: a line of engine_debug.text */
    CONTROL_ENDED,     /* arg: enum vm_end; code and text: what it means for who wanted it alive */
    CONTROL_WARNING,   /* text: a vm_config's warning */
    CONTROL_REPLY,     /* code and text: how it went; if code is 0, what the request asked for */
    /* Of the owner. Without a word on it, the reply says only how it went. */
    CONTROL_CONNECT,    /* arg: the guest's vsock port. Reply: with a stream socket */
    CONTROL_STREAMS,    /* Reply: arg: streams into the guest that it has not let go of yet */
    CONTROL_DISK,       /* with an empty file, which the next CAPTURE uses up, for disk arg */
    CONTROL_CAPTURE,    /* with an empty file, for RAM; arg: number of DISKs before it. Reply: arg:
                           microseconds of pause */
    CONTROL_SHARE,      /* as vm_share; with the memory file, if there is one */
    CONTROL_SAVE_STATE, /* of the latest CAPTURE, once; with an empty file; text: the
                           STATE_DIGEST_SIZE bytes of a digest */
};

struct control_msg {
    uint32_t type;
    uint32_t id;
    uint32_t arg;
    int32_t code; /* enum sm_status */
    int32_t os_errno;
    uint32_t len; /* bytes of text; no NUL */
    char text[CONTROL_TEXT];
};

void control_set_error(struct control_msg *m, int code, const struct sm_error *err);
/* The error in a message, its text cut to one printable line. Returns its code. */
int control_get_error(const struct control_msg *m, struct sm_error *err);

/* Send a message, with a copy of passed_fd unless that is -1. 0, or -1 with errno. Any thread. */
int control_send(int fd, const struct control_msg *m, int passed_fd);

/* Wait for a message. 1; 0: the other end is closed; -1 with errno (EPROTO: not a message). The
 * caller owns *passed_fd, which is -1 if there is none. */
int control_receive(int fd, struct control_msg *m, int *passed_fd);

#endif
