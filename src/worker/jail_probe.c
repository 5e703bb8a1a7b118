// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "worker/control.h"
#include "worker/process.h"
#include "worker/worker.h"

int worker_probe_jail(const char *program, unsigned *layers, struct sm_error *err)
{
    char *argv[] = {(char *)program, (char *)CONTROL_PROBE, NULL}, how[128];
    struct process process;
    struct control_msg m = {0};
    int fd = -1;
    *layers = 0;
    int rc = process_start(argv, NULL, 0, &process, err);
    if (rc)
        return rc;
    int n = control_receive(process.control, &m, &fd);
    if (fd >= 0)
        close(fd);
    close(process.control);
    process_reap(&process, how, sizeof how);
    close(process.pidfd);
    if (n != 1 || m.type != CONTROL_READY)
        return err_set(err, SM_EENGINE, "the VM's process %s cannot run: %s", program,
                       how[0] ? how : "it left without a word");
    *layers = m.arg;
    return m.code ? control_get_error(&m, err) : 0;
}
