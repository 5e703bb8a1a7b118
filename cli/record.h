/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record of a named VM: the folder vms/NAME of the store, 0700. `lock` is held (OFD) by the
 * process that owns the VM for as long as it lives, so a killed owner leaves no running VM behind.
 *   vm.json   what runs (struct record_info)
 *   control   socket of the owner (server.h); not there before the VM runs
 *   log, log.1  what a detached command wrote (vm_log.h)
 *   messages  what a detached owner had to say
 *   ended     the exit code; not there while it runs
 * A pool has one, too: pools/NAME, with control and messages.
 */
#ifndef CLI_RECORD_H
#define CLI_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli.h"

#define RECORD_NAME_MAX 63
#define RECORD_VMS "vms"
#define RECORD_POOLS "pools"

struct record {
    int dir;  /* -1: none */
    int lock; /* -1: not the owner */
    char name[RECORD_NAME_MAX + 1];
};
#define RECORD_NONE                                                                                \
    {                                                                                              \
        .dir = -1, .lock = -1                                                                      \
    }

struct record_info {
    char *image, *command; /* owned */
    int64_t created_s;     /* since the epoch */
    pid_t owner;
    bool detached;
    uint32_t engine; /* enum sm_engine: what its VM was asked to have */
};

enum record_state {
    RECORD_STARTING,
    RECORD_RUNNING,
    RECORD_ENDED,
    RECORD_LOST, /* its owner was killed */
};

/* 0, or EXIT_OURS after saying in command's name what is wrong with a name. */
int record_check_name(const char *command, const char *name);

/* Make one of a kind, RECORD_VMS or RECORD_POOLS, and own it. NULL for a name: one is made up;
 * another must be one (record_check_name). info's strings are only read. 0, or an errno; EEXIST:
 * the name is taken. */
int record_make(struct record *r, const char *store, const char *kind, const char *name,
                const struct record_info *info);
/* The same of a VM: 0, or EXIT_OURS after a message of command's. */
int record_create(struct record *r, const char *command, const char *store, const char *name,
                  const struct record_info *info);
/* Note how it ended. */
void record_end(struct record *r, int code);
/* Remove the folder of a VM that does not run. 0, or an errno; EBUSY when it does. */
int record_remove(struct record *r);
void record_close(struct record *r);

/* Someone else's, by a name that is one. 0, or an errno: ENOENT when there is none. */
int record_find(struct record *r, const char *store, const char *kind, const char *name);
/* The same of a VM, by any name: 0, or EXIT_OURS after a message. */
int record_open(struct record *r, const char *command, const char *store, const char *name);
/* code: the exit code when it has ended. */
enum record_state record_state(const struct record *r, int *code);
/* Wait until it runs no longer, whatever ended it. */
enum record_state record_wait(const struct record *r, int *code);
/* 0, or an errno: it is damaged, or just being removed. record_info_fini in any case. */
int record_read(const struct record *r, struct record_info *info);
void record_info_fini(struct record_info *info);

/* Every record of a kind, by name. The callback's non-zero result ends it and is returned. */
int record_each(const char *store, const char *kind, int (*each)(void *opaque, struct record *r),
                void *opaque);

#endif
