// SPDX-License-Identifier: Apache-2.0
#include "pool_owner.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "get_image.h"
#include "pool_record.h"
#include "pool_server.h"

static void show_warning(void *opaque, const char *text)
{
    (void)opaque;
    say("pool: %s", text);
}

static void take_signal(void *opaque, int signal)
{
    if (signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT)
        pool_server_ask_end(opaque);
}

/* The second of its kind. Every VM ends with this process. */
static void end_now(void *opaque)
{
    (void)opaque;
    _exit(EXIT_OURS);
}

static int serve(struct pool_owner *p, struct record *r, sm_image *image, sm_pool *pool,
                 struct signals *signals)
{
    const struct sm_pool_config *c = &p->config;
    struct pool_server *server;
    int rc = pool_server_start(r, image, pool, c->min, c->max, &server);
    if (rc)
        return say("pool: cannot take requests for %s: %s", p->image, strerror(rc));
    struct signal_target target = {.signal = take_signal, .end = end_now, .opaque = server};
    signals_direct(signals, &target);
    detach_ready(&p->detach, r);
    pool_server_wait(server);
    signals_direct(signals, NULL);
    pool_server_stop(server);
    return 0;
}

static int run_pool(struct pool_owner *p, struct record *r, sm_image *image,
                    struct signals *signals)
{
    struct sm_vm_config vm = SM_VM_CONFIG_INIT;
    struct sm_error err = {0};
    sm_pool *pool;
    machine_opts_fill(&p->machine, &vm);
    vm.warning = show_warning;
    p->config.vm = &vm;
    int code = sm_pool_new(image, &p->config, &pool, &err)
                   ? say("pool: cannot start VMs of %s: %s", p->image, err.text)
                   : serve(p, r, image, pool, signals);
    sm_pool_free(pool);
    return code;
}

static int open_image(struct pool_owner *p, sm_store *store, struct signals *signals,
                      sm_image **image)
{
    struct sm_error err = {0};
    if (get_image(store, p->image, (const char *const *)p->insecure, signals, image, &err) != 0)
        return signals_stop_pull(signals) ? 128 + signals_stop_pull(signals)
                                          : say("pool: %s", err.text);
    if (!sm_image_name(*image)[0])
        return 0;
    char *name = strdup(sm_image_name(*image));
    if (!name)
        return say("pool: out of memory");
    free(p->image);
    p->image = name;
    return 0;
}

int pool_own(struct pool_owner *p)
{
    struct sm_error err = {0};
    struct record r = RECORD_NONE;
    sm_store *store = NULL;
    sm_image *image = NULL;
    struct signals *signals = calloc(1, sizeof *signals); /* its thread's from now on */
    int rc = signals ? signals_start(signals) : -1;
    if (rc)
        return say("pool: cannot start a thread");
    int code = sm_store_open(NULL, &store, &err) ? say("pool: %s", err.text) : 0;
    code = code ? code : open_image(p, store, signals, &image);
    code = code ? code : pool_record_create(&r, sm_store_path(store), p->image);
    if (!code) {
        code = run_pool(p, &r, image, signals);
        record_remove(&r);
        record_close(&r);
    }
    sm_image_free(image);
    sm_store_free(store);
    return code;
}
