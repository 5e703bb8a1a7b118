/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between a VM's owner (server.h) and those who ask it: one packet each on a Unix
 * SOCK_SEQPACKET socket, with a version, two numbers, strings and perhaps descriptors.
 */
#ifndef CLI_WIRE_H
#define CLI_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_MAX_TEXT (128u << 10) /* arguments and environment of a command */
#define WIRE_MAX_FDS 3

enum wire_type {
    WIRE_EXEC = 1, /* a: WIRE_EXEC_* flags, b: rows << 16 | columns; strings: number of arguments,
                      folder or "", user or "", arguments, environment; descriptors by the flags */
    WIRE_SIGNAL,   /* a: signal; to the command of this connection */
    WIRE_RESIZE,   /* b: rows << 16 | columns */
    WIRE_STOP,     /* a: milliseconds from SIGTERM to the VM's end */
    WIRE_PUT,      /* a file into the VM. a: mode; strings: path in the guest; its descriptor */
    WIRE_GET,      /* a file out of it. strings: path in the guest; a descriptor to write to */
    WIRE_SNAPSHOT, /* strings: the new folder, absolute */
    WIRE_DONE,     /* the answer to all but SIGNAL and RESIZE. a: exit code; b: of EXEC and STOP, 1
                      when a command ran; of GET the file's mode; of SNAPSHOT the pause in
                      milliseconds; of PUT 1 when the path cannot be
                      written as a file; a string: what went wrong, or "" */
    WIRE_FORK,     /* an image of the VM: after DONE with exit code 0, sm_image_send's message */
    WIRE_RUN,      /* of a pool: EXEC in a VM of its own. With WIRE_RUN_ENTRYPOINT a string more
                      after the user; the arguments are then the image's command's, and may be 0 */
    WIRE_STATS,    /* of a pool; DONE then has more strings: numbers, in the order of
                      struct sm_pool_stats, then min and max */
};
enum { WIRE_EXEC_TTY = 1, WIRE_EXEC_STDIN = 2 }; /* in a; stdout and stderr are always there */
#define WIRE_RUN_ENTRYPOINT 4                    /* in a, too */
#define WIRE_STATS_NUMBERS 10
#define WIRE_MALFORMED "a malformed request"
#define WIRE_UNKNOWN "an unknown request: is it another version's?"

struct wire {
    uint32_t type;
    int32_t a, b;
    size_t len; /* of text */
    char *text; /* strings, each with its NUL; owned */
    int fds[WIRE_MAX_FDS];
    unsigned n_fds; /* owned */
};

/* Append a string. 0, or E2BIG or ENOMEM. */
int wire_add(struct wire *w, const char *string);
/* The string at *at, which moves to the next; NULL after the last. */
const char *wire_next(const struct wire *w, size_t *at);
/* 0, or an errno. */
int wire_send(int fd, const struct wire *w);
/* 0, or an errno: EPIPE when the other side is gone, EPROTO when it speaks something else.
 * wire_fini in any case. */
int wire_receive(int fd, struct wire *w);
/* Send DONE. That nobody is there to take it is no matter. */
void wire_answer(int fd, int32_t code, int32_t more, const char *text);
/* Free the text and close the descriptors. A zeroed one is fine. */
void wire_fini(struct wire *w);

#endif
