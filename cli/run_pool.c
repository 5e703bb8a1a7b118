// SPDX-License-Identifier: Apache-2.0
#include "run_pool.h"

#include <errno.h>
#include <unistd.h>

#include "exec_client.h"
#include "listener.h"
#include "pool_record.h"

/* The socket, or -1 after a message. */
static int connect_to(const char *image)
{
    struct sm_error err = {0};
    struct record r = RECORD_NONE;
    sm_store *store;
    if (sm_store_open(NULL, &store, &err)) {
        say("run: %s", err.text);
        return -1;
    }
    int fd = -1, bad = pool_record_open(&r, "run", store, image);
    sm_store_free(store);
    if (!bad && (fd = listener_connect(&r)) < 0)
        pool_record_unreachable(&r, "run", image, errno);
    record_close(&r);
    return fd;
}

int run_in_pool(const struct run_opts *o, struct signals *signals)
{
    struct exec_client client = {.command = "run",
                                 .whom = o->image,
                                 .opts = &o->command,
                                 .argv = o->args,
                                 .type = WIRE_RUN,
                                 .entrypoint = o->entrypoint,
                                 .timeout_ms = o->timeout_ms,
                                 .fd = connect_to(o->image)};
    if (client.fd < 0)
        return EXIT_OURS;
    int code = exec_client_run(&client, signals);
    close(client.fd);
    return code;
}
