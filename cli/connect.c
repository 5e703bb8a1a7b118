// SPDX-License-Identifier: Apache-2.0
/* The asker's way to a VM's owner. */
#include <errno.h>
#include <string.h>

#include "listener.h"
#include "server.h"

int server_connect(const struct record *r, const char *command)
{
    int code, fd = listener_connect(r);
    if (fd >= 0)
        return fd;
    int rc = errno;
    switch (record_state(r, &code)) {
    case RECORD_STARTING:
        say("%s: %s is still starting", command, r->name);
        break;
    case RECORD_ENDED:
        say("%s: %s has ended, with exit code %d", command, r->name, code);
        break;
    case RECORD_LOST:
        say("%s: %s was lost: the process that ran it was killed", command, r->name);
        break;
    case RECORD_RUNNING:
        say("%s: cannot reach %s: %s", command, r->name, strerror(rc));
    }
    return -1;
}

int server_connect_name(const char *vm, const char *command)
{
    struct record record;
    struct sm_error err = {0};
    sm_store *store;
    if (sm_store_open(NULL, &store, &err)) {
        say("%s: %s", command, err.text);
        return -1;
    }
    int bad = record_open(&record, command, sm_store_path(store), vm);
    sm_store_free(store);
    if (bad)
        return -1;
    int fd = server_connect(&record, command);
    record_close(&record);
    return fd;
}
