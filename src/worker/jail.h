/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holds a guest that has taken over the worker: the process keeps no descriptor, file,
 * network, privilege or system call that running the VM does not need. Each layer works without the
 * others.
 *
 * Which system calls a thread needs is written beside the code that makes them, in comments
 * "jail(ROLE): names", or "jail(kvm/ROLE): names" for one engine only; tools/gen-jail collects them
 * into jail_rules.h.
 */
#ifndef SM_WORKER_JAIL_H
#define SM_WORKER_JAIL_H

#include <stdbool.h>

#include "base/err.h"

/* Layers that are in force; what the host does not offer is missing. */
enum jail_layer {
    JAIL_NO_NEW_PRIVS = 1, /* these two always are, or the worker does not start */
    JAIL_SECCOMP = 2,
    JAIL_CAPABILITIES = 4, /* none left */
    JAIL_NAMESPACES = 8,   /* user, mount (an empty root), network, IPC, UTS */
    JAIL_LANDLOCK = 16,    /* no file can be opened, but beneath the folders of jail_process() */
    JAIL_PIDS = 32,        /* the first process of a PID namespace: no other can be named */
    JAIL_ALL = 63,
};

/* Stands for the worker's own process id in a filter until it is loaded. */
#define JAIL_OWN_PID 0x5afe0001u

/* The threads of a worker, each with a list of its own. */
enum jail_role { JAIL_MAIN, JAIL_BEACON, JAIL_LOOP, JAIL_VCPU, JAIL_SHARE, JAIL_ROLES };

/* What stays within reach: folders that are shared with the guest. */
#define JAIL_FOLDERS_MAX 16
struct jail_reach {
    unsigned n;
    struct {
        int fd; /* O_PATH; put in place of it is one that leads to nothing above the folder */
        bool read_only;
    } folders[JAIL_FOLDERS_MAX];
    int self_fd;    /* with folders: of /proc/self/fd, treated like them */
    unsigned files; /* descriptors that this takes, besides those of any VM */
};

/* Everything but the system calls; once, before there is a second thread and after the last file
 * is open. *layers: what is in force, JAIL_SECCOMP (which follows) included. The process's own user
 * and group keep their ids in the user namespace if there are folders. */
int jail_process(const struct jail_reach *reach, unsigned *layers, struct sm_error *err);

/* Restrict the calling thread for ever: any other system call kills the process. kvm: the role's
 * list with what the KVM engine needs besides. */
int jail_thread(enum jail_role role, bool kvm, struct sm_error *err);

#endif
