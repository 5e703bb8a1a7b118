/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of an exec session (agent/proto.h). The guest is hostile: whatever it sends,
 * memory stays bounded (one window per output stream), and nonsense is a clean SM_EGUEST.
 */
#ifndef SM_AGENT_CLIENT_H
#define SM_AGENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/codec.h"
#include "base/err.h"

struct client;

/*
 * What to run. The arrays are NULL-terminated; strings and arrays are copied. Descriptors are
 * borrowed until the client is freed; they keep their flags (they need not be, and are not made,
 * non-blocking).
 */
struct client_spec {
    const char *const *argv;         /* at least one; found through PATH of env in the guest */
    const char *const *const *chain; /* NULL, or a NULL-terminated list of commands to run after it,
                                        each if the one before ended with 0 */
    const struct codec_file *files;  /* written before the first starts */
    size_t n_files;
    /* Instead of a command, argv NULL: files[0], without contents, is written from stdin, or read
     * to stdout with its mode on stderr (proto.h). */
    enum { CLIENT_EXEC, CLIENT_WRITE, CLIENT_READ } what;
    const char *const
        *env;         /* NULL: none; the agent adds PATH, HOME, HOSTNAME, TERM as Docker does */
    const char *cwd;  /* NULL or "": / */
    const char *user; /* NULL or "": root; else as Docker's --user */
    bool make_cwd;    /* create cwd if it is missing */
    bool tty;         /* a terminal of rows x cols (0 x 0: unknown); there is no stderr then */
    uint16_t rows, cols;
    int stdin_fd;  /* -1: /dev/null. Not read before the command has started */
    int stdout_fd; /* -1: discard */
    int stderr_fd; /* -1: discard */
    /* If set, takes output instead of the descriptors: stream 1 or 2; called on client_run's
     * thread. A non-zero return (an enum sm_status) ends client_run with it. */
    int (*output)(void *opaque, int stream, const void *data, size_t len);
    void *opaque;
};
#define CLIENT_SPEC_INIT                                                                           \
    {                                                                                              \
        .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1                                           \
    }

struct client_result {
    int code;   /* as a shell would say it: 0..255, 128+n after signal n, 127 / 126 / 125 on refusal
                 */
    int signal; /* that ended it, or 0 */
    bool core;
    bool refused; /* the command never started; the text is in the error */
    uint64_t wall_ns, user_ns, system_ns, peak_rss_bytes; /* as the guest claims */
};

/* fd: a connected stream socket to the agent's port; borrowed. Sends nothing yet. SM_EINVAL: the
 * arguments exceed the protocol's limits; SM_ENOMEM; SM_EIO. */
int client_new(struct client **out, int fd, const struct client_spec *spec, struct sm_error *err);
void client_free(struct client *c); /* NULL is fine; does not close fd */

/*
 * Move bytes until the command has ended and its output is delivered; one thread at a time.
 * timeout_ms < 0: no limit. Returns 0             *result says how it ended SM_ENOTFOUND,
 * SM_EINVAL, SM_EGUEST with result->refused: the agent could not start it, and why SM_ETIMEDOUT,
 * SM_EINTR (client_interrupt): nothing is lost, call again to go on SM_EGUEST     the guest closed
 * the connection or broke the protocol SM_EIO, SM_ENOSPC: an output descriptor failed (a reader
 * that is gone is no error: the command gets SIGPIPE); others from output() Does not raise SIGPIPE.
 * Freeing the client and closing fd kills a command that is still running.
 */
int client_run(struct client *c, int timeout_ms, struct client_result *result,
               struct sm_error *err);

/* These may be called from any thread and from signal handlers, at any time before client_free. */
void client_signal(struct client *c, int signal, bool all); /* all: every process of the session */
void client_resize(struct client *c, uint16_t rows, uint16_t cols);
void client_interrupt(struct client *c);

#endif
