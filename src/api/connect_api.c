// SPDX-License-Identifier: Apache-2.0
/* Connections to servers in the guest: the agent's stream, handed to the caller as it is. */
#include <unistd.h>

#include "agent/connect.h"
#include "agent/proto.h"
#include "api/api.h"
#include "base/err.h"

SM_API int sm_vm_connect(sm_vm *vm, uint16_t port, int timeout_ms, int *fd, struct sm_error *err)
{
    *fd = -1;
    if (!port)
        return err_set(err, SM_EINVAL, "port 0 of the guest: nobody can listen there");
    int rc = worker_connect(vm->worker, PROTO_PORT, fd, err);
    if (rc)
        return rc;
    rc = connect_port(*fd, port, timeout_ms, err);
    if (rc) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}
