// SPDX-License-Identifier: Apache-2.0
#include "clone.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server.h"
#include "signals.h"

static void end_vm(void *opaque)
{
    sm_vm_stop(opaque);
}

/* A clone has no command that a signal could go to. */
static void take_signal(void *opaque, int signal)
{
    if (signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT)
        end_vm(opaque);
}

static void show_warning(void *opaque, const char *text)
{
    (void)opaque;
    say("fork: %s", text);
}

/* As an exit code. */
static int wait_end(sm_vm *vm, const char *name)
{
    struct sm_error err = {0};
    int rc = sm_vm_wait(vm, -1, &err);
    enum sm_vm_state state = sm_vm_state(vm);
    if (rc)
        return say("fork: cannot wait for %s: %s", name, err.text);
    if (state == SM_VM_STOPPED || state == SM_VM_POWERED_OFF)
        return 0;
    return say("fork: %s: %s", name,
               state == SM_VM_PANICKED ? "the guest's kernel panicked"
               : state == SM_VM_RESET  ? "the guest rebooted or crashed"
                                       : "the VM's process failed");
}

static int own(struct clone *c, struct record *record, sm_vm *vm, struct signals *signals)
{
    struct signal_target target = {.signal = take_signal, .end = end_vm, .opaque = vm};
    struct server *server;
    int rc = server_start(record, vm, NULL, &server);
    if (rc) {
        record_remove(record);
        return say("fork: cannot take requests for %s: %s", record->name, strerror(rc));
    }
    signals_direct(signals, &target);
    detach_ready(&c->detach, record);
    int code = wait_end(vm, record->name);
    signals_direct(signals, NULL);
    record_end(record, code);
    server_stop(server, code);
    return code;
}

int clone_own(struct clone *c)
{
    struct sm_vm_config config = SM_VM_CONFIG_INIT;
    struct sm_error err = {0};
    struct record record;
    char command[RECORD_NAME_MAX + 16];
    sm_vm *vm;
    struct signals *signals = calloc(1, sizeof *signals); /* its thread's from now on */
    int rc = signals ? signals_start(signals) : ENOMEM;
    if (rc)
        return say("fork: cannot start a thread: %s", strerror(rc));
    snprintf(command, sizeof command, "(fork of %s)", c->of);
    struct record_info info = {.image = c->image_name,
                               .command = command,
                               .created_s = time(NULL),
                               .owner = getpid(),
                               .detached = true,
                               .engine = c->engine};
    int code = record_create(&record, "fork", sm_store_path(c->store), c->name, &info);
    if (code)
        return code;
    config.engine = c->engine;
    config.warning = show_warning;
    rc = sm_vm_start(c->image, &config, &vm, &err);
    if (rc) {
        code = say("fork: cannot start a clone of %s: %s", c->of, err.text);
        record_remove(&record);
    } else {
        code = own(c, &record, vm, signals);
    }
    sm_vm_free(vm);
    record_close(&record);
    return code;
}
