// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>

#include "api/api.h"
#include "base/err.h"
#include "worker/jail.h"

_Static_assert(SM_JAIL_NO_NEW_PRIVS == (int)JAIL_NO_NEW_PRIVS &&
                   SM_JAIL_SECCOMP == (int)JAIL_SECCOMP &&
                   SM_JAIL_CAPABILITIES == (int)JAIL_CAPABILITIES &&
                   SM_JAIL_NAMESPACES == (int)JAIL_NAMESPACES &&
                   SM_JAIL_LANDLOCK == (int)JAIL_LANDLOCK && SM_JAIL_PIDS == (int)JAIL_PIDS,
               "the worker's bits are public");

SM_API int sm_jail_probe(const sm_store *store, unsigned *layers, struct sm_error *err)
{
    *layers = 0;
    char *program = data_find_vmm(store->data_dir);
    if (!program)
        return err_set(err, SM_ENOMEM, "out of memory");
    int rc = worker_probe_jail(program, layers, err);
    *layers &= JAIL_ALL;
    free(program);
    return rc;
}
