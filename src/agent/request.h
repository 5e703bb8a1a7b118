/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of control connections and of the beacon (agent/proto.h). Each call uses a fresh
 * connection, which the caller opens and closes; blocks up to timeout_ms. Any thread, one per
 * connection.
 */
#ifndef SM_AGENT_REQUEST_H
#define SM_AGENT_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Read the beacon off a connection that the guest opened to PROTO_PORT, up to its end of file. 0:
 * the agent serves. SM_EGUEST: the guest could not start (the text says why), or it is no agent of
 * this version; SM_ETIMEDOUT.
 */
int request_beacon(int fd, int timeout_ms, struct sm_error *err);

struct request_volume {
    const char *path; /* absolute, in the guest */
    bool read_only;
    bool folder; /* else a disk */
};

/* NULL and 0: leave it as it is. */
struct request_setup {
    const char *hostname;    /* up to 64 bytes */
    const char *resolv_conf; /* text of the file */
    const char *hosts;       /* lines to add to /etc/hosts */
    const char *machine_id;  /* 32 hex digits, for an image that has none */
    uint64_t clock_ns;       /* since 1970 */
    const void *entropy;     /* up to 512 bytes */
    size_t entropy_len;
    const struct request_volume *volumes; /* the n-th is the disk, or folder, "smN" */
    size_t n_volumes;                     /* up to PROTO_VOLUMES_MAX */
};
/* 0; SM_EINVAL: too long, or a volume cannot be mounted; SM_EGUEST: the agent refused, closed or
 * talked nonsense; SM_ETIMEDOUT. */
int request_setup(int fd, const struct request_setup *setup, int timeout_ms, struct sm_error *err);

/* Make the guest's memory small for a snapshot; takes some 100 ms. */
int request_bake(int fd, int timeout_ms, struct sm_error *err);

int request_ping(int fd, int timeout_ms, struct sm_error *err);

/* Orderly power-off: SIGTERM to all, SIGKILL after grace_ms (<= 60000), sync, off. Returns when the
 * agent has agreed, or is gone already; the machine stops later. */
int request_shutdown(int fd, uint32_t grace_ms, int timeout_ms, struct sm_error *err);

#endif
